"""A fitted blend: how members' predictions become one prediction, and labels.

Legend: M members, N rows, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from poolblend.ensembling.problem import mix
from poolblend.ensembling.spaces import SPACES, Space


@dataclass(frozen=True, eq=False)
class Mixture:
    """Weights per member and output, the space they hold in, an intercept, and decision cuts.

    `cuts` are thresholds or ordinal cut points, None for the task's own. It is what a blend card
    keeps, and all that predicting needs.
    """

    space: Space
    weights_MK: np.ndarray
    intercept_K: np.ndarray
    cuts: np.ndarray | None = None

    def apply(self, pred_MNK: np.ndarray) -> np.ndarray:
        """The blended predictions, (N, K)."""
        z_MNK = self.space.forward(pred_MNK)
        weights_MK = self.weights_MK
        if (weights_MK == weights_MK[:, :1]).all():
            mixed_NK = mix(weights_MK[:, 0], z_MNK)
        else:
            mixed_NK = np.einsum("mk,mnk->nk", weights_MK, z_MNK)
        return self.space.inverse(mixed_NK + self.intercept_K)

    def only(self, kept_M: np.ndarray) -> Mixture:
        """The same mixture for predictions of some members; the others must have no weight."""
        quantiles = self.space.quantiles_MKQ
        space = replace(self.space, quantiles_MKQ=None if quantiles is None else quantiles[kept_M])
        return replace(self, space=space, weights_MK=self.weights_MK[kept_M])

    @property
    def share_M(self) -> np.ndarray:
        """What share of the blend each member has, averaged over outputs; their sum is 1."""
        share_M = self.weights_MK.mean(axis=1)
        total = share_M.sum()
        return share_M / total if total > 0 else share_M

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, from which `from_json` makes the same mixture."""
        quantiles = self.space.quantiles_MKQ
        return {
            "space": self.space.name,
            "quantiles": None if quantiles is None else quantiles.tolist(),
            "weights": self.weights_MK.tolist(),
            "intercept": self.intercept_K.tolist(),
            "cuts": None if self.cuts is None else self.cuts.tolist(),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any], kind: str) -> Mixture:
        """The mixture of a blend card for a task of `kind`; ValueError where it is none."""
        weights_MK = np.array(told["weights"], dtype=np.float64)
        intercept_K = np.array(told["intercept"], dtype=np.float64)
        cuts = None if told["cuts"] is None else np.array(told["cuts"], dtype=np.float64)
        quantiles = told["quantiles"]
        if quantiles is not None:
            quantiles = np.array(quantiles, dtype=np.float64)
        mixture = cls(Space(told["space"], kind, quantiles), weights_MK, intercept_K, cuts)
        if not mixture._whole():
            raise ValueError("no mixture")
        return mixture

    def _whole(self) -> bool:
        weights_MK, quantiles_MKQ = self.weights_MK, self.space.quantiles_MKQ
        if self.space.name not in SPACES[self.space.kind] or weights_MK.ndim != 2:
            return False
        if self.cuts is not None and not np.isfinite(self.cuts).all():
            return False
        if self.space.name == "rank" and (
            quantiles_MKQ is None
            or quantiles_MKQ.ndim != 3
            or quantiles_MKQ.shape[:2] != weights_MK.shape
            or quantiles_MKQ.shape[2] < 2
            or not (np.diff(quantiles_MKQ) >= 0).all()
        ):
            return False
        numbers = np.concatenate([weights_MK.ravel(), self.intercept_K.ravel()])
        return bool(
            self.intercept_K.shape == weights_MK.shape[1:]
            and (np.abs(numbers) < 1e6).all()
            and (weights_MK >= 0).all()
        )
