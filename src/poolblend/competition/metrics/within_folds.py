"""Metrics that compare rows with each other, computed within each fold and averaged.

Out-of-fold predictions come from another model in each fold, and a blend's honest ones also from
other weights and cuts. Where folds differ in their share of positives or in their mean, comparing
rows of two folds compares two models: uninformative members then score far from chance. AUC,
correlations and agreement corrected for chance are therefore computed within folds (Forman and
Scholz, Apples-to-apples in cross-validation studies, 2010).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from poolblend.competition.metrics.scorer import UndefinedScoreError


def within_folds(
    function: Callable[[np.ndarray, np.ndarray], float],
    weight: Callable[[np.ndarray], int],
    y_true: np.ndarray,
    y_pred: np.ndarray,
    fold_N: np.ndarray | None,
) -> float:
    """The mean of the folds' values, each counted by the `weight` of its true targets.

    A fold of weight 0 is left out. `fold_N` None: all rows are one fold. Raises UndefinedScoreError
    where no fold has a weight, or where `function` has no value on a fold that has.
    """
    if fold_N is None:
        return function(y_true, y_pred)
    total, weights = 0.0, 0
    for fold in np.flatnonzero(np.bincount(fold_N)):
        rows_N = fold_N == fold
        weight_of_fold = weight(y_true[rows_N])
        if weight_of_fold:
            total += weight_of_fold * function(y_true[rows_N], y_pred[rows_N])
            weights += weight_of_fold
    if not weights:
        raise UndefinedScoreError("within each fold all rows have the same target")
    return total / weights


def pairs(y_true: np.ndarray) -> int:
    """How many pairs of a positive and a negative row there are."""
    n_positive = int(np.count_nonzero(y_true))
    return n_positive * (len(y_true) - n_positive)


def varied_rows(y_true: np.ndarray) -> int:
    """The number of rows, 0 where all have the same target."""
    return len(y_true) if np.ptp(y_true) else 0
