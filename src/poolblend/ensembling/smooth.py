"""Losses with a gradient over affine blends: squared error and log loss, whatever the metric.

An affine blend is eta_NK = intercept_K + sum over m of w_m z_mnk, in the space of z.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, xlogy
from scipy.stats import rankdata

from poolblend.competition.metrics import SMALLEST_PROBABILITY
from poolblend.competition.tasks import Task


class Value(NamedTuple):
    """A loss with its derivatives by the weights (M,) and by the intercepts (K,)."""

    loss: float
    by_weight_M: np.ndarray
    by_intercept_K: np.ndarray


Pointwise = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]
Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]  # a loss, and its slopes (M,)

AT_ONCE = 100  # members of which SLSQP takes seconds at most
ADDED, GAP = 25, 1e-9  # members at a time; how near the least loss is near enough, in its units


def truth(task: Task, y: np.ndarray) -> np.ndarray:
    """Encoded targets as perfect predictions, float64 (N, K): values, 0 and 1, or shares."""
    learned = task.training_targets(task.hard(y) if task.kind == "binary" else y)
    if task.kind == "multiclass" and learned.ndim == 1:
        return (learned[:, None] == np.arange(len(task.classes))).astype(np.float64)
    return learned.reshape(len(y), -1).astype(np.float64)


def make_smooth_loss(kind: str, space: str, z_MNK: np.ndarray, truth_NK: np.ndarray) -> SmoothLoss:
    """Log loss for probabilities and logits; squared error for everything else.

    Ranks are compared with the ranks of the truth. The loss is a mean over rows, and over outputs
    where they are separate decisions. It is convex in weights and intercepts together; for plain
    probabilities of several classes this holds where those of a row sum to 1.
    """
    if space == "rank":
        return SquaredError(z_MNK, (rankdata(truth_NK, axis=0) - 0.5) / len(truth_NK))
    if kind in ("regression", "ordinal"):
        return SquaredError(z_MNK, truth_NK)
    pointwise = {
        ("multiclass", "plain"): _plain_classes,
        ("multiclass", "logit"): _logit_classes,
    }.get((kind, space)) or (_logit_decisions if space == "logit" else _plain_decisions)
    return LogLoss(z_MNK, truth_NK, pointwise)


class LogLoss:
    """Mean log loss; `pointwise` gives a blend's loss and its derivatives (N, K)."""

    def __init__(self, z_MNK: np.ndarray, truth_NK: np.ndarray, pointwise: Pointwise) -> None:
        self.flat, self.truth_NK = z_MNK.reshape(len(z_MNK), -1), truth_NK
        self.pointwise = pointwise

    def __call__(self, weights_M: np.ndarray, intercept_K: np.ndarray) -> Value:
        loss, slope_NK = self._slope(weights_M, intercept_K)
        return Value(loss, self.flat @ slope_NK.ravel(), slope_NK.sum(axis=0))

    def only(self, kept_M: np.ndarray) -> LogLoss:
        """The loss of some of the members."""
        return LogLoss(self.flat[kept_M], self.truth_NK, self.pointwise)

    def curvature(
        self, weights_M: np.ndarray, intercept_K: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fisher's information about each weight and intercept: the mean square of the slopes."""
        _, slope_NK = self._slope(weights_M, intercept_K)
        square_NK = slope_NK**2 * slope_NK.size
        return np.einsum("mx,mx,x->m", self.flat, self.flat, square_NK.ravel()), square_NK.sum(0)

    def _slope(self, weights_M: np.ndarray, intercept_K: np.ndarray) -> tuple[float, np.ndarray]:
        eta_NK = (weights_M @ self.flat).reshape(self.truth_NK.shape) + intercept_K
        return self.pointwise(eta_NK, self.truth_NK)


class SquaredError:
    """Mean squared error from second moments, for which one pass over the rows is enough."""

    def __init__(self, z_MNK: np.ndarray, truth_NK: np.ndarray) -> None:
        self.size, self.rows = truth_NK.size, len(truth_NK)
        # About the truth's mean, so that targets far from zero lose no digits.
        self.centre_K = truth_NK.mean(axis=0)
        n_members, n_outputs = len(z_MNK), truth_NK.shape[1]
        self.zz_MM = np.zeros((n_members, n_members))
        self.zt_M = np.zeros(n_members)
        self.z_MK = np.empty((n_members, n_outputs))
        self.tt = 0.0
        for k in range(n_outputs):
            z_MN, t_N = z_MNK[:, :, k], truth_NK[:, k] - self.centre_K[k]
            shifted_MN = z_MN - self.centre_K[k] if self.centre_K[k] else z_MN
            self.zz_MM += shifted_MN @ shifted_MN.T
            self.zt_M += shifted_MN @ t_N
            self.z_MK[:, k] = shifted_MN.sum(axis=1)
            self.tt += float(t_N @ t_N)

    def __call__(self, weights_M: np.ndarray, intercept_K: np.ndarray) -> Value:
        # With weights that do not sum to 1, moving the origin moves the intercept as well.
        b_K = intercept_K + (weights_M.sum() - 1) * self.centre_K
        zw_M, zw_K = self.zz_MM @ weights_M, weights_M @ self.z_MK
        total = (
            weights_M @ zw_M
            - 2 * weights_M @ self.zt_M
            + 2 * b_K @ zw_K
            + self.rows * b_K @ b_K
            + self.tt
        )
        by_b_K = 2 * (zw_K + self.rows * b_K) / self.size
        by_weight_M = 2 * (zw_M - self.zt_M + self.z_MK @ b_K) / self.size
        return Value(
            max(float(total), 0.0) / self.size, by_weight_M + by_b_K @ self.centre_K, by_b_K
        )

    def only(self, kept_M: np.ndarray) -> SquaredError:
        """The loss of some of the members."""
        few = copy(self)
        few.zz_MM = self.zz_MM[np.ix_(kept_M, kept_M)]
        few.zt_M, few.z_MK = self.zt_M[kept_M], self.z_MK[kept_M]
        return few

    def curvature(
        self, weights_M: np.ndarray, intercept_K: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The second derivatives by each weight and intercept, the same everywhere."""
        rows_K = np.full(len(intercept_K), float(self.rows))
        shift_M = self.rows * (self.centre_K @ self.centre_K) + 2 * self.z_MK @ self.centre_K
        return 2 * (np.diag(self.zz_MM) + shift_M) / self.size, 2 * rows_K / self.size


SmoothLoss = LogLoss | SquaredError


def _plain_decisions(p_NK: np.ndarray, truth_NK: np.ndarray) -> tuple[float, np.ndarray]:
    clipped = np.clip(p_NK, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    losses = -np.log(np.where(truth_NK == 1, clipped, 1 - clipped))
    slope_NK = (clipped - truth_NK) / (clipped * (1 - clipped)) / p_NK.size
    return float(losses.mean()), np.where(clipped == p_NK, slope_NK, 0)


def _logit_decisions(eta_NK: np.ndarray, truth_NK: np.ndarray) -> tuple[float, np.ndarray]:
    losses = np.logaddexp(0, eta_NK) - truth_NK * eta_NK
    return float(losses.mean()), (expit(eta_NK) - truth_NK) / eta_NK.size


def _plain_classes(p_NK: np.ndarray, truth_NK: np.ndarray) -> tuple[float, np.ndarray]:
    clipped = np.clip(p_NK, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    sum_N1 = clipped.sum(axis=1, keepdims=True)
    slope_NK = (1 / sum_N1 - truth_NK / clipped) / len(p_NK)
    losses = np.log(sum_N1[:, 0]) - xlogy(truth_NK, clipped).sum(axis=1)
    return float(losses.mean()), np.where(clipped == p_NK, slope_NK, 0)


def _logit_classes(eta_NK: np.ndarray, truth_NK: np.ndarray) -> tuple[float, np.ndarray]:
    norm_N1 = logsumexp(eta_NK, axis=1, keepdims=True)
    losses = norm_N1[:, 0] - (eta_NK * truth_NK).sum(axis=1)
    return float(losses.mean()), (np.exp(eta_NK - norm_N1) - truth_NK) / len(eta_NK)


def simplex_minimum(loss: SmoothLoss, start_M: np.ndarray, n_outputs: int) -> np.ndarray:
    """The weights on the simplex of least loss; `start_M` where the solver finds nothing better.

    SLSQP, started from weights on the simplex; of many members, only among those that may have
    weight. Kraft, A software package for sequential quadratic programming, 1988.
    """
    unit = loss(start_M, np.zeros(n_outputs)).loss
    if unit == 0:
        return start_M
    solve = _at_once if len(start_M) <= AT_ONCE else _by_columns
    weights_M = solve(loss, start_M, n_outputs, unit)
    return weights_M if _in_units(loss, n_outputs, unit)(weights_M)[0] < 1 else start_M


def _in_units(loss: SmoothLoss, n_outputs: int, unit: float) -> Objective:
    """The loss of weights in units of the start's: tolerances do not depend on its scale."""
    none_K = np.zeros(n_outputs)

    def objective(weights_M: np.ndarray) -> tuple[float, np.ndarray]:
        value = loss(weights_M, none_K)
        return value.loss / unit, value.by_weight_M / unit

    return objective


def _at_once(loss: SmoothLoss, start_M: np.ndarray, n_outputs: int, unit: float) -> np.ndarray:
    found = minimize(
        _in_units(loss, n_outputs, unit),
        start_M,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * len(start_M),
        constraints={
            "type": "eq",
            "fun": lambda weights_M: weights_M.sum() - 1,
            "jac": np.ones_like,
        },
        options={"ftol": 1e-14, "maxiter": 500},
    )
    weights_M = np.maximum(found.x, 0)
    if not np.isfinite(weights_M).all() or weights_M.sum() <= 0:
        return start_M
    return weights_M / weights_M.sum()


def _by_columns(loss: SmoothLoss, start_M: np.ndarray, n_outputs: int, unit: float) -> np.ndarray:
    """Column generation: the optimum among a few members, to which others are added that lower it.

    SLSQP takes time with the cube of the number of members, and few of many have weight.
    """
    objective = _in_units(loss, n_outputs, unit)
    least, slope_M = np.inf, objective(start_M)[1]
    active = np.argsort(slope_M, kind="stable")[:ADDED]
    weights_M = np.zeros(len(start_M))
    weights_M[active] = 1 / len(active)
    while True:
        part = _at_once(loss.only(active), weights_M[active], n_outputs, unit)
        weights_M = np.zeros(len(start_M))
        weights_M[active] = part
        value, slope_M = objective(weights_M)
        # A convex loss lies at most this far above its least: Frank and Wolfe's gap.
        gap_M = weights_M @ slope_M - slope_M
        gap_M[active] = 0
        if gap_M.max() <= GAP or not value < least:
            return weights_M
        least = value
        others = np.argsort(-gap_M, kind="stable")[:ADDED]
        active = np.union1d(np.flatnonzero(weights_M), others[gap_M[others] > GAP])


def bounded_minimum(
    loss: SmoothLoss,
    start_M: np.ndarray,
    start_K: np.ndarray,
    *,
    penalty: float = 0.0,
    towards_M: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of at least 0 and free intercepts of least loss, by L-BFGS-B.

    `penalty` times the squared distance to `towards_M` is added, in units of the start's loss.
    Byrd et al., A limited memory algorithm for bound constrained optimization, 1995.
    """
    size = len(start_M)
    unit = loss(start_M, start_K).loss or 1.0
    goal_M = np.zeros(size) if towards_M is None else towards_M
    # Each parameter is scaled by its curvature. The loss curves a thousand times less in a rare
    # label's intercept than in a weight; unscaled, this would need thousands of steps.
    curvature = np.concatenate(loss.curvature(start_M, start_K)) / unit
    curvature[:size] += 2 * penalty
    scale = 1 / np.sqrt(np.maximum(curvature, np.finfo(float).tiny ** 0.25))

    def penalised(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        x = scaled * scale
        value, away_M = loss(x[:size], x[size:]), x[:size] - goal_M
        slope = np.concatenate([value.by_weight_M, value.by_intercept_K]) / unit
        slope[:size] += 2 * penalty * away_M
        return value.loss / unit + penalty * float(away_M @ away_M), slope * scale

    found = minimize(
        penalised,
        np.concatenate([start_M, start_K]) / scale,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * size + [(None, None)] * len(start_K),
        options={"ftol": 1e-12, "gtol": 1e-8, "maxiter": 500},
    )
    best = found.x * scale
    return best[:size], best[size:]
