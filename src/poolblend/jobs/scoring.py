"""The score of some rows' predictions, where the metric has one, and how it is shown."""

from __future__ import annotations

import numpy as np
import pandas as pd

from poolblend.cards.card import DamagedError
from poolblend.competition.metrics import UndefinedScoreError
from poolblend.loading.competition import Competition
from poolblend.store import Store
from poolblend.store.predictions import from_table


def score(competition: Competition, rows: np.ndarray, pred_NK: np.ndarray) -> float | None:
    """The score of these rows; None where the metric is undefined: that costs no fold model."""
    if not len(rows):
        return None
    try:
        scorer, fold_N = competition.scorer, competition.fold_N
        inputs = scorer.metric_inputs(competition.only_possible(rows, pred_NK))
        return scorer.score_inputs(competition.scored[rows], inputs, fold_N[rows])
    except UndefinedScoreError:
        return None


def why_undefined(competition: Competition, rows: np.ndarray, pred_NK: np.ndarray) -> str:
    """Why the metric has no value on these rows, in a few words."""
    try:
        pred_NK = competition.only_possible(rows, pred_NK)
        competition.scorer.score(competition.scored[rows], pred_NK)
    except UndefinedScoreError as error:
        return str(error).rpartition(": ")[2]
    return ""


def oof_score(competition: Competition, store: Store, member: str) -> str:
    """The member's score over all rows, as it is shown; "" until all its folds are finished."""
    folds = [store.fold(member, fold) for fold in range(competition.n_folds)]
    try:
        if any(fold.card() is None for fold in folds):
            return ""
    except DamagedError:  # not of the folds that the command trains: those are checked
        return ""
    tables = competition.tables
    oof = pd.concat([fold.oof() for fold in folds])
    pred_NK = from_table(oof, tables.train[tables.id], competition.task.outputs)
    return shown(score(competition, np.arange(len(pred_NK)), pred_NK))


def shown(score: float | None) -> str:
    return "undefined" if score is None else f"{score:.4f}"
