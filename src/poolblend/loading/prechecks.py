"""Tried before anything is trained: has the metric a value, and does each fold have rows to learn?

Legend: N rows.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from poolblend.competition.metrics import UndefinedScoreError
from poolblend.ensembling.smooth import truth
from poolblend.errors import UserError

if TYPE_CHECKING:
    from poolblend.loading.competition import Competition, Tabled

log = logging.getLogger(__name__)


def try_metric(tabled: Tabled) -> None:
    """Raise UserError where the metric has no value over all rows, however good the predictions."""
    reason = _undefined(tabled, np.ones(len(tabled.y), dtype=bool))
    if reason:
        raise UserError(f"{reason}; choose another metric, or leave out what cannot be scored")


def try_folds(competition: Competition) -> None:
    """Raise UserError where a fold's models could learn nothing, or no blend could be fitted.

    A blend is scored on each fold by one that was fitted on all other rows: there the metric needs
    a value. Folds on whose own rows it has none are named in one warning.
    """
    name, undefined = competition.scorer.name, []
    for fold in range(competition.n_folds):
        held_N = competition.fold_N == fold
        if competition.weight_N is not None and not competition.weight_N[~held_N].any():
            raise UserError(
                f"data.weight is 0 in all rows outside fold {fold}, so its models would have no "
                "row to learn from; weigh more rows, or make other folds (folds.seed)"
            )
        reason = _undefined(competition, ~held_N, competition.fold_N)
        if reason:
            raise UserError(
                f"without fold {fold} {reason}, so no blend could be fitted there; make other "
                "folds (folds.n, folds.seed), or choose another metric"
            )
        reason = _undefined(competition, held_N)
        if reason:
            undefined.append((fold, reason))
    if undefined:
        folds = f"fold{'s' * (len(undefined) > 1)} {', '.join(str(fold) for fold, _ in undefined)}"
        log.warning("%s has no value on the rows of %s: %s", name, folds, undefined[0][1])


def _undefined(tabled: Tabled, mask_N: np.ndarray, fold_N: np.ndarray | None = None) -> str:
    """Why the metric has no value on these rows, though all are predicted right; "" if it has."""
    y, scorer = tabled.scored[mask_N], tabled.scorer
    try:
        scorer.score_taken(
            y, scorer.take(truth(tabled.task, y)), None if fold_N is None else fold_N[mask_N]
        )
    except UndefinedScoreError as error:
        return str(error)
    return ""
