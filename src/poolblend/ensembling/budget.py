"""Which members to run within a limit of time: a choice by OOF scores and seconds to predict.

The choice is a part of the fit (`fitting.fit_blends`), so that honest scores are of choices made
without the scored fold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poolblend.ensembling.blenders.greedy import STEPS, Selection, single_members
from poolblend.ensembling.costs import Budget
from poolblend.ensembling.problem import BlendProblem


def choose_members(problem: BlendProblem, budget: Budget) -> list[int]:
    """The members whose plain mean scores best, of those found that the budget allows.

    Members are added one by one: whichever scores best, or whichever gains most for each second,
    the latter also with the quickest member first. The best set on these ways is taken (Leskovec et
    al., Cost-effective outbreak detection in networks, KDD 2007, for why one way alone can be far
    from the best). Raises NothingAffordableError.
    """
    quickest = min(budget.alone, key=lambda m: budget.seconds([m]))
    alone, skill_free = single_members(problem), _skill_free_loss(problem)
    best = min(
        _best_on_the_way(alone, budget, skill_free, first=None),
        _best_on_the_way(alone, budget, None, first=None),
        _best_on_the_way(alone, budget, skill_free, first=quickest),
    )
    return [int(m) for m in np.flatnonzero(best.count_M)]


def _skill_free_loss(problem: BlendProblem) -> float:
    """The loss without any member: of one prediction for all rows, the members' mean.

    0 where the metric is undefined for it, as correlations are: that of predictions by chance.
    """
    mean_K = problem.z_MNK.mean(axis=(0, 1))
    loss = problem.loss_of(np.broadcast_to(mean_K, problem.z_MNK.shape[1:]))
    return loss if np.isfinite(loss) else 0.0


def _best_on_the_way(
    alone: Sequence[Selection], budget: Budget, skill_free: float | None, first: int | None
) -> Selection:
    """The best of the sets that grow by the best member, if need be from a `first` one.

    With the loss of no skill, members are compared by what they gain for each second.
    """
    members: list[int] = []
    found: list[Selection] = []
    for _ in range(STEPS):
        left = [m for m in range(len(alone)) if m not in members and budget.allows([*members, m])]
        if not left:
            break
        if first is not None and not members:
            left = [first]
        tried = {m: found[-1].plus(m) if found else alone[m] for m in left}
        if skill_free is None:
            m = min(left, key=tried.__getitem__)
        else:
            loss, seconds = found[-1].loss if found else skill_free, budget.seconds(members)
            added = {m: max(budget.seconds([*members, m]) - seconds, 1e-12) for m in left}
            m = min(left, key=lambda m: ((tried[m].loss - loss) / added[m], tried[m].loss))
        members.append(m)
        found.append(tried[m])
    return min(found)
