"""The unit that values are learned in: with theirs, a learning rate would suit one scale alone.

Legend: N rows, L logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Unit:
    """Values as steps of `spread_L` from `mean_L`; both (L,) float64."""

    mean_L: np.ndarray
    spread_L: np.ndarray

    @classmethod
    def of(cls, values_NL: np.ndarray, weights: np.ndarray) -> Unit:
        """The mean and standard deviation of values with weights (N, 1 or L).

        Where all are the same, so that there is nothing to learn, the spread is 1.
        """
        weights_NL = np.broadcast_to(weights, values_NL.shape)
        mean_L = np.average(values_NL, axis=0, weights=weights_NL)
        spread_L = np.sqrt(np.average((values_NL - mean_L) ** 2, axis=0, weights=weights_NL))
        # Equal values may differ from their own mean by its rounding.
        same_L = (values_NL == values_NL[0]).all(axis=0) | (spread_L == 0)
        return cls(mean_L, np.where(same_L, 1.0, spread_L))

    def count(self, values_NL: np.ndarray) -> np.ndarray:
        """The values in this unit."""
        return (values_NL - self.mean_L) / self.spread_L

    def restore(self, counted_NL: np.ndarray) -> np.ndarray:
        """The values that `count` was given."""
        return counted_NL * self.spread_L + self.mean_L

    def to_json(self) -> dict[str, list[float]]:
        """As a card holds it."""
        return {"mean": self.mean_L.tolist(), "spread": self.spread_L.tolist()}

    @classmethod
    def from_json(cls, told: Mapping[str, Sequence[float]]) -> Unit:
        """The unit that `to_json` told."""
        return cls(np.asarray(told["mean"], float), np.asarray(told["spread"], float))
