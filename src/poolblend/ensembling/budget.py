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

    Members are added one by one, once the one that scores best and once the one that gains most
    for each second; of all sets on both ways the best is taken (Leskovec et al., Cost-effective
    outbreak detection in networks, KDD 2007, for why both). Raises NothingAffordableError.
    """
    alone, first = single_members(problem), budget.alone
    best = min(_best_on_the_way(alone, first, budget, by_second) for by_second in (False, True))
    return [int(m) for m in np.flatnonzero(best.count_M)]


def _best_on_the_way(
    alone: Sequence[Selection], first: Sequence[int], budget: Budget, by_second: bool
) -> Selection:
    finite = [alone[m].loss for m in first if np.isfinite(alone[m].loss)]
    loss, seconds = max(finite, default=0.0), 0.0  # before any member: the worst that one has
    members: list[int] = []
    found: list[Selection] = []
    for _ in range(STEPS):
        allowed = [
            m for m in range(len(alone)) if m not in members and budget.allows([*members, m])
        ]
        if not allowed:
            break
        tried = {m: found[-1].plus(m) if found else alone[m] for m in allowed}
        if by_second:
            added = {m: max(budget.seconds([*members, m]) - seconds, 1e-12) for m in allowed}
            m = min(allowed, key=lambda m: ((tried[m].loss - loss) / added[m], tried[m].loss))
        else:
            m = min(allowed, key=tried.__getitem__)
        members.append(m)
        found.append(tried[m])
        loss, seconds = tried[m].loss, budget.seconds(members)
    return min(found)
