"""Weights of least log loss or squared error: a convex problem, solved to its one optimum."""

from __future__ import annotations

import numpy as np

from poolblend.ensembling.blenders.registry import register
from poolblend.ensembling.problem import BlendFit, BlendProblem, equal_weights, without_crumbs
from poolblend.ensembling.smooth import SmoothLoss, bounded_minimum, simplex_minimum


@register("convex", complexity=5)
def convex(problem: BlendProblem) -> BlendFit:
    """The one optimum of log loss or squared error, without members of next to no weight."""
    return BlendFit(convex_weights(problem))


def convex_weights(problem: BlendProblem) -> np.ndarray:
    """The optimum (M,); crumbs of weight are dropped, and the rest fitted again without them."""
    weights_M = _optimum(problem, problem.smooth)
    kept_M = without_crumbs(weights_M) > 0
    if kept_M.all() or kept_M.sum() == (weights_M > 0).sum():
        return weights_M
    fewer = problem.only(kept_M)
    refitted_M = np.zeros(len(weights_M))
    refitted_M[kept_M] = without_crumbs(_optimum(fewer, fewer.smooth))
    return refitted_M


def _optimum(problem: BlendProblem, smooth: SmoothLoss) -> np.ndarray:
    start_M = equal_weights(problem.n_members)
    if problem.space.name != "rank":
        return simplex_minimum(smooth, start_M, problem.n_outputs)
    # Ranks have no scale in common with the target. Least squares with a free scale and intercept
    # gives the mixture that correlates most with it; the scale is then divided out.
    weights_M, _ = bounded_minimum(smooth, start_M, np.zeros(problem.n_outputs))
    total = weights_M.sum()
    return weights_M / total if total > 0 else start_M
