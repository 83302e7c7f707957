"""Collapsed members, which predict the same value for all rows."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping

from poolblend.ensembling.diversity import collapsed
from poolblend.ensembling.matrix import Keep, OofMatrix
from poolblend.errors import UserError
from poolblend.loading.competition import Competition

log = logging.getLogger(__name__)


def describe_collapsed(
    matrix: OofMatrix, competition: Competition, outside: Container[str]
) -> dict[str, str]:
    """For each collapsed member, what is wrong and how to repair it."""
    described = {}
    for name, folds in collapsed(matrix, competition.task).items():
        every = len(folds) == competition.n_folds
        listed = ",".join(map(str, folds))
        where = "in every fold" if every else f"in fold {listed} of {competition.n_folds}"
        again = "train.py --overwrite" if every else f"train.py --fold {listed} --overwrite"
        fix = (
            "make its file again"
            if name in outside
            else f"train it again ({again}) with a lower train.lr, or more train.warmup"
        )
        described[name] = f"predicts the same for all rows {where} (it has collapsed): {fix}"
    return described


def without_collapsed(
    matrix: OofMatrix, collapsed_members: Mapping[str, str], keep: Keep
) -> OofMatrix:
    """The matrix without the collapsed members; UserError if no member is left."""
    kept = [name for name in matrix.members if name not in collapsed_members]
    if not kept:
        name = matrix.members[0]
        others = f" ({len(collapsed_members)} such members)" if len(collapsed_members) > 1 else ""
        raise UserError(f"no member to blend: {name} {collapsed_members[name]}{others}")
    for name, what in collapsed_members.items():
        log.warning("member %s is left out: it %s; --members blends it anyway", name, what)
    return matrix.subset(kept, keep)
