"""Blenders without fitted weights: the plain mean, and the best member alone."""

from __future__ import annotations

import numpy as np

from poolblend.ensembling.problem import BlendFit, BlendProblem, equal_weights, register


@register("equal", complexity=0)
def equal(problem: BlendProblem) -> BlendFit:
    """The plain mean of all members; nothing is fitted."""
    return BlendFit(equal_weights(problem.n_members))


@register("best", complexity=1)
def best(problem: BlendProblem) -> BlendFit:
    """The one member that scores best alone; of equals, the one of least smooth loss."""
    corners_MM = np.eye(problem.n_members)
    losses = [(problem.loss(corner_M), problem.smooth_loss(corner_M)) for corner_M in corners_MM]
    if not np.isfinite([loss for loss, _ in losses]).any():
        inputs = problem.scorer.metric_inputs(problem.space.inverse(problem.z_MNK[0]))
        problem.scorer.loss_inputs(problem.y, inputs, problem.fold_N)  # raises the reason
    return BlendFit(corners_MM[losses.index(min(losses))])
