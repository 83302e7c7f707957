"""What a blender is given, and what it gives back.

Legend: M members, N rows, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from poolblend.competition.cuts import fit_cuts
from poolblend.competition.metrics import Scorer
from poolblend.ensembling.smooth import SmoothLoss, make_smooth_loss, truth
from poolblend.ensembling.spaces import Space

# A weight below this share of an equal one moves no prediction that matters, yet costs the running
# of a whole member.
LEAST_SHARE = 0.1


class Trial(NamedTuple):
    """One evaluation: where it came from, its loss, and the least loss up to and including it.

    `source` is the blender whose weights were taken as a start, or "search".
    """

    number: int
    source: str
    loss: float
    best: float
    weights_M: tuple[float, ...]


class StudyFile(NamedTuple):
    """Where a search keeps its trials, and under which name."""

    path: Path
    label: str


@dataclass(frozen=True, eq=False)
class BlendFit:
    """Weights (M,) of at least 0, an intercept (K,) where one was fitted, and a search's trials.

    Every blender but `stack` gives weights that sum to 1, and no intercept.
    """

    weights_M: np.ndarray
    intercept_K: np.ndarray | None = None
    history: tuple[Trial, ...] = ()


@dataclass(frozen=True, eq=False)
class BlendProblem:
    """Members `z_MNK` in the space where they are averaged, labels `y` as encoded, a metric.

    `fold_N` is for metrics that are taken within folds, and for what a blender chooses by
    cross-fitting of its own. With `cuts` the metric is
    taken at its best cuts, whatever the weights. `starts` are the simpler blenders' fits on these
    rows; `trials` bounds a search, `progress` is called after each of its trials, and `study` says
    where they are kept (None: nowhere).
    """

    z_MNK: np.ndarray
    y: np.ndarray
    fold_N: np.ndarray
    scorer: Scorer
    space: Space
    cuts: bool = False
    members: tuple[str, ...] = ()
    seed: int = 42
    trials: int = 200
    progress: Callable[[], object] | None = None
    starts: Mapping[str, BlendFit] = field(default_factory=dict)
    study: StudyFile | None = None

    @property
    def n_members(self) -> int:
        return len(self.z_MNK)

    @property
    def n_outputs(self) -> int:
        return self.z_MNK.shape[2]

    @cached_property
    def smooth(self) -> SmoothLoss:
        """Squared error or log loss of affine blends, with its gradient."""
        truth_NK = truth(self.scorer.task, self.y)
        return make_smooth_loss(self.scorer.task.kind, self.space.name, self.z_MNK, truth_NK)

    def loss(self, weights_M: np.ndarray) -> float:
        """The metric's loss of one weighting, infinite where the metric is undefined."""
        return self.loss_of(mix(weights_M, self.z_MNK))

    def loss_of(self, mixed_NK: np.ndarray) -> float:
        """The metric's loss of one average in this space, infinite where it is undefined."""
        pred_NK = self.space.inverse(mixed_NK)
        cuts = fit_cuts(self.scorer, self.y, pred_NK) if self.cuts else None
        return self.scorer.loss_or_inf(self.y, self.scorer.take(pred_NK, cuts), self.fold_N)

    def rows(self, mask_N: np.ndarray) -> BlendProblem:
        """The same problem on some of its rows, without starts and study."""
        return replace(
            self,
            z_MNK=self.z_MNK[:, mask_N],
            y=self.y[mask_N],
            fold_N=self.fold_N[mask_N],
            starts={},
            study=None,
        )

    def only(self, kept_M: np.ndarray) -> BlendProblem:
        """The same problem with some of its members, without starts and study."""
        names = tuple(name for name, kept in zip(self.members, kept_M, strict=False) if kept)
        return replace(self, z_MNK=self.z_MNK[kept_M], members=names, starts={}, study=None)


def mix(weights_M: np.ndarray, z_MNK: np.ndarray) -> np.ndarray:
    """The weighted sum of the members, (N, K)."""
    return (weights_M @ z_MNK.reshape(len(z_MNK), -1)).reshape(z_MNK.shape[1:])


def equal_weights(n_members: int) -> np.ndarray:
    return np.full(n_members, 1 / n_members)


def without_crumbs(weights_M: np.ndarray) -> np.ndarray:
    """The weights with those below a tenth of an equal share set to 0, summing to 1 again."""
    kept_M = np.where(weights_M < LEAST_SHARE / len(weights_M), 0, weights_M)
    return kept_M / kept_M.sum()


def inner_folds(fold_N: np.ndarray) -> np.ndarray:
    """The rows' own folds, or two made of every other row where all are of one fold."""
    return fold_N if np.ptp(fold_N) else np.arange(len(fold_N)) % 2
