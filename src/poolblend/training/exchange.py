"""What becomes of outputs where columns of a row change places.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Exchange(NamedTuple):
    """What outputs (N, K), or targets, become where columns of the rows change places."""

    places: tuple[int, ...] | None = None  # of the outputs before; None: they stay
    flips: bool = False  # one output becomes its complement

    def __call__(self, x_NK: np.ndarray) -> np.ndarray:
        if self.flips:
            return 1 - x_NK
        return x_NK if self.places is None else x_NK[:, list(self.places)]

    def mean(self, x_NK: np.ndarray) -> np.ndarray:
        """The mean over both orders, of which the second half of the rows is the other one."""
        first, second = np.split(x_NK, 2)
        return (first + self(second)) / 2
