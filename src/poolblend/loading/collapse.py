"""Members that predict one value for all rows, as a training that has collapsed does."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping

from poolblend.ensembling.diversity import collapsed
from poolblend.ensembling.matrix import OofMatrix
from poolblend.errors import UserError
from poolblend.loading.competition import Competition

log = logging.getLogger(__name__)


def describe_collapsed(
    matrix: OofMatrix, competition: Competition, outside: Container[str]
) -> dict[str, str]:
    """What is wrong with the members that predict one value, and what mends it."""
    said = {}
    for name, folds in collapsed(matrix, competition.task).items():
        every = len(folds) == competition.n_folds
        listed = ",".join(map(str, folds))
        where = "in every fold" if every else f"in fold {listed} of {competition.n_folds}"
        again = "train.py --overwrite" if every else f"train.py --fold {listed} --overwrite"
        mend = (
            "make its file again"
            if name in outside
            else f"train it again ({again}) with a lower train.lr, or more train.warmup"
        )
        said[name] = f"predicts the same for all rows {where}, as a collapsed training does: {mend}"
    return said


def without_collapsed(matrix: OofMatrix, alike: Mapping[str, str]) -> OofMatrix:
    """The matrix without collapsed members; UserError where no other is left."""
    kept = [name for name in matrix.members if name not in alike]
    if not kept:
        name = matrix.members[0]
        others = f" ({len(alike)} such members)" if len(alike) > 1 else ""
        raise UserError(f"no member to blend: {name} {alike[name]}{others}")
    for name, what in alike.items():
        log.warning("member %s is left out: it %s; --members blends it all the same", name, what)
    return matrix.subset(kept)
