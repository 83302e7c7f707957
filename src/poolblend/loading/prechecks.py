"""Checks before anything is trained: does each fold leave rows to learn from, and to score?

Legend: N rows.
"""

from __future__ import annotations

import logging

from poolblend.errors import UserError
from poolblend.loading.competition import Competition
from poolblend.loading.competition_tables import why_undefined

log = logging.getLogger(__name__)


def try_folds(competition: Competition) -> None:
    """Raise UserError where a fold's models could learn nothing, or no blend could be fitted.

    A blend is scored on each fold with weights that were fitted on all other rows, so the metric
    needs a value there. Folds on whose own rows it has none are named in one warning.
    """
    scorer, scored, fold_N = competition.scorer, competition.scored, competition.fold_N
    undefined = {}
    for fold in range(competition.n_folds):
        held_N = fold_N == fold
        if competition.weight_N is not None and not competition.weight_N[~held_N].any():
            raise UserError(
                f"data.weight is 0 in all rows outside fold {fold}, so its models would have no "
                "row to learn from; weigh more rows, or make other folds (folds.seed)"
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
