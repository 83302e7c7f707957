"""A second-level model over the members: non-negative ridge or logistic regression.

Shapes: P penalties.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from poolblend.ensembling.problem import (
    BlendFit,
    BlendProblem,
    equal_weights,
    inner_folds,
    register,
)
from poolblend.ensembling.smooth import bounded_minimum

PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001)  # in units of the loss where each step of the path begins


@register("stack", complexity=6, space="logit", quick=False)
def stack(problem: BlendProblem) -> BlendFit:
    """Ridge or logistic regression over members' logits, no weight below 0, with an intercept."""
    # The penalty draws weights to equal ones, rather than to 0: without evidence, a plain blend.
    fold_N = inner_folds(problem.fold_N)
    losses_P = np.zeros(len(PENALTIES))
    for fold in np.unique(fold_N):
        held = problem.rows(fold_N == fold)
        for p, (weights_M, intercept_K) in enumerate(_path(problem.rows(fold_N != fold))):
            losses_P[p] += len(held.y) * held.smooth(weights_M, intercept_K).loss
    weights_M, intercept_K = list(_path(problem))[int(np.argmin(losses_P))]
    if not weights_M.any():  # uninformative members: a constant is not a blend
        return BlendFit(equal_weights(problem.n_members))
    return BlendFit(weights_M, intercept_K)


def _path(problem: BlendProblem) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Solutions from the strongest penalty to the weakest, each started at the one before."""
    equal_M = equal_weights(problem.n_members)
    weights_M, intercept_K = equal_M, np.zeros(problem.n_outputs)
    for penalty in PENALTIES:
        weights_M, intercept_K = bounded_minimum(
            problem.smooth, weights_M, intercept_K, penalty=penalty, towards_M=equal_M
        )
        yield weights_M, intercept_K
