"""Tokenise once, batch rows of similar length, pad each batch to its own longest row.

Shapes: F extra columns, W windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from poolblend.modeling.model import Batch, Windows
from poolblend.training.encoding import Encoded, concatenated, encode

__all__ = [
    "Encoded",
    "collate",
    "concatenated",
    "encode",
    "padded_tokens",
    "padding_share",
    "plan_steps",
    "prediction_batches",
    "to_device",
    "training_batches",
    "with_states",
]

# Rows sorted together: enough for little padding, few enough for random batches in a large table. A
# small table is one pool, whose batches are similar in every epoch; three pools are not better
# (docs/results.md).
BATCHES_PER_POOL = 50

Rows = TypeVar("Rows")


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


def plan_steps(
    lengths_N: np.ndarray, epochs: int, batch_size: int, accumulation: int, seed: int
) -> list[list[list[np.ndarray]]]:
    """Of each epoch its optimizer steps, and of each step its `accumulation` batches of rows."""
    generator = np.random.default_rng(seed)
    plan = [training_batches(lengths_N, batch_size, generator) for _ in range(epochs)]
    return [
        [batches[i : i + accumulation] for i in range(0, len(batches), accumulation)]
        for batches in plan
    ]


def prediction_batches(lengths_N: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Every row once, longest first, each batch at most `batch_tokens` tokens, padding included.

    A longer row is a batch by itself. Longest first, so that a batch that is too large for the
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


def collate(
    encoded: Encoded,
    rows: Sequence[int] | np.ndarray,
    *,
    full_width: bool = False,
    window_tokens: int | None = None,
) -> Batch:
    """The rows as padded tensors; `full_width` pads them to the maximum length, not the longest.

    Where one row's windows hold more than `window_tokens` tokens, the encoder reads the batch's
    windows in passes of at most this size. Raises ValueError for windows with full width.
    """
    if full_width and encoded.windowing is not None:
        raise ValueError("full width does not go with windows")
    ids = [encoded.ids[row] for row in rows]
    width = encoded.max_length if full_width else max(map(len, ids))
    left, types, columns_NF = encoded.pad_left, encoded.types, encoded.columns_NF
    attention_BT = _padded([np.ones(len(row), dtype=bool) for row in ids], width, False, left)
    windows = _windows(encoded, ids, width, window_tokens)
    batch = Batch(
        _padded(ids, width, encoded.pad_id, left),
        attention_BT,
        _padded([encoded.content[row] for row in rows], width, False, left),
        None if types is None else _padded([types[row] for row in rows], width, 0, left),
        None if columns_NF is None else torch.from_numpy(columns_NF[np.asarray(rows)]),
        windows,
        padded=min(map(len, ids)) < width,
    )
    return with_states(batch, encoded, rows)


def with_states(batch: Batch, encoded: Encoded, rows: Sequence[int] | np.ndarray) -> Batch:
    """The batch of these rows with their stored hidden states, where `encoded` has any."""
    if encoded.states is None:
        return batch
    read_UT = batch.attention_BT if batch.windows is None else batch.windows.attention_WT
    return batch._replace(states=encoded.states.of_rows(rows, read_UT))


def to_device(rows: Rows, device: torch.device) -> Rows:
    """A batch, or a tuple that holds one, on the device; a GPU fetches it while it computes."""
    if isinstance(rows, Tensor):
        # A copy from memory that is not pinned waits for the GPU.
        held = rows.pin_memory() if device.type == "cuda" else rows
        return cast(Rows, held.to(device, non_blocking=True))
    if isinstance(rows, tuple) and hasattr(rows, "_fields"):
        return type(rows)(*(to_device(part, device) for part in rows))
    return rows


def _windows(
    encoded: Encoded, rows: list[np.ndarray], width: int, window_tokens: int | None
) -> Windows | None:
    """The rows' windows, where any of them needs more than one."""
    if encoded.windowing is None or width <= encoded.max_length:
        return None
    cut = [encoded.windowing.cut(row) for row in rows]
    ids = [window for windows, _, _ in cut for window in windows]
    longest = max(map(len, ids))
    first, at = 0, []
    for windows, window_T, place_T in cut:
        lengths_W = np.array([len(window) for window in windows])
        # With padding on the left, a window's tokens begin after it.
        shift_W = longest - lengths_W if encoded.pad_left else np.zeros_like(lengths_W)
        at.append((first + window_T) * longest + shift_W[window_T] + place_T)
        first += len(windows)
    most = None  # windows in a pass, where one row's windows do not fit into one
    largest = longest * max(len(windows) for windows, _, _ in cut)
    if window_tokens is not None and largest > window_tokens:
        most = max(1, window_tokens // longest)
    return Windows(
        _padded(ids, longest, encoded.pad_id, encoded.pad_left),
        _padded(
            [np.ones(len(ids_T), dtype=bool) for ids_T in ids], longest, False, encoded.pad_left
        ),
        # Padding may be read from any token, since it does not count.
        _padded(at, width, 0, encoded.pad_left),
        most,
        padded=min(map(len, ids)) < longest,
    )


def _padded(rows: Sequence[np.ndarray], width: int, fill: int | bool, left: bool) -> Tensor:
    """The rows as one tensor of int64, or of bool where `fill` is, filled up to `width`."""
    padded = np.full((len(rows), width), fill)
    for i, row in enumerate(rows):
        padded[i, width - len(row) if left else 0 :][: len(row)] = row
    return torch.from_numpy(padded)


def padding_share(
    lengths_N: np.ndarray, batches: Sequence[np.ndarray], max_length: int | None = None
) -> float:
    """Share of the tokens in these batches that is padding.

    With windows, `max_length` is that of one, and rows of several have a multiple of it.
    """
    padded = sum(padded_tokens(lengths_N[batch], max_length) for batch in batches)
    return 1 - float(lengths_N.sum()) / padded


def padded_tokens(lengths_B: np.ndarray, max_length: int | None = None) -> int:
    """How many tokens the model reads of a batch of these rows, padding included."""
    width = min(int(lengths_B.max()), max_length or int(lengths_B.max()))
    return int((-(-lengths_B // width)).sum()) * width
