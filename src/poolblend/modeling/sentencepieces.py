"""Compare a tokenizer with the sentencepiece model in its folder, and correct it where they differ.

transformers 5 builds many of them from the model's vocabulary alone, without its normaliser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sentencepiece import SentencePieceProcessor
from tokenizers import Regex, models, normalizers, pre_tokenizers
from transformers.convert_slow_tokenizer import generate_merges, import_protobuf

NAMES = (
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "tokenizer.model",  # which may be of another kind
)
SPACE = "▁"
BPE = 2  # among the kinds of model that a file may be of
# Texts that two different tokenizers are likely to read differently.
PROBES = (
    "The lovely Magnetic house, in 2024: “quoted” — and more…",
    "café naïve Ünïcode no\u00a0break ﬁne ＦＵＬＬ \u0e01\u0e33",
    "☃ 東京 😀 unknown",
    " two  spaces\nnew\tline ",
    "I can't @user #tag https://example.org/a?b=c",
)


class Parts(NamedTuple):
    """The parts of a tokenizer that turn a text into ids."""

    normalizer: Any
    pre_tokenizer: Any
    model: Any


def model_file(folder: Path) -> Path | None:
    """The sentencepiece model in `folder`; None where there is none."""
    for path in (folder / name for name in NAMES):
        if path.is_file():
            try:
                SentencePieceProcessor(model_file=str(path))
            except (OSError, RuntimeError):  # tiktoken's files have the same name
                continue
            return path
    return None


def correct(built: Any, path: Path) -> bool:
    """Change the tokenizer that transformers `built` to read as the model at `path`; False if not.

    Its ids stay. It is left unchanged if the settings in the model's file do not reduce the
    differences.
    """
    backend = built.backend_tokenizer
    n_differing = len(differing(built, path, PROBES))
    if not n_differing:
        return False
    own = Parts(backend.normalizer, backend.pre_tokenizer, backend.model)
    _set(built, _described(built, path))
    if len(differing(built, path, PROBES)) < n_differing:
        return True
    _set(built, own)
    return False


def _set(tokenizer: Any, parts: Parts) -> None:
    for name, part in parts._asdict().items():
        setattr(tokenizer.backend_tokenizer, name, part)


def _described(built: Any, path: Path) -> Parts:
    """The parts by the settings in the model's file; words keep the ids that `built` gives."""
    proto = import_protobuf().ModelProto()
    proto.ParseFromString(path.read_bytes())
    how = proto.normalizer_spec
    steps = _before(built)
    if how.precompiled_charsmap:
        steps.append(normalizers.Precompiled(how.precompiled_charsmap))
    words = None
    if how.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
        words = pre_tokenizers.Metaspace(
            SPACE,
            "always" if how.add_dummy_prefix else "never",
            split=proto.trainer_spec.split_by_whitespace,
        )
    else:  # Metaspace would add no space to a text that begins with one
        steps += [normalizers.Prepend(SPACE)] * how.add_dummy_prefix
        steps.append(normalizers.Replace(" ", SPACE))
    return Parts(normalizers.Sequence(steps), words, _model(built, proto))


def _model(built: Any, proto: Any) -> Any:
    """The model of the file's kind; unknown characters become bytes where it was trained so."""
    trained = proto.trainer_spec
    own = json.loads(built.backend_tokenizer.to_str())["model"]["vocab"]
    scores = {piece.piece: piece.score for piece in proto.pieces}
    # Unigram models list words with their scores, which the class may have changed.
    words = (
        own
        if isinstance(own, list)
        else [(w, scores.get(w, 0.0)) for w in sorted(own, key=own.get)]
    )
    if trained.model_type == BPE:
        vocab = {word: i for i, (word, _) in enumerate(words)}
        return models.BPE(
            vocab,
            generate_merges(vocab, {word: scores[word] for word in vocab if word in scores}),
            unk_token=built.unk_token or trained.unk_piece,
            fuse_unk=True,
            byte_fallback=trained.byte_fallback,
        )
    unknown = trained.unk_id if built.unk_token_id is None else built.unk_token_id
    return models.Unigram([(w, score) for w, score in words], unknown, trained.byte_fallback)


def _before(built: Any) -> list[Any]:
    """Steps that the code of some classes, such as ALBERT's, does before sentencepiece."""
    steps: list[Any] = []
    if hasattr(built, "keep_accents"):
        steps += [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        if not built.keep_accents:
            steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if getattr(built, "do_lower_case", False):
        steps.append(normalizers.Lowercase())
    return steps


def differing(
    tokenizer: Any, path: Path, texts: Sequence[str], built: Any = None
) -> list[tuple[str, int, int]]:
    """Texts that tokenizer and sentencepiece model read differently: text, their count, ours.

    Counts are numbers of tokens. `built` has the settings of the tokenizer's class, where that
    is another tokenizer. Texts with added tokens are left out, and numbers before a comma, which
    the Python code of some classes, such as ALBERT's, cuts in its own way.
    """
    settings = tokenizer if built is None else built
    before = normalizers.Sequence(_before(settings))
    patterns = [re.escape(token) for token in tokenizer.added_tokens_encoder]
    if hasattr(settings, "keep_accents"):
        patterns.append(r"\d,")
    left_out = re.compile("|".join(patterns) or "(?!)")
    texts = [text for text in texts if not left_out.search(text)]
    if not texts:
        return []
    found = tokenizer(texts, add_special_tokens=False)["input_ids"]
    processor = SentencePieceProcessor(model_file=str(path))
    prepared = [before.normalize_str(text) for text in texts]
    ids, pieces = (processor.encode(prepared, out_type=kind) for kind in (int, str))
    unknown = processor.unk_id()
    expected = [
        [tokenizer.unk_token if id == unknown else piece for id, piece in zip(*row, strict=True)]
        for row in zip(ids, pieces, strict=True)
    ]
    return [
        (text, len(theirs), len(ours))
        for text, theirs, ours in zip(texts, expected, found, strict=True)
        if tokenizer.convert_ids_to_tokens(ours) != theirs
    ]
