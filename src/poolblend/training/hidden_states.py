"""Hidden states of an encoder's frozen layers, stored for all rows of a table.

They are flat: token after token, row after row, as the encoder reads them (windows one after
another). Shape legend: S stored tokens, L layers, H hidden, N rows, U rows or
windows of a batch, T their tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolblend.modeling.model import States, TextModel
from poolblend.training.encoding import Encoded
from poolblend.training.prediction import each_batch


@dataclass(frozen=True, eq=False)
class HiddenStates:
    """States of some layers for each row of a table.

    `x_SLH` is float32, or int16 with the bits of bfloat16. Row i has the tokens from
    `starts_N1[i]` to `starts_N1[i + 1]`.
    """

    layers: tuple[int, ...]
    x_SLH: np.ndarray
    starts_N1: np.ndarray

    def of_rows(self, rows: Sequence[int] | np.ndarray, attention_UT: Tensor) -> States:
        """The states of these rows, or of their windows; padding holds zeros."""
        at_S = np.concatenate([np.arange(*self.starts_N1[row : row + 2]) for row in rows])
        x_SLH = torch.from_numpy(self.x_SLH[at_S])
        if x_SLH.dtype == torch.int16:
            x_SLH = x_SLH.view(torch.bfloat16).float()
        x_UTLH = x_SLH.new_zeros(*attention_UT.shape, *x_SLH.shape[1:])
        x_UTLH[attention_UT] = x_SLH
        return States(self.layers, x_UTLH.movedim(2, 0).contiguous())


def starts_of_rows(encoded: Encoded) -> np.ndarray:
    """Where each row's stored tokens start, (N + 1,); the last is the number of all tokens."""
    counts = [
        len(row)
        if encoded.windowing is None or len(row) <= encoded.max_length
        else sum(map(len, encoded.windowing.cut(row)[0]))
        for row in encoded.ids
    ]
    return np.concatenate([[0], np.cumsum(counts)])


def rows_sha256(encoded: Encoded) -> str:
    """Hex digest of all that an encoder reads of the table."""
    hashed = hashlib.sha256(repr((encoded.max_length, encoded.windowing)).encode())
    for rows in (encoded.ids, encoded.types or ()):
        for row in rows:
            hashed.update(row.tobytes() + b"\n")
        hashed.update(b"\n")
    return hashed.hexdigest()


def stored_dtype(precision: str) -> np.dtype[Any]:
    """That of stored states: the bits of bfloat16 where the encoder computes in it."""
    return np.dtype(np.int16 if precision == "bf16" else np.float32)


def compute_states(
    model: TextModel,
    encoded: Encoded,
    layers: tuple[int, ...],
    starts_N1: np.ndarray,
    put: Callable[[int, np.ndarray], None],
    **how: Any,
) -> None:
    """Compute the states of these layers for all rows of `encoded`.

    `put` gets them row by row: the place of the row's first token, and an array (tokens, L, H).
    `how` are arguments of `each_batch`, whose `precision` is resolved. Raises ValueError for states
    that are not finite.
    """
    counts_N = np.diff(starts_N1)

    def take(rows: np.ndarray, states: list[Tensor]) -> None:
        x_SLH = torch.stack(states, dim=1).float().cpu()
        if not x_SLH.isfinite().all():
            raise ValueError("the encoder's hidden states are not finite")
        if how["precision"] == "bf16":
            x_SLH = x_SLH.to(torch.bfloat16).view(torch.int16)
        ends = np.cumsum(counts_N[rows])
        for row, end in zip(rows, ends, strict=True):
            put(int(starts_N1[row]), x_SLH[end - counts_N[row] : end].numpy())

    everything = np.arange(len(encoded.ids))
    each_batch(
        model, encoded, everything, lambda batch: model.token_states(batch, layers), take, **how
    )
