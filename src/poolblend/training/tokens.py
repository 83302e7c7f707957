"""Texts to token ids, with special tokens that stand in the texts taken as text or as tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from poolblend.errors import UserError


def around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens that the tokenizer puts before and after a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise UserError("the tokenizer changes a text's tokens where it adds special ones to them")


def tokenise(texts: Sequence[str], tokenizer: Any, *, as_text: bool) -> list[list[int]]:
    """Every text's token ids, nothing added and nothing cut.

    With `as_text`, special tokens written within the texts are no such tokens.
    """
    texts = list(texts)
    rows = tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=as_text,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    if as_text:
        special = _special_tokens(tokenizer)
        ids = set(special.values())
        for i, row in enumerate(rows):
            if not ids.isdisjoint(row):
                rows[i] = _spell(texts[i], row, tokenizer, special)
    return rows


def _special_tokens(tokenizer: Any) -> dict[str, int]:
    """The id of each special token but that for what is unknown, which any text may contain."""
    decoder = tokenizer.added_tokens_decoder
    special = {token.content: id for id, token in decoder.items() if token.special}
    return {word: id for word, id in special.items() if word != tokenizer.unk_token}


def _spell(text: str, row: list[int], tokenizer: Any, special: dict[str, int]) -> list[int]:
    """The text's tokens with each special token in it character by character.

    The vocabulary of a Unigram model holds special tokens like any others, and finds them in texts.
    What still comes out as special becomes unknown, or nothing where the tokenizer knows no such.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        words = [text]
        if backend.pre_tokenizer is not None:
            words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        written = re.compile(f"({'|'.join(map(re.escape, special))})")
        pieces = [piece for word in words for piece in written.split(word)]
        parts = [part for piece in pieces for part in (piece if piece in special else [piece])]
        row = [token.id for part in parts if part for token in backend.model.tokenize(part)]
    instead = [] if tokenizer.unk_token_id is None else [tokenizer.unk_token_id]
    forbidden = set(special.values())
    return [id for token in row for id in (instead if token in forbidden else [token])]
