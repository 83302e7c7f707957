"""Blenders that fit next to nothing: the plain mean, and the best member alone."""

from __future__ import annotations

import numpy as np

from poolblend.ensembling.blenders.registry import register
from poolblend.ensembling.problem import BlendFit, BlendProblem, equal_weights


@register("equal", complexity=0)
def equal(problem: BlendProblem) -> BlendFit:
    """The plain mean of all members; nothing is fitted."""
    return BlendFit(equal_weights(problem.n_members))


@register("best", complexity=1)
def best(problem: BlendProblem) -> BlendFit:
    """The one member that scores best alone; of equals, the one of least smooth loss."""
    corners_MM = np.eye(problem.n_members)
    none_K = np.zeros(problem.n_outputs)
    merits = [
        (problem.loss(corner_M), problem.smooth(corner_M, none_K).loss) for corner_M in corners_MM
    ]
    if not np.isfinite([loss for loss, _ in merits]).any():
        taken = problem.scorer.take(problem.space.inverse(problem.z_MNK[0]))
        problem.scorer.loss_taken(problem.y, taken, problem.fold_N)  # says why
    return BlendFit(corners_MM[min(range(problem.n_members), key=merits.__getitem__)])
