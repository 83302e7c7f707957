"""Where members are averaged: as they are, as logits, or as ranks.

Legend: M members, N rows, K outputs, Q quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    `plain` takes probabilities and values as they are; `logit` takes log odds (for several classes
    log probabilities), so that a sure member counts for more; `rank` takes each member's own
    distribution function, estimated on the rows that the blend is fitted on (`quantiles_MKQ`), so
    that a row's rank never depends on the rows predicted beside it. Ranks are not turned back into
    probabilities: they are for metrics of order, and for labels through fitted cuts.
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
    0 and 1. Tied there, a fold whose model predicts on another scale would lose its order.
    """
    levels = np.linspace(0, 1, len(quantiles_Q))
    upper_N = np.interp(values_N, quantiles_Q, levels)  # of equal quantiles, the last
    lower_N = 1 - np.interp(-values_N, -quantiles_Q[::-1], levels)  # of equal quantiles, the first
    first, last = quantiles_Q[0], quantiles_Q[-1]
    beyond_N = (values_N - np.clip(values_N, first, last)) / ((last - first) or 1.0)
    return (upper_N + lower_N) / 2 + beyond_N / (1 + np.abs(beyond_N)) / len(quantiles_Q)
