"""Read a backbone's tokenizer exactly as its files describe it, and save it beside a model.

transformers 5 rebuilds many tokenizers from their vocabulary and class alone, and loses the other
settings in the files. The model was trained with these settings.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from poolblend.errors import UserError
from poolblend.modeling.sentencepieces import NAMES, correct, model_file
from poolblend.modeling.trust import inspect, readable

FILE = "tokenizer.json"
# Beside the vocabulary, whose files each class of tokenizers names in its own way.
SETTINGS = ("tokenizer*.json", "special_tokens_map.json", "added_tokens.json")
# What a text's ids depend on; the decoder is not among them.
PARTS = ("normalizer", "pre_tokenizer", "model", "post_processor")
SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def read_tokenizer(folder: Path, remote_code: bool) -> Any:
    """The tokenizer in `folder`; UserError where there is none, or one without words."""
    return tokenizer_and_source(folder, remote_code)[0]


def tokenizer_source(folder: Path, remote_code: bool) -> str | None:
    """The file from which the tokenizer is read because transformers would build another one.

    Raises UserError where there is no tokenizer that can be read.
    """
    with readable(folder, remote_code):
        return tokenizer_and_source(folder, remote_code)[1]


def tokenizer_and_source(folder: Path, remote_code: bool) -> tuple[Any, str | None]:
    """The tokenizer, and the file as returned by `tokenizer_source`.

    Raises UserError as `read_tokenizer` does.
    """
    tokenizer, source = _as_in_files(build_tokenizer(folder, remote_code), folder)
    # Without files, transformers silently makes a tokenizer without words.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise UserError(f"{folder} holds no tokenizer; save it beside the weights")
    return tokenizer, source


def build_tokenizer(folder: Path, remote_code: bool) -> Any:
    """The folder's tokenizer as transformers builds it, which may differ from the files there.

    Where its class cannot be made of what tokenizer.json holds, that file alone is read.
    """
    try:
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=remote_code
        )
    except Exception:  # of many libraries
        if remote_code or not (folder / FILE).is_file():
            raise
        return _from_file(folder)


def _from_file(folder: Path) -> Any:
    return PreTrainedTokenizerFast.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )


def _as_in_files(built: Any, folder: Path) -> tuple[Any, str | None]:
    """The tokenizer as the files describe it, and the file that corrects `built`; else None.

    `tokenizer.json` decides; without it, a sentencepiece model does. Tokenizers in Python, from
    transformers or the folder, read their files themselves.
    """
    if not built.is_fast or built._auto_class is not None:
        return built, None
    if not (folder / FILE).is_file():
        model = model_file(folder)
        return built, model.name if model is not None and correct(built, model) else None
    if type(built) is PreTrainedTokenizerFast:
        return built, None
    filed = _from_file(folder)
    if _parts(built) == _parts(filed):
        return built, None
    # Older folders leave the names of special tokens to the class.
    for name in (f"{kind}_token" for kind in SPECIAL):
        token = getattr(built, name)
        if getattr(filed, name) is None and token in filed.get_vocab():
            setattr(filed, name, token)
    filed.model_input_names = built.model_input_names
    return filed, FILE


def _parts(tokenizer: Any) -> list[Any]:
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return [content[part] for part in PARTS]


def added_tokens(tokenizer: Any) -> list[str]:
    """Tokens that a user added and that are spelled out where special tokens are text.

    The longest come first. The tokenizer's own, such as the separator, are not among them.
    """
    named = {getattr(tokenizer, f"{kind}_token") for kind in SPECIAL}
    added = [token.content for token in tokenizer.added_tokens_decoder.values()]
    spelled = {token for token in added if token not in named and _is_spelled(token, tokenizer)}
    return sorted(spelled, key=lambda token: (-len(token), token))


def _is_spelled(token: str, tokenizer: Any) -> bool:
    id = tokenizer.convert_tokens_to_ids(token)
    as_token, as_text = (
        tokenizer(token, add_special_tokens=False, split_special_tokens=split)["input_ids"]
        for split in (False, True)
    )
    return id in as_token and id not in as_text


class Kept(NamedTuple):
    """The tokenizer that was read from `folder`, as a part of a model's folder."""

    tokenizer: Any
    folder: Path
    remote_code: bool = False

    def save_pretrained(self, folder: str) -> None:
        """Copy the files that the tokenizer was read from, or save it as `tokenizer.json`.

        transformers cannot always read what it saves (BERTweet's tokenizer), so files are copied.
        But its versions read `vocab.txt` or `spm.model` differently: these tokenizers are saved.
        """
        own_code = self.tokenizer._auto_class is not None
        if self.tokenizer.is_fast and not own_code and not (self.folder / FILE).is_file():
            # Some classes store the path of their source file; it must not leave the folder.
            for name in [name for name in self.tokenizer.init_kwargs if name.endswith("_file")]:
                del self.tokenizer.init_kwargs[name]
            self.tokenizer.save_pretrained(folder)
            return
        named = (*SETTINGS, *NAMES, *self.tokenizer.vocab_files_names.values())
        for pattern in (*named, "*.py") if own_code else named:
            for file in self.folder.glob(pattern):
                if not (Path(folder) / file.name).exists():
                    shutil.copyfile(file, Path(folder) / file.name)


def check_survives_saving(
    kept: Kept, config: Any, ids: Callable[[Any], Sequence[Sequence[int]]]
) -> None:
    """Raise UserError where the tokenizer, saved beside a model and read again, gives other ids.

    `config` is the encoder's, which is saved beside it; `ids` gives those of the run's texts by a
    tokenizer.
    """
    with TemporaryDirectory() as place:
        config.save_pretrained(place)
        kept.save_pretrained(place)
        if not kept.remote_code:  # else the log would say of each folder that code is run
            inspect(Path(place))
        before, after = ids(kept.tokenizer), ids(read_tokenizer(Path(place), kept.remote_code))
    n_other = sum(list(a) != list(b) for a, b in zip(before, after, strict=True))
    if n_other:
        kind = type(kept.tokenizer).__name__
        raise UserError(
            f"{kept.folder}: its tokenizer ({kind}), saved and read again, gives other tokens for "
            f"{n_other} of {len(before)} texts; put a tokenizer.json beside the weights, or choose "
            "another backbone"
        )
