"""Checks of the folds before training: can each model learn, and can each blend be scored?

Legend: N rows.
"""

from __future__ import annotations

import logging

from poolblend.errors import UserError
from poolblend.loading.competition import Competition
from poolblend.loading.competition_tables import why_undefined

log = logging.getLogger(__name__)


def try_folds(competition: Competition) -> None:
    """Raise UserError if a fold leaves no rows to train on, or no blend could be fitted without it.

    Each fold is scored with blend weights that are fitted on all other rows, so the metric must be
    defined there. One warning names the folds on whose own rows the metric is undefined.
    """
    scorer, scored, fold_N = competition.scorer, competition.scored, competition.fold_N
    undefined = {}
    for fold in range(competition.n_folds):
        held_N = fold_N == fold
        if competition.weight_N is not None and not competition.weight_N[~held_N].any():
            raise UserError(
                f"data.weight is 0 in all rows outside fold {fold}, so its models would have no "
                "rows to train on; give weight to more rows, or make other folds (folds.seed)"
            )
        reason = why_undefined(scorer, scored[~held_N], fold_N[~held_N])
        if reason:
            raise UserError(
                f"without fold {fold} {reason}, so no blend could be fitted there; make other "
                "folds (folds.n, folds.seed), or choose another metric"
            )
        reason = why_undefined(scorer, scored[held_N])
        if reason:
            undefined[fold] = reason
    if undefined:
        folds = f"fold{'s' * (len(undefined) > 1)} {', '.join(map(str, undefined))}"
        first = next(iter(undefined.values()))
        log.warning("%s has no value on the rows of %s: %s", scorer.name, folds, first)
