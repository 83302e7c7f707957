"""Ensemble selection: members are added one by one, with replacement, while the metric gains.

Caruana et al., Ensemble selection from libraries of models, ICML 2004.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from poolblend.ensembling.problem import (
    BlendFit,
    BlendProblem,
    equal_weights,
    prune_small_weights,
    register,
)

STEPS = 25  # more of them gain nothing
BAGS, STEPS_IN_A_BAG = 10, 10  # the mean over bags makes up for the coarser weights of each
# At least so many members in a bag: half of them, as in the paper, can be too few to select from.
FEWEST_IN_A_BAG = 3


@register("greedy", complexity=3, quick=False)
def greedy(problem: BlendProblem) -> BlendFit:
    """Selection with replacement (Caruana et al. 2004), started from the best few members."""
    return BlendFit(_select(problem))


@register("bagged", complexity=4, quick=False)
def bagged(problem: BlendProblem) -> BlendFit:
    """The mean of ten greedy selections, each among a random half of the members."""
    rng = np.random.default_rng(problem.seed)
    size = min(problem.n_members, max(FEWEST_IN_A_BAG, round(problem.n_members / 2)))
    if size == problem.n_members:
        return greedy(problem)
    # Drawn from the members in the order of their scores, so that their given order is irrelevant.
    order = np.array(_best_first(single_members(problem)))
    total_M = np.zeros(problem.n_members)
    for _ in range(BAGS):
        kept_M = np.zeros(problem.n_members, dtype=bool)
        kept_M[order[rng.choice(problem.n_members, size, replace=False)]] = True
        total_M[kept_M] += _select(problem.only(kept_M), STEPS_IN_A_BAG)
    return BlendFit(prune_small_weights(total_M / BAGS))


class Selection:
    """How often each member is selected, and its loss; the smooth loss decides between equals."""

    def __init__(self, problem: BlendProblem, count_M: np.ndarray, sum_NK: np.ndarray) -> None:
        self.problem, self.count_M, self.sum_NK = problem, count_M, sum_NK
        self.loss = problem.loss_of(sum_NK / count_M.sum())

    def plus(self, m: int) -> Selection:
        """The selection with member m once more."""
        count_M = self.count_M.copy()
        count_M[m] += 1
        return Selection(self.problem, count_M, self.sum_NK + self.problem.z_MNK[m])

    @property
    def weights_M(self) -> np.ndarray:
        return self.count_M / self.count_M.sum()

    @cached_property
    def smooth(self) -> float:
        return self.problem.smooth_loss(self.weights_M)

    def __lt__(self, other: Selection) -> bool:
        if self.loss != other.loss:
            return self.loss < other.loss
        return self.smooth < other.smooth


def single_members(problem: BlendProblem) -> list[Selection]:
    """Each member selected once, alone."""
    corners_MM = np.eye(problem.n_members)
    return [Selection(problem, *each) for each in zip(corners_MM, problem.z_MNK, strict=True)]


def _best_first(selections: list[Selection]) -> list[int]:
    return sorted(range(len(selections)), key=selections.__getitem__)


def _select(problem: BlendProblem, steps: int = STEPS) -> np.ndarray:
    """Weights (M,) of the best of all selections made in so many steps."""
    alone = single_members(problem)
    first, *others = _best_first(alone)
    # Sorted initialisation: the best members together, in the number that scores best.
    best = current = alone[first]
    for m in others:
        current = current.plus(m)
        best = min(best, current)
    current = best
    for _ in range(steps):
        current = min(current.plus(m) for m in range(problem.n_members))
        best = min(best, current)
    return best.weights_M if np.isfinite(best.loss) else equal_weights(problem.n_members)
