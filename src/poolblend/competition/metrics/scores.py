"""Metrics of the predictions themselves: probabilities, rankings, values.

Shapes: P positive rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from poolblend.competition.metrics.scorer import Function, UndefinedScoreError, register
from poolblend.competition.metrics.within_folds import pairs, varied_rows, within_folds

# Predictions are computed in float32, which cannot tell 1 - 6e-8 from 1.
SMALLEST_PROBABILITY = 1e-7


def _cross_entropy(share_NK: np.ndarray, y_pred: np.ndarray) -> float:
    clipped = np.clip(y_pred, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    log_NK = np.log(clipped / clipped.sum(axis=1, keepdims=True))
    return float(-(share_NK * log_NK).sum(axis=1).mean())


@register(
    "log_loss",
    better="min",
    inputs="scores",
    tasks=("binary", "multiclass", "multilabel"),
    mean_of="log_loss",
    share_function=_cross_entropy,
)
def log_loss(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean negative log of the probability given to the truth."""
    clipped = np.clip(y_pred, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    if y_pred.ndim > y_true.ndim:
        of_truth_N = clipped[np.arange(len(y_true)), y_true] / clipped.sum(axis=1)
        return float(-np.log(of_truth_N).mean())
    return float(-np.log(np.where(y_true == 1, clipped, 1 - clipped)).mean())


@register(
    "roc_auc", better="max", inputs="scores", tasks=("binary",), rank_based=True, by_fold=True
)
def roc_auc(y_true: np.ndarray, y_pred: np.ndarray, fold_N: np.ndarray | None = None) -> float:
    """Area under the ROC curve: how often a positive row ranks above a negative one.

    Of several folds: of all pairs within a fold, so each fold counts by its number of pairs.
    """
    return within_folds(_auc, pairs, y_true, y_pred, fold_N)


def _auc(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    n_pairs = pairs(y_true)
    if n_pairs == 0:
        raise UndefinedScoreError("all rows are of one class")
    won = _pairs_won(y_true, y_pred)
    if won is None:
        negative_N = np.sort(y_pred[y_true == 0])
        positive_N = np.sort(y_pred[y_true == 1])
        below = np.searchsorted(negative_N, positive_N, side="left").sum()
        won = (below + np.searchsorted(negative_N, positive_N, side="right").sum()) / 2
    return float(won / n_pairs)


@register(
    "roc_auc_macro",
    better="max",
    inputs="scores",
    tasks=("multiclass", "multilabel"),
    mean_of="roc_auc",
    rank_based=True,
    by_fold=True,
)
def roc_auc_macro(
    y_true: np.ndarray, y_pred: np.ndarray, fold_N: np.ndarray | None = None
) -> float:
    """Mean of the classes' areas under the ROC curve, each class against the rest."""
    K = y_pred.shape[1]
    y_NK = y_true if y_true.ndim == 2 else y_true[:, None] == np.arange(K)
    return _mean_over_columns(_auc, pairs, y_NK.astype(np.int64), y_pred, fold_N)


def _mean_of_inverse_places(y_true: np.ndarray, y_pred: np.ndarray, k: int) -> float:
    """The mean of 1 / place of each row's class among the k most probable, 0 where it is not.

    Of equal probabilities the first class comes first, as in a submission's cells.
    """
    own_N = np.take_along_axis(y_pred, y_true[:, None], axis=1)
    first_NK = np.arange(y_pred.shape[1]) < y_true[:, None]
    place_N = 1 + ((y_pred > own_N) | ((y_pred == own_N) & first_NK)).sum(axis=1)
    return float(np.where(place_N <= k, 1 / place_N, 0.0).mean())


@register("map3", better="max", inputs="scores", tasks=("multiclass",))
def map3(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """MAP@3: mean of 1 / place of the true class, 0 where it is not among the 3 most probable."""
    return _mean_of_inverse_places(y_true, y_pred, 3)


@register("map5", better="max", inputs="scores", tasks=("multiclass",))
def map5(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """MAP@5: the same of the 5 most probable classes."""
    return _mean_of_inverse_places(y_true, y_pred, 5)


@register("map25", better="max", inputs="scores", tasks=("multiclass",))
def map25(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """MAP@25: the same of the 25 most probable classes."""
    return _mean_of_inverse_places(y_true, y_pred, 25)


@register("rmse", better="min", inputs="scores", tasks=("regression",), mean_of="rmse")
def rmse(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Root of the mean squared error over all targets together."""
    return float(np.sqrt(np.mean((y_true - y_pred) ** 2)))


@register("mcrmse", better="min", inputs="scores", tasks=("regression",), mean_of="mcrmse")
def mcrmse(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean of the targets' root mean squared errors."""
    gap_NK = y_true - y_pred
    return float(np.sqrt(np.einsum("nk,nk->k", gap_NK, gap_NK) / len(gap_NK)).mean())


@register("mae", better="min", inputs="scores", tasks=("regression",), mean_of="mae")
def mae(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(y_true - y_pred)))


@register(
    "pearson", better="max", inputs="scores", tasks=("regression",), mean_of="pearson", by_fold=True
)
def pearson(y_true: np.ndarray, y_pred: np.ndarray, fold_N: np.ndarray | None = None) -> float:
    """Pearson correlation, mean over targets; of several folds, each counts by its rows."""
    return _mean_over_columns(_correlation, varied_rows, y_true, y_pred, fold_N)


@register(
    "spearman",
    better="max",
    inputs="scores",
    tasks=("regression",),
    mean_of="spearman",
    rank_based=True,
    by_fold=True,
)
def spearman(y_true: np.ndarray, y_pred: np.ndarray, fold_N: np.ndarray | None = None) -> float:
    """Spearman rank correlation, mean over targets; of several folds, each counts by its rows."""
    return _mean_over_columns(_rank_correlation, varied_rows, y_true, y_pred, fold_N)


def _rank_correlation(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    return _correlation(rankdata(y_true), rankdata(y_pred))


def _pairs_won(y_true: np.ndarray, y_pred: np.ndarray) -> int | None:
    """How many pairs of a positive and a negative row are in order; None where scores are tied.

    The label replaces the last bit of each score, so that sorting integers is enough: several times
    as fast as an argsort. Scores that differ only in this bit count as tied.
    """
    score_N = np.ascontiguousarray(y_pred, dtype=np.float64)
    if score_N.min() < 0:  # the order of the bits is then not the order of the values
        return None
    bit = np.uint64(1)
    key_N = (score_N + 0.0).view(np.uint64)  # a copy, without -0.0
    key_N &= ~bit
    key_N |= y_true != 0
    key_N.sort()
    if (key_N[1:] ^ key_N[:-1]).min() <= bit:
        return None
    key_N &= bit
    place_P = np.flatnonzero(key_N.astype(bool))  # of each positive row, among all
    return int(place_P.sum()) - len(place_P) * (len(place_P) - 1) // 2


def _correlation(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    for side, values in (("targets", y_true), ("predictions", y_pred)):
        if np.ptp(values) == 0:
            raise UndefinedScoreError(f"all {side} are equal")
    return float(np.corrcoef(y_true, y_pred)[0, 1])


def _mean_over_columns(
    function: Function,
    weight: Callable[[np.ndarray], int],
    y_NK: np.ndarray,
    pred_NK: np.ndarray,
    fold_N: np.ndarray | None,
) -> float:
    values = []
    for k in range(pred_NK.shape[1]):
        try:
            values.append(within_folds(function, weight, y_NK[:, k], pred_NK[:, k], fold_N))
        except UndefinedScoreError as error:
            raise UndefinedScoreError(str(error), column=k) from None
    return float(np.mean(values))
