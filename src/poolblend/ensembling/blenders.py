"""The weight fitters: one function under one `@register`, each returning weights on the simplex.

Legend: M members, N rows, K outputs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from poolblend.competition.metrics import SMALLEST_PROBABILITY, Scorer, UndefinedScoreError
from poolblend.registry import Registry

# The search draws u in [FLOOR, 1] per member; w ∝ -log u then covers the simplex, corners included.
FLOOR = 1e-3
# A smaller weight moves no prediction that matters, yet costs the running of a whole member.
LEAST_WEIGHT = 1e-3


class Trial(NamedTuple):
    """One evaluation: where it came from, its loss, and the least loss up to and including it.

    `source` is the blender whose weights were taken as a start, or "search".
    """

    number: int
    source: str
    loss: float
    best: float
    weights_M: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class BlendProblem:
    """What a fitter gets: predictions `oof_MNK`, labels `y` as encoded, and what to score with.

    `trials` bounds a search; `progress` is called after each trial, so that a bar's `update` fits.
    """

    oof_MNK: np.ndarray
    y: np.ndarray
    scorer: Scorer
    seed: int = 42
    trials: int = 200
    progress: Callable[[], object] | None = None

    def loss(self, weights_M: np.ndarray) -> float:
        """The metric's loss of one weighting, infinite where the metric is undefined."""
        try:
            return self.scorer.loss(self.y, mix(weights_M, self.oof_MNK))
        except UndefinedScoreError:
            return math.inf


@dataclass(frozen=True, eq=False)
class BlendFit:
    """Weights (M,), non-negative with sum 1, and what a search tried on the way."""

    weights_M: np.ndarray
    history: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class Blender:
    """A registered fitter; of two that score alike, the one of lower `complexity` is preferred."""

    name: str
    complexity: int
    fit: Callable[[BlendProblem], BlendFit]

    def __call__(self, problem: BlendProblem) -> BlendFit:
        if len(problem.oof_MNK) == 1:
            return BlendFit(np.ones(1))
        return self.fit(problem)


BLENDERS: Registry[Blender] = Registry("blender")


def register(
    name: str, complexity: int
) -> Callable[[Callable[[BlendProblem], BlendFit]], Callable[[BlendProblem], BlendFit]]:
    """Decorator that enters a fitter under `name`, at its place among simpler and richer ones."""

    def enter(fit: Callable[[BlendProblem], BlendFit]) -> Callable[[BlendProblem], BlendFit]:
        BLENDERS.add(name, Blender(name, complexity, fit))
        return fit

    return enter


def by_simplicity() -> list[str]:
    """All blenders' names, the simplest first."""
    return sorted(BLENDERS, key=lambda name: BLENDERS[name].complexity)


def mix(weights_M: np.ndarray, oof_MNK: np.ndarray) -> np.ndarray:
    """The weighted mean of the members' predictions, (N, K)."""
    return np.tensordot(weights_M, oof_MNK, axes=1)


@register("equal", complexity=0)
def equal(problem: BlendProblem) -> BlendFit:
    """The plain mean of all members; nothing is fitted."""
    n_members = len(problem.oof_MNK)
    return BlendFit(np.full(n_members, 1 / n_members))


@register("best", complexity=1)
def best(problem: BlendProblem) -> BlendFit:
    """The one member that scores best alone; of equals, the first."""
    corners_MM = np.eye(len(problem.oof_MNK))
    losses_M = [problem.loss(corner_M) for corner_M in corners_MM]
    if not np.isfinite(losses_M).any():
        problem.scorer.loss(problem.y, problem.oof_MNK[0])
    return BlendFit(corners_MM[int(np.argmin(losses_M))])


@register("slsqp", complexity=2)
def slsqp(problem: BlendProblem) -> BlendFit:
    """SLSQP on the task's smooth loss (log loss or squared error), a convex problem.

    Starts from equal weights. Kraft, A software package for sequential quadratic programming, 1988.
    """
    start_M = equal(problem).weights_M
    unit = problem.scorer.smooth_loss(problem.y, mix(start_M, problem.oof_MNK))
    if unit == 0:
        return BlendFit(start_M)

    def loss_and_gradient(weights_M: np.ndarray) -> tuple[float, np.ndarray]:
        pred_NK = mix(weights_M, problem.oof_MNK)
        slope_NK = smooth_slope(problem.scorer, problem.y, pred_NK)
        gradient_M = problem.oof_MNK.reshape(len(weights_M), -1) @ slope_NK.ravel()
        # In units of the start's loss, the tolerance means the same for every target's scale.
        return problem.scorer.smooth_loss(problem.y, pred_NK) / unit, gradient_M / unit

    found = minimize(
        loss_and_gradient,
        start_M,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * len(start_M),
        constraints={
            "type": "eq",
            "fun": lambda weights_M: weights_M.sum() - 1,
            "jac": np.ones_like,
        },
        options={"ftol": 1e-12, "maxiter": 500},
    )
    weights_M = without_crumbs(found.x)
    return BlendFit(weights_M if loss_and_gradient(weights_M)[0] < 1 else start_M)


