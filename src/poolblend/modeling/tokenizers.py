"""A backbone's tokenizer: read as its files describe it, and kept beside a model unchanged.

transformers 5 rebuilds many tokenizers from their vocabulary alone, by the class that a folder
names, and loses what the files say besides. The files are what the model was trained with.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerFast

from poolblend.errors import UserError
from poolblend.modeling.sentencepieces import PROBES, mend, model_file

FILE, CONFIG = "tokenizer.json", "config.json"
# Beside the vocabulary, which each class of tokenizers names in its own way.
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# What a text's ids depend on; the decoder is not among them.
PARTS = ("normalizer", "pre_tokenizer", "model", "post_processor")
NAMED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")

Read = Callable[[Path], Any]


def as_in_files(built: Any, folder: Path) -> tuple[Any, str | None]:
    """The tokenizer of `folder` as its files describe it, and the file that corrects `built`.

    `built` is what transformers makes of the folder; it is returned, with None, where it is right.
    `tokenizer.json` is taken as it is. Without one, a sentencepiece model is. Tokenizers that are
    Python code, of transformers or of the folder, read their files themselves.
    """
    if not built.is_fast or built._auto_class is not None:
        return built, None
    if not (folder / FILE).is_file():
        model = model_file(folder)
        return built, model.name if model is not None and mend(built, model) else None
    if type(built) is PreTrainedTokenizerFast:
        return built, None
    filed = PreTrainedTokenizerFast.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    if _parts(built) == _parts(filed):
        return built, None
    # Older folders leave the names of special tokens to the class.
    for name in (f"{kind}_token" for kind in NAMED):
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
    named = {getattr(tokenizer, f"{kind}_token") for kind in NAMED}
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
    read: Read  # a folder's tokenizer

    def save_pretrained(self, folder: str) -> None:
        """Save the tokenizer, or copy its own files: the first that reads the same when read again.

        The encoder's configuration, and code that comes with it, have to be there already.
        """
        # What tokenizers in Python write is not always what they read (BERTweet's).
        ways = [self._save, self._copy]
        if not self.tokenizer.is_fast:
            ways.reverse()
        for way in ways:
            with TemporaryDirectory() as place:
                tried = Path(place)
                for file in (Path(folder) / CONFIG, *Path(folder).glob("*.py")):
                    shutil.copy(file, tried)
                way(tried)
                if self._reads_the_same(tried):
                    way(Path(folder))
                    return
        # Before a training `check_survives_saving` refuses a tokenizer of which this is reached.
        ways[0](Path(folder))

    def _save(self, folder: Path) -> None:
        # Some classes write the path of a file that they were read from, and none may lead out.
        for name in [name for name in self.tokenizer.init_kwargs if name.endswith("_file")]:
            del self.tokenizer.init_kwargs[name]
        self.tokenizer.save_pretrained(str(folder))

    def _copy(self, folder: Path) -> None:
        for name in (*SETTINGS, FILE, *self.tokenizer.vocab_files_names.values()):
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)

    def _reads_the_same(self, folder: Path) -> bool:
        try:
            again = self.read(folder)
        except Exception:  # of many libraries; the other way may do
            return False
        return all(_ids(again, text) == _ids(self.tokenizer, text) for text in PROBES)


def _ids(tokenizer: Any, text: str) -> list[int] | None:
    """The text's ids; None where the tokenizer fails on it: the run's texts may be other."""
    try:
        ids: list[int] = tokenizer(text)["input_ids"]
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust, which is no Exception
            raise
        return None
    return ids


def check_survives_saving(
    kept: Kept, config: Any, ids: Callable[[Any], Sequence[Sequence[int]]]
) -> None:
    """Raise UserError where the tokenizer, saved as with a model and read again, gives other ids.

    `config` is the encoder's, which is saved beside it; `ids` gives those of the run's texts by a
    tokenizer.
    """
    with TemporaryDirectory() as place:
        folder = Path(place)
        config.save_pretrained(place)
        for file in kept.folder.glob("*.py"):
            shutil.copy(file, folder)
        kept.save_pretrained(place)
        before, after = ids(kept.tokenizer), ids(kept.read(folder))
    n_other = sum(list(a) != list(b) for a, b in zip(before, after, strict=True))
    if n_other:
        kind = type(kept.tokenizer).__name__
        raise UserError(
            f"{kept.folder}: its tokenizer ({kind}), saved and read again, gives other tokens for "
            f"{n_other} of {len(before)} texts; put a tokenizer.json beside the weights, or take "
            "another backbone"
        )
