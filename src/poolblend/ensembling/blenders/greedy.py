"""Ensemble selection: members are added one by one, with replacement, while the metric gains.

Caruana et al., Ensemble selection from libraries of models, ICML 2004.
Legend: M members, N rows, K outputs.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from poolblend.ensembling.blenders.registry import register
from poolblend.ensembling.problem import BlendFit, BlendProblem, equal_weights, without_crumbs

STEPS = 25  # past about as many, nothing is gained any more
BAGS, STEPS_IN_A_BAG = 10, 10  # the mean over bags makes up for the coarser weights of each
# Members of one bag: half of them, as in the paper, but never so few that nothing is selected.
FEWEST_IN_A_BAG = 3


@register("greedy", complexity=3, quick=False)
def greedy(problem: BlendProblem) -> BlendFit:
    """Selection with replacement (Caruana et al. 2004), begun with the best few members."""
    return BlendFit(_select(problem))


@register("bagged", complexity=4, quick=False)
def bagged(problem: BlendProblem) -> BlendFit:
    """The mean of ten greedy selections, each among a random half of the members."""
    rng = np.random.default_rng(problem.seed)
    size = min(problem.n_members, max(FEWEST_IN_A_BAG, round(problem.n_members / 2)))
    if size == problem.n_members:
        return greedy(problem)
    # Drawn from the members as their scores order them, so that their given order means nothing.
    order = np.array(_best_first(_alone(problem)))
    total_M = np.zeros(problem.n_members)
    for _ in range(BAGS):
        kept_M = np.zeros(problem.n_members, dtype=bool)
        kept_M[order[rng.choice(problem.n_members, size, replace=False)]] = True
        total_M[kept_M] += _select(problem.only(kept_M), STEPS_IN_A_BAG)
    return BlendFit(without_crumbs(total_M / BAGS))


class _Selection:
    """So many times each member, with what that scores; the smooth loss decides between equals."""

    def __init__(self, problem: BlendProblem, count_M: np.ndarray, sum_NK: np.ndarray) -> None:
        self.problem, self.count_M = problem, count_M
        self.loss = problem.loss_of(sum_NK / count_M.sum())

    @cached_property
    def smooth(self) -> float:
        none_K = np.zeros(self.problem.n_outputs)
        return self.problem.smooth(self.count_M / self.count_M.sum(), none_K).loss

    def __lt__(self, other: _Selection) -> bool:
        if self.loss != other.loss:
            return self.loss < other.loss
        return self.smooth < other.smooth


def _alone(problem: BlendProblem) -> list[_Selection]:
    corners_MM = np.eye(problem.n_members)
    return [_Selection(problem, *each) for each in zip(corners_MM, problem.z_MNK, strict=True)]


def _best_first(alone: list[_Selection]) -> list[int]:
    return sorted(range(len(alone)), key=alone.__getitem__)


def _select(problem: BlendProblem, steps: int = STEPS) -> np.ndarray:
    """Weights (M,) of the best selection on a way of so many steps."""
    z_MNK, corners_MM = problem.z_MNK, np.eye(problem.n_members)
    members, alone = range(problem.n_members), _alone(problem)
    order = _best_first(alone)
    # Sorted initialisation: the best members together, as many of them as score best.
    best, best_NK = alone[order[0]], z_MNK[order[0]]
    count_M, sum_NK = corners_MM[order[0]], z_MNK[order[0]]
    for m in order[1:]:
        count_M, sum_NK = count_M + corners_MM[m], sum_NK + z_MNK[m]
        selection = _Selection(problem, count_M, sum_NK)
        if selection < best:
            best, best_NK = selection, sum_NK
    count_M, sum_NK = best.count_M, best_NK
    for _ in range(steps):
        tried = [_Selection(problem, count_M + corners_MM[m], sum_NK + z_MNK[m]) for m in members]
        chosen = min(members, key=tried.__getitem__)
        count_M, sum_NK = tried[chosen].count_M, sum_NK + z_MNK[chosen]
        best = min(best, tried[chosen])
    if not np.isfinite(best.loss):
        return equal_weights(problem.n_members)
    return best.count_M / best.count_M.sum()
