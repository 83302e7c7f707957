"""Read a batch in several passes: each of bounded size, or of rows of equal length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class Pass(NamedTuple):
    """Rows that are read together, and the columns that hold their tokens."""

    rows: Tensor
    columns: slice


def passes_of(attention_BT: Tensor, *, most: int, equal: bool) -> list[Pass]:
    """Each row in one pass of at most `most` rows; with `equal`, no row of a pass has padding."""
    n_rows, width = attention_BT.shape
    if not equal:
        rows = torch.arange(n_rows, device=attention_BT.device)
        return [Pass(some, slice(width)) for some in rows.split(most)]
    return [
        Pass(some, slice(start, start + length))
        for start, length, rows in _equally_long(attention_BT)
        for some in rows.split(most)
    ]


def _equally_long(attention_BT: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Groups of rows whose tokens are in the same columns: first column, number, rows."""
    first_B = attention_BT.long().argmax(dim=1)
    place_B2 = torch.stack([first_B, attention_BT.sum(dim=1)], dim=1)
    for start, length in place_B2.unique(dim=0).tolist():
        found_B = (place_B2 == place_B2.new_tensor([start, length])).all(dim=1)
        yield start, length, found_B.nonzero().squeeze(1)


def read_in_passes(
    read: Callable[..., tuple[Tensor, ...]],
    passes: Sequence[Pass],
    *inputs_BT: Tensor | None,
    recompute: bool,
) -> tuple[Tensor, ...]:
    """The outputs of `read` for all rows, each (B, T, H); padding becomes zeros.

    With `recompute`, activations within a pass are not kept for the gradients but computed again.
    """
    width = next(x_BT.shape[1] for x_BT in inputs_BT if x_BT is not None)
    parts: list[list[Tensor]] = []
    for rows, columns in passes:
        some = [None if x_BT is None else x_BT[rows, columns] for x_BT in inputs_BT]
        states = checkpoint(read, *some, use_reentrant=False) if recompute else read(*some)
        around = (0, 0, columns.start or 0, width - columns.stop)
        parts.append([F.pad(x_BTH, around) for x_BTH in states])
    back_B = torch.cat([rows for rows, _ in passes]).argsort()
    return tuple(torch.cat(layer)[back_B] for layer in zip(*parts, strict=True))
