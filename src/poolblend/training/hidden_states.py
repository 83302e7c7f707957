"""Hidden states of an encoder's frozen layers, stored for all rows of a table.

They are flat: token after token, row after row, as the encoder reads them (windows one after
another). Shape legend: S stored tokens, L layers, H hidden, N rows, U rows or
windows of a batch, T their tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poolblend.modeling.model import States


@dataclass(frozen=True, eq=False)
class HiddenStates:
    """States of some layers for each row of a table.

    `x_SLH` is float32, or int16 with the bits of bfloat16. Row i has the tokens from
    `starts_N1[i]` to `starts_N1[i + 1]`. They are the same states where `fingerprint` is the same;
    to compute them took `seconds`, None if unknown.
    """

    layers: tuple[int, ...]
    x_SLH: np.ndarray
    starts_N1: np.ndarray
    fingerprint: str = ""
    seconds: float | None = None

    def of_rows(self, rows: Sequence[int] | np.ndarray, attention_UT: Tensor) -> States:
        """The states of these rows, or of their windows; padding holds zeros."""
        at_S = np.concatenate([np.arange(*self.starts_N1[row : row + 2]) for row in rows])
        x_SLH = torch.from_numpy(self.x_SLH[at_S])
        if x_SLH.dtype == torch.int16:
            x_SLH = x_SLH.view(torch.bfloat16).float()
        x_UTLH = x_SLH.new_zeros(*attention_UT.shape, *x_SLH.shape[1:])
        x_UTLH[attention_UT] = x_SLH
        return States(self.layers, x_UTLH.movedim(2, 0).contiguous())


def stored_dtype(precision: str) -> np.dtype[Any]:
    """That of stored states: the bits of bfloat16 where the encoder computes in it."""
    return np.dtype(np.int16 if precision == "bf16" else np.float32)
