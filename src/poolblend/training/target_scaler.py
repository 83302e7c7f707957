"""Standardise target values, so that the learning rate does not depend on their scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class TargetScaler:
    """The mean and the spread of values; both (L,) float64."""

    mean_L: np.ndarray
    spread_L: np.ndarray

    @classmethod
    def fit(cls, values_NL: np.ndarray, weights: np.ndarray) -> TargetScaler:
        """The mean and standard deviation of values with weights (N, 1 or L).

        Where all values are the same, the spread is 1.
        """
        weights_NL = np.broadcast_to(weights, values_NL.shape)
        mean_L = np.average(values_NL, axis=0, weights=weights_NL)
        spread_L = np.sqrt(np.average((values_NL - mean_L) ** 2, axis=0, weights=weights_NL))
        # Equal values may differ from their own mean by its rounding.
        same_L = (values_NL == values_NL[0]).all(axis=0) | (spread_L == 0)
        return cls(mean_L, np.where(same_L, 1.0, spread_L))

    def transform(self, values_NL: np.ndarray) -> np.ndarray:
        """The values, standardised."""
        return (values_NL - self.mean_L) / self.spread_L

    def inverse_transform(self, scaled_NL: np.ndarray) -> np.ndarray:
        """The values that `transform` was given."""
        return scaled_NL * self.spread_L + self.mean_L

    def to_json(self) -> dict[str, list[float]]:
        """As a card holds it."""
        return {"mean": self.mean_L.tolist(), "spread": self.spread_L.tolist()}

    @classmethod
    def from_json(cls, held: Mapping[str, Sequence[float]]) -> TargetScaler:
        """The scaler of which `to_json` returned this."""
        return cls(np.asarray(held["mean"], float), np.asarray(held["spread"], float))
