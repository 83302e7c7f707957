"""A fitted blend: the space where members are averaged, their weights, and decision cuts.

Shapes: Q quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit, softmax

from poolblend.competition.metrics import SMALLEST_PROBABILITY
from poolblend.errors import unknown

SPACES = {
    "binary": ("plain", "logit", "rank"),
    "multilabel": ("plain", "logit", "rank"),
    "multiclass": ("plain", "logit"),  # ranks of different classes cannot be compared
    "regression": ("plain", "rank"),
    "ordinal": ("plain", "rank"),
}
QUANTILES = 257


@dataclass(frozen=True, eq=False)
class Space:
    """A change of scale before members are averaged, undone afterwards.

    `plain` leaves probabilities and values unchanged. `logit` uses log odds (log probabilities for
    several classes), so that confident members have more influence. `rank` uses each member's
    distribution function, estimated on the rows on which the blend is fitted (`quantiles_MKQ`), so
    that a row's rank does not depend on the other rows predicted. Ranks are not converted back into
    probabilities: they serve rank-based metrics, and labels by fitted cuts.
    """

    name: str
    kind: str
    quantiles_MKQ: np.ndarray | None = None

    def forward(self, pred_MNK: np.ndarray) -> np.ndarray:
        """The members' predictions in this space, (M, N, K)."""
        if self.name == "plain":
            return pred_MNK
        if self.name == "logit":
            clipped = np.clip(pred_MNK, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
            return np.log(clipped) if self.kind == "multiclass" else logit(clipped)
        assert self.quantiles_MKQ is not None
        ranks_MNK = np.empty(pred_MNK.shape)
        for m, k in np.ndindex(pred_MNK.shape[0], pred_MNK.shape[2]):
            ranks_MNK[m, :, k] = _rank(pred_MNK[m, :, k], self.quantiles_MKQ[m, k])
        return ranks_MNK

    def inverse(self, mixed_NK: np.ndarray) -> np.ndarray:
        """Predictions (N, K) from averages in this space; ranks stay ranks, from about 0 to 1."""
        if self.name != "logit":
            return mixed_NK
        return softmax(mixed_NK, axis=1) if self.kind == "multiclass" else expit(mixed_NK)


def fit_space(name: str, kind: str, oof_MNK: np.ndarray) -> Space:
    """The space of that name for a task of `kind`; UserError where it does not fit the kind."""
    if name not in SPACES[kind]:
        raise unknown("blend.space", name, ("auto", *SPACES[kind]), f"for a {kind} task")
    if name != "rank":
        return Space(name, kind)
    levels = np.linspace(0, 1, QUANTILES)
    return Space(name, kind, np.moveaxis(np.quantile(oof_MNK, levels, axis=1), 0, -1))


def _rank(values_N: np.ndarray, quantiles_Q: np.ndarray) -> np.ndarray:
    """The share of a distribution below each value, half of those equal to it counted.

    Values beyond the distribution keep their order: their ranks lie less than one quantile outside
    0 and 1. With equal ranks, a fold whose model predicts on another scale would lose its order.
    """
    levels = np.linspace(0, 1, len(quantiles_Q))
    upper_N = np.interp(values_N, quantiles_Q, levels)  # of equal quantiles, the last
    lower_N = 1 - np.interp(-values_N, -quantiles_Q[::-1], levels)  # of equal quantiles, the first
    first, last = quantiles_Q[0], quantiles_Q[-1]
    beyond_N = (values_N - np.clip(values_N, first, last)) / ((last - first) or 1.0)
    return (upper_N + lower_N) / 2 + beyond_N / (1 + np.abs(beyond_N)) / len(quantiles_Q)


def mix(weights_M: np.ndarray, z_MNK: np.ndarray) -> np.ndarray:
    """The weighted sum of the members, (N, K)."""
    return (weights_M @ z_MNK.reshape(len(z_MNK), -1)).reshape(z_MNK.shape[1:])


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
        return self.mixed(self.space.forward(pred_MNK))

    def mixed(self, z_MNK: np.ndarray) -> np.ndarray:
        """The blended predictions (N, K) of members that are in the mixture's space already."""
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
    def from_json(cls, fields: Mapping[str, Any], kind: str) -> Mixture:
        """The mixture of a blend card for a task of `kind`; ValueError where it is not valid."""
        cuts, quantiles = (
            None if fields[key] is None else np.array(fields[key], dtype=np.float64)
            for key in ("cuts", "quantiles")
        )
        mixture = cls(
            Space(fields["space"], kind, quantiles),
            np.array(fields["weights"], dtype=np.float64),
            np.array(fields["intercept"], dtype=np.float64),
            cuts,
        )
        if not mixture._is_valid():
            raise ValueError("not a valid mixture")
        return mixture

    def _is_valid(self) -> bool:
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
