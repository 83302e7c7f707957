"""The input and the result of a blender, and the registry of blenders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from poolblend.competition.cuts import fit_cuts
from poolblend.competition.metrics import Scorer
from poolblend.ensembling.mixture import Space, mix
from poolblend.ensembling.smooth import SmoothLoss, make_smooth_loss, truth
from poolblend.registry import Registry

SEARCH = "search"  # the source of a trial whose weights a search proposed
# A smaller share of an equal weight hardly changes any prediction, but costs running the member.
LEAST_SHARE = 0.1


class Trial(NamedTuple):
    """One evaluation: where it came from, its loss, and the least loss up to and including it.

    `source` is the blender whose weights were a start, or "search".
    """

    number: int
    source: str
    loss: float
    best: float
    weights_M: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class BlendFit:
    """Weights (M,) of at least 0, an intercept (K,) where one was fitted, and a search's trials."""

    weights_M: np.ndarray
    intercept_K: np.ndarray | None = None
    history: tuple[Trial, ...] = ()


@dataclass(frozen=True, eq=False)
class BlendProblem:
    """Members `z_MNK` in the space where they are averaged, labels `y` as encoded, a metric.

    `fold_N` serves metrics that are computed within folds, and cross-fitting by a blender. With
    `cuts` the metric is computed at the best cuts for each weighting. `starts` are the simpler
    blenders' fits on these rows; a search makes `trials` and calls `progress` after each.
    """

    z_MNK: np.ndarray
    y: np.ndarray
    fold_N: np.ndarray
    scorer: Scorer
    space: Space
    cuts: bool = False
    seed: int = 42
    trials: int = 200
    progress: Callable[[], object] | None = None
    starts: Mapping[str, BlendFit] = field(default_factory=dict)

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
        return self.scorer.loss_or_inf(
            self.y, self.scorer.metric_inputs(pred_NK, cuts), self.fold_N
        )

    def smooth_loss(self, weights_M: np.ndarray) -> float:
        """Squared error or log loss of one weighting, which decides between equal metrics."""
        return self.smooth(weights_M, np.zeros(self.n_outputs)).loss

    def rows(self, mask_N: np.ndarray) -> BlendProblem:
        """The same problem on some of its rows, without starts."""
        return replace(
            self,
            z_MNK=self.z_MNK[:, mask_N],
            y=self.y[mask_N],
            fold_N=self.fold_N[mask_N],
            starts={},
        )

    def only(self, kept_M: np.ndarray) -> BlendProblem:
        """The same problem with some of its members, without starts."""
        return replace(self, z_MNK=self.z_MNK[kept_M], starts={})


def equal_weights(n_members: int) -> np.ndarray:
    return np.full(n_members, 1 / n_members)


def prune_small_weights(weights_M: np.ndarray) -> np.ndarray:
    """The weights with those below a tenth of an equal share set to 0, summing to 1 again."""
    kept_M = np.where(weights_M < LEAST_SHARE / len(weights_M), 0, weights_M)
    return kept_M / kept_M.sum()


def inner_folds(fold_N: np.ndarray) -> np.ndarray:
    """The rows' own folds, or two made of every other row where all are of one fold."""
    return fold_N if np.ptp(fold_N) else np.arange(len(fold_N)) % 2


Fit = Callable[[BlendProblem], BlendFit]


@dataclass(frozen=True)
class Blender:
    """A registered fitter; of two with equal scores, the one of lower `complexity` is preferred.

    `space` is "logit" for a fitter that works on logits (and on plain values where there are
    none), None for one that works in any space and whose weights sum to 1. A `quick` one can be
    refitted many times. One that `searches` starts from the fits of all simpler blenders.
    """

    name: str
    complexity: float
    fit: Fit
    space: str | None = None
    quick: bool = True
    searches: bool = False

    def __call__(self, problem: BlendProblem) -> BlendFit:
        if problem.n_members == 1:
            return BlendFit(np.ones(1))
        return self.fit(problem)


BLENDERS: Registry[Blender] = Registry("blender")


def register(name: str, *, complexity: float, **abilities: Any) -> Callable[[Fit], Fit]:
    """Decorator that registers a fitter under `name`, described by its docstring's first line.

    `abilities` are the fields of `Blender`.
    """

    def enter(fit: Fit) -> Fit:
        BLENDERS.add(name, Blender(name, complexity, fit, **abilities))
        return fit

    return enter


def by_simplicity() -> list[str]:
    """All blenders' names, the simplest first."""
    return sorted(BLENDERS, key=lambda name: BLENDERS[name].complexity)


def starting_blenders() -> list[str]:
    """The blenders that a search starts from, the simplest first."""
    return [
        name
        for name in by_simplicity()
        if BLENDERS[name].space is None and not BLENDERS[name].searches
    ]
