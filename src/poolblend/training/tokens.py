"""Texts to token ids: tokens in the texts, and special tokens around and between them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from poolblend.errors import UserError

T = TypeVar("T")

# Names of special tokens that a template may use with any tokenizer.
GENERIC = {"[SEP]": ("sep_token", "eos_token"), "[CLS]": ("cls_token", "bos_token")}
NOTHING = "(?!)"  # a pattern that matches nowhere


class Frame(NamedTuple):
    """What a tokenizer puts around one text, or around and between two; and their token types."""

    ids: tuple[list[int], ...]  # before the first text, after each
    types: tuple[list[int], ...]
    text_types: tuple[int, ...]  # the type of each text's tokens


def frame(tokenizer: Any, n_texts: int) -> Frame:
    """The tokenizer's frame of one text or of two; UserError where it changes the texts' tokens."""
    texts = ("a", "b")[:n_texts]
    # Requested, because not every tokenizer returns the types of its encoder by default.
    whole = tokenizer(*texts, **({"return_token_type_ids": True} if n_texts > 1 else {}))
    ids = whole["input_ids"]
    types = whole.get("token_type_ids") or [0] * len(ids)
    ends, text_types = [0], []
    for text in texts:
        bare = tokenizer(text, add_special_tokens=False)["input_ids"]
        places = range(ends[-1], len(ids) - len(bare) + 1)
        start = next((at for at in places if ids[at : at + len(bare)] == bare), None)
        if start is None:
            raise UserError("the tokenizer changes a text's tokens where it adds special ones")
        text_types.append(types[start] if bare else 0)
        ends += [start, start + len(bare)]
    gaps = [slice(*gap) for gap in zip(ends[::2], [*ends[1::2], len(ids)], strict=True)]
    return Frame(tuple(ids[g] for g in gaps), tuple(types[g] for g in gaps), tuple(text_types))


def interleave(gaps: Sequence[Sequence[T]], texts: Sequence[Sequence[T]]) -> list[T]:
    """The first gap, then each text and the gap behind it, as one list."""
    row = list(gaps[0])
    for text, gap in zip(texts, gaps[1:], strict=True):
        row += [*text, *gap]
    return row


def separated(n_texts: int, tokenizer: Any) -> list[list[str]]:
    """The special tokens before, between and after texts that its separator joins."""
    separator = tokenizer.sep_token or tokenizer.eos_token
    between = [separator] if separator else []
    return [[], *[between] * (n_texts - 1), []]


def split_template(template: str, tokenizer: Any) -> tuple[list[str], list[list[str]]]:
    """The texts of a template, and the special tokens before, between and after them.

    Besides the tokenizer's own, "[SEP]" is its separator or end, and "[CLS]" its first token or
    beginning, so that one template serves all tokenizers. Raises UserError where it has neither.
    """
    special = {word: word for word in _special_tokens(tokenizer)}
    for word, kinds in GENERIC.items():
        if word in template and word not in special:
            known = [token for kind in kinds if (token := getattr(tokenizer, kind))]
            if not known:
                raise UserError(
                    f"data.text holds {word}, but the tokenizer has no {' and no '.join(kinds)}; "
                    "leave it out for this backbone"
                )
            special[word] = known[0]
    texts: list[str] = []
    between: list[list[str]] = [[]]
    for i, piece in enumerate(_written(special).split(template)):
        if i % 2:
            between[-1].append(special[piece])
        elif piece.strip():
            texts.append(piece)
            between.append([])
    return texts, between


def tokenise(texts: Sequence[str], tokenizer: Any, *, as_text: bool) -> list[list[int]]:
    """Every text's token ids, nothing added and nothing cut.

    With `as_text`, special tokens written within the texts are ordinary text.
    """
    texts = list(texts)
    try:
        rows = tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=as_text,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
    except BaseException as error:
        # A panic in Rust, such as a pattern that fails on a text, is not an Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise UserError(
            f"the tokenizer fails on a text ({error}); correct its patterns or added tokens, "
            "shorten the texts, or choose another backbone"
        ) from None
    if as_text:
        special = _special_tokens(tokenizer)
        ids = set(special.values())
        for i, row in enumerate(rows):
            if not ids.isdisjoint(row):
                rows[i] = _spell(texts[i], row, tokenizer, special)
    return rows


def _special_tokens(tokenizer: Any) -> dict[str, int]:
    """The id of each special token except the unknown token, which any text may contain."""
    decoder = tokenizer.added_tokens_decoder
    special = {token.content: id for id, token in decoder.items() if token.special}
    return {word: id for word, id in special.items() if word != tokenizer.unk_token}


def _written(special: Iterable[str]) -> re.Pattern[str]:
    """Finds each of these words in a text; of two with the same beginning, the longer."""
    longest_first = sorted(special, key=len, reverse=True)
    words = "|".join(map(re.escape, longest_first))
    return re.compile(f"({words or NOTHING})")


def _spell(text: str, row: list[int], tokenizer: Any, special: dict[str, int]) -> list[int]:
    """The text's tokens with each special token in it character by character.

    The vocabulary of a Unigram model holds special tokens like any others, and finds them in texts.
    Remaining special tokens become the unknown token, or nothing where there is none.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        words = [text]
        if backend.pre_tokenizer is not None:
            words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        written = _written(special)
        pieces = [piece for word in words for piece in written.split(word)]
        parts = [part for piece in pieces for part in (piece if piece in special else [piece])]
        row = [token.id for part in parts if part for token in backend.model.tokenize(part)]
    instead = [] if tokenizer.unk_token_id is None else [tokenizer.unk_token_id]
    forbidden = set(special.values())
    return [id for token in row for id in (instead if token in forbidden else [token])]