def without_crumbs(weights_M: np.ndarray) -> np.ndarray:
    """The weights with those below `LEAST_WEIGHT` set to 0, summing to 1 again."""
    kept_M = np.where(weights_M < LEAST_WEIGHT, 0, weights_M)
    return kept_M / kept_M.sum()


def smooth_slope(scorer: Scorer, y: np.ndarray, pred_NK: np.ndarray) -> np.ndarray:
    """The derivative of `scorer.smooth_loss` by each prediction, (N, K)."""
    n_rows, n_outputs = pred_NK.shape
    kind = scorer.task.kind
    if kind == "regression":
        return 2 * (pred_NK - y) / pred_NK.size
    p_NK = np.clip(pred_NK, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    if kind == "multiclass":
        slope_NK = np.repeat(1 / p_NK.sum(axis=1, keepdims=True), n_outputs, axis=1)
        slope_NK[np.arange(n_rows), y] -= 1 / p_NK[np.arange(n_rows), y]
        slope_NK /= n_rows
    else:
        slope_NK = (p_NK - y.reshape(pred_NK.shape)) / (p_NK * (1 - p_NK)) / pred_NK.size
    return np.where(p_NK == pred_NK, slope_NK, 0)


@register("optuna", complexity=3)
def search(problem: BlendProblem) -> BlendFit:
    """Optuna's search (TPE) on the metric itself, started from every simpler blender.

    The starts are scored exactly, and the result is the best of all that was scored, the earliest
    of equals; so it is never below a simpler blender on the rows it is fitted on. Each member's
    -log u, u uniform, normalised to sum 1, is uniform over the simplex (Devroye 1986, ch. XI.4).
    """
    import optuna

    space: dict[str, optuna.distributions.BaseDistribution] = {
        f"u{m}": optuna.distributions.FloatDistribution(FLOOR, 1)
        for m in range(len(problem.oof_MNK))
    }
    study = _study(problem.seed)
    tried: list[Trial] = []
    for name in by_simplicity():
        if BLENDERS[name].complexity < BLENDERS["optuna"].complexity:
            start = _evaluate(problem, name, BLENDERS[name](problem).weights_M, tried)
            params = dict(zip(space, to_cube(np.array(start.weights_M)), strict=True))
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=space, value=start.loss)
            )
    for _ in range(problem.trials):
        asked = study.ask(space)
        weights_M = without_crumbs(to_simplex(np.array([asked.params[name] for name in space])))
        study.tell(asked, _evaluate(problem, "search", weights_M, tried).loss)
        if problem.progress:
            problem.progress()
    winner = min(tried, key=lambda trial: trial.loss)
    return BlendFit(np.array(winner.weights_M), tuple(tried))


def to_simplex(cube_M: np.ndarray) -> np.ndarray:
    """The weights that a point of the search space, u in [FLOOR, 1] per member, stands for."""
    shares_M = -np.log(cube_M)
    total = shares_M.sum()
    return shares_M / total if total > 0 else np.full(len(cube_M), 1 / len(cube_M))


def to_cube(weights_M: np.ndarray) -> np.ndarray:
    """A point of the search space that stands for `weights_M`, near the middle of its ray."""
    scale = min(len(weights_M), -math.log(FLOOR) / weights_M.max())
    return np.clip(np.exp(-scale * weights_M), FLOOR, 1)


def _evaluate(
    problem: BlendProblem, source: str, weights_M: np.ndarray, tried: list[Trial]
) -> Trial:
    loss = problem.loss(weights_M)
    least = min(loss, tried[-1].best) if tried else loss
    tried.append(Trial(len(tried), source, loss, least, tuple(weights_M.tolist())))
    return tried[-1]


def _study(seed: int) -> Any:
    """A seeded study in memory that says nothing."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Optuna 4 calls joint sampling experimental; 5 makes it the default.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
        return optuna.create_study(sampler=sampler)
    finally:
        optuna.logging.set_verbosity(verbosity)
