"""Tokenise once, batch rows of similar length, pad each batch to its own longest row.

Shape legend: B batch, T tokens, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from poolblend.errors import UserError
from poolblend.modeling.model import Batch
from poolblend.training.tokens import around, tokenise

SpecialTokens = Literal["text", "tokens"]

# Rows sorted together: large enough that batches hardly pad, small enough that they stay random.
BATCHES_PER_POOL = 50


@dataclass(frozen=True)
class Encoded:
    """A table's texts as token ids, in the table's order."""

    ids: tuple[np.ndarray, ...]  # per row (T,) int32
    content: tuple[np.ndarray, ...]  # per row (T,) bool: the text's own tokens, not special ones
    n_truncated: int
    pad_id: int
    pad_left: bool
    max_length: int

    @property
    def lengths_N(self) -> np.ndarray:
        return np.array([len(row) for row in self.ids], dtype=np.int64)


def encode(
    columns: Sequence[Sequence[str]],
    tokenizer: Any,
    max_length: int,
    *,
    special_tokens: SpecialTokens = "text",
) -> Encoded:
    """Token ids of every row's texts, one list of texts per column, cut at `max_length`.

    Around them stands what the tokenizer puts around a text, between columns its separator. A
    special token written within a text, such as "[SEP]", is text like any other; with
    `special_tokens` "tokens" it is that token. Raises UserError where `max_length` leaves no room.
    """
    as_text = special_tokens == "text"
    separator = tokenizer.sep_token or tokenizer.eos_token or ""
    if not as_text:
        columns = [[f" {separator} ".join(texts) for texts in zip(*columns, strict=True)]]
    between = [tokenizer.convert_tokens_to_ids(separator)] if separator else []
    before, after = around(tokenizer)
    room = max_length - len(before) - len(after)
    if room < 1:
        raise UserError(f"max_length is {max_length}: no room beside the tokenizer's own tokens")
    kept = slice(-room, None) if tokenizer.truncation_side == "left" else slice(room)
    # A tokenizer that adds no special tokens makes nothing of an empty text: one padding token then
    # stands for it, so that there is something to pool.
    pad_id = tokenizer.pad_token_id or 0
    ids, content, n_truncated = [], [], 0
    tokenised = [tokenise(column, tokenizer, as_text=as_text) for column in columns]
    for texts in zip(*tokenised, strict=True):
        row, own = _join(texts, between)
        n_truncated += len(row) > room
        row, own = row[kept], own[kept]
        if not as_text:
            own = [id not in between for id in row]
        ids.append(np.array([*before, *row, *after] or [pad_id], dtype=np.int32))
        content.append(np.zeros(len(ids[-1]), dtype=bool))
        content[-1][len(before) : len(before) + len(own)] = own
    return Encoded(
        ids=tuple(ids),
        content=tuple(content),
        n_truncated=n_truncated,
        pad_id=pad_id,
        pad_left=tokenizer.padding_side == "left",
        max_length=max_length,
    )


def _join(texts: Sequence[list[int]], between: list[int]) -> tuple[list[int], list[bool]]:
    """One row's texts with `between` between them, and which of its tokens are the texts' own."""
    row, own = list(texts[0]), [True] * len(texts[0])
    for text in texts[1:]:
        row += [*between, *text]
        own += [False] * len(between) + [True] * len(text)
    return row, own


def training_batches(
    lengths_N: np.ndarray, batch_size: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Every row once, in random batches of similar length; a lone last row joins the batch before.

    Rows are shuffled, sorted by length within pools of many batches, cut, and the batches shuffled.
    """
    order = generator.permutation(len(lengths_N))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), batch_size * BATCHES_PER_POOL):
        pool = order[start : start + batch_size * BATCHES_PER_POOL]
        pool = pool[np.argsort(lengths_N[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:  # batch normalisation needs two rows
        batches[-2:] = [np.concatenate(batches[-2:])]
    return [batches[i] for i in generator.permutation(len(batches))]


def prediction_batches(lengths_N: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Every row once, longest first, each batch at most `batch_tokens` tokens, padding included.

    A row longer than that is a batch of its own. Longest first, so that a batch too large for the
    memory fails at once.
    """
    batches: list[np.ndarray] = []
    order = np.argsort(-lengths_N, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // max(1, int(lengths_N[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def collate(encoded: Encoded, rows: np.ndarray, *, full_width: bool = False) -> Batch:
    """The rows as padded tensors; `full_width` pads them to the maximum length, not the longest."""
    width = encoded.max_length if full_width else max(len(encoded.ids[row]) for row in rows)
    ids = np.full((len(rows), width), encoded.pad_id, dtype=np.int64)
    attention = np.zeros((len(rows), width), dtype=bool)
    content = np.zeros((len(rows), width), dtype=bool)
    for i, row in enumerate(rows):
        length = len(encoded.ids[row])
        at = slice(width - length, width) if encoded.pad_left else slice(0, length)
        ids[i, at], attention[i, at], content[i, at] = encoded.ids[row], True, encoded.content[row]
    return Batch(torch.from_numpy(ids), torch.from_numpy(attention), torch.from_numpy(content))


def padding_share(lengths_N: np.ndarray, batches: Sequence[np.ndarray]) -> float:
    """Share of the tokens in these batches that is padding."""
    padded = sum(int(lengths_N[batch].max()) * len(batch) for batch in batches)
    return 1 - float(lengths_N.sum()) / padded
