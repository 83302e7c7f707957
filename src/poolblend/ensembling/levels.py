"""Honest scores of blends under ever larger limits of time: what more seconds would buy."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from poolblend.competition.metrics import Scorer
from poolblend.ensembling.honesty import cross_fit
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.options import Blend

LEVELS = 8  # limits between the quickest member that costs anything and all members


class Level(NamedTuple):
    """The blend under a limit of seconds a row (None: of all members, without a choice).

    `seconds` are those of its `members`, the ones that have weight. The honest score is of choices
    made without the scored fold, which may be of other members.
    """

    limit: float | None
    seconds: float
    in_sample: float
    honest: float
    members: tuple[str, ...]


def levels(
    matrix: OofMatrix, scorer: Scorer, options: Blend, blender: str, *, seed: int = 42
) -> list[Level]:
    """Levels in rising order, each of other members; the matrix's own budget among them.

    The last is without a limit. `blender` is cross-fitted for each.
    """
    budget = matrix.budget
    assert budget is not None
    alone = sorted(cost.alone for cost in budget.costs)
    least, costly = alone[0], [seconds for seconds in alone if seconds > 0]
    limits = {least, budget.limit}
    if costly:  # members of other tools cost nothing
        most = budget.seconds(range(len(budget.costs)))
        limits |= {costly[0], *map(float, np.geomspace(costly[0], most, LEVELS))}
    found: dict[tuple[str, ...], Level] = {}
    for limit in sorted(each for each in limits if each >= least):
        level = _level(matrix, scorer, options, blender, seed, limit)
        if level.members not in found or limit == budget.limit:
            found[level.members] = level
    whole = _level(matrix, scorer, options, blender, seed, None)
    if whole.members in found and found[whole.members].limit != budget.limit:
        del found[whole.members]
    return [*found.values(), whole]


def _level(
    matrix: OofMatrix,
    scorer: Scorer,
    options: Blend,
    blender: str,
    seed: int,
    limit: float | None,
) -> Level:
    budget = matrix.budget
    assert budget is not None
    limited = replace(matrix, budget=None if limit is None else replace(budget, limit=limit))
    report = cross_fit(blender, limited, scorer, options, seed=seed)
    used = [int(m) for m in np.flatnonzero(report.mixture.weights_MK.any(axis=1))]
    return Level(
        limit,
        budget.seconds(used),
        report.in_sample,
        report.honest,
        tuple(matrix.members[m] for m in used),
    )
