"""The score of some rows' predictions, where the metric has one, and how it is shown.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import numpy as np

from poolblend.competition.metrics import UndefinedScoreError
from poolblend.loading.competition import Competition


def score(competition: Competition, rows: np.ndarray, pred_NK: np.ndarray) -> float | None:
    """The score of these rows; None where the metric is undefined: that costs no fold model."""
    try:
        scorer, fold_N = competition.scorer, competition.fold_N
        taken = scorer.take(pred_NK)
        return scorer.score_taken(competition.scored[rows], taken, fold_N[rows])
    except UndefinedScoreError:
        return None


def why_undefined(competition: Competition, rows: np.ndarray, pred_NK: np.ndarray) -> str:
    """Why the metric has no value on these rows, in a few words."""
    try:
        competition.scorer.score(competition.scored[rows], pred_NK)
    except UndefinedScoreError as error:
        return str(error).rpartition(": ")[2]
    return ""


def shown(score: float | None) -> str:
    return "undefined" if score is None else f"{score:.4f}"
