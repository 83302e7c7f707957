"""Fitted weights pulled towards equal ones, as far as cross-fitting asks for.

Legend: M members, N rows, K outputs.
"""

from __future__ import annotations

import numpy as np

from poolblend.ensembling.blenders.convex import convex_weights
from poolblend.ensembling.blenders.registry import register
from poolblend.ensembling.problem import (
    BlendFit,
    BlendProblem,
    equal_weights,
    inner_folds,
    mix,
)

SHARES = np.linspace(0, 1, 11)  # of the fitted weights; the rest is equal


@register("shrunk", complexity=2, quick=False)
def shrunk(problem: BlendProblem) -> BlendFit:
    """Convex weights pulled towards equal ones; cross-fitting chooses how far, in tenths."""
    equal_M = equal_weights(problem.n_members)
    fold_N = inner_folds(problem.fold_N)
    mixed_SNK = np.empty((len(SHARES), *problem.z_MNK.shape[1:]))
    for fold in np.unique(fold_N):
        held_N = fold_N == fold
        fitted_M = convex_weights(problem.rows(~held_N))
        z_MNK = problem.z_MNK[:, held_N]
        fitted_NK, equal_NK = mix(fitted_M, z_MNK), mix(equal_M, z_MNK)
        mixed_SNK[:, held_N] = equal_NK + SHARES[:, None, None] * (fitted_NK - equal_NK)
    losses = [problem.loss_of(mixed_NK) for mixed_NK in mixed_SNK]
    share = SHARES[int(np.argmin(losses))]  # of equals, the one nearest to equal weights
    if share == 0:
        return BlendFit(equal_M)
    return BlendFit(share * convex_weights(problem) + (1 - share) * equal_M)
