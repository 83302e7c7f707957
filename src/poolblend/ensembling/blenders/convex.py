"""Weights of least log loss or squared error, as they are or pulled towards equal weights.

Shapes: S shares.
"""

from __future__ import annotations

import numpy as np

from poolblend.ensembling.mixture import mix
from poolblend.ensembling.problem import (
    BlendFit,
    BlendProblem,
    equal_weights,
    inner_folds,
    prune_small_weights,
    register,
)
from poolblend.ensembling.smooth import bounded_minimum, simplex_minimum

SHARES = np.linspace(0, 1, 11)  # of the fitted weights; the rest is equal


@register("convex", complexity=5)
def convex(problem: BlendProblem) -> BlendFit:
    """The one optimum of log loss or squared error, without members of small weight."""
    return BlendFit(_convex_weights(problem))


@register("shrunk", complexity=2, quick=False)
def shrunk(problem: BlendProblem) -> BlendFit:
    """Convex weights pulled towards equal ones; cross-fitting chooses how far, in tenths."""
    equal_M = equal_weights(problem.n_members)
    fold_N = inner_folds(problem.fold_N)
    mixed_SNK = np.empty((len(SHARES), *problem.z_MNK.shape[1:]))
    for fold in np.unique(fold_N):
        held_N = fold_N == fold
        fitted_M = _convex_weights(problem.rows(~held_N))
        z_MNK = problem.z_MNK[:, held_N]
        fitted_NK, equal_NK = mix(fitted_M, z_MNK), mix(equal_M, z_MNK)
        mixed_SNK[:, held_N] = equal_NK + SHARES[:, None, None] * (fitted_NK - equal_NK)
    losses = [problem.loss_of(mixed_NK) for mixed_NK in mixed_SNK]
    share = SHARES[int(np.argmin(losses))]  # of equals, the one nearest to equal weights
    if share == 0:
        return BlendFit(equal_M)
    return BlendFit(share * _convex_weights(problem) + (1 - share) * equal_M)


def _convex_weights(problem: BlendProblem) -> np.ndarray:
    """The optimum (M,); members of small weights are dropped, and the others fitted again."""
    weights_M = _optimum(problem)
    kept_M = prune_small_weights(weights_M) > 0
    if kept_M.sum() == (weights_M > 0).sum():
        return weights_M
    refitted_M = np.zeros(len(weights_M))
    refitted_M[kept_M] = prune_small_weights(_optimum(problem.only(kept_M)))
    return refitted_M


def _optimum(problem: BlendProblem) -> np.ndarray:
    start_M = equal_weights(problem.n_members)
    if problem.space.name != "rank":
        return simplex_minimum(problem.smooth, start_M, problem.n_outputs)
    # Ranks have no scale in common with the target. Least squares with a free scale and intercept
    # gives the mixture that correlates most with it; the scale is then divided out.
    weights_M, _ = bounded_minimum(problem.smooth, start_M, np.zeros(problem.n_outputs))
    total = weights_M.sum()
    return weights_M / total if total > 0 else start_M
