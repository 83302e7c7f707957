"""Metrics of decided labels, from the counts of their outcomes.

Shapes: K classes or outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from poolblend.competition.metrics.scorer import Counts, UndefinedScoreError, register
from poolblend.competition.metrics.within_folds import varied_rows, within_folds


def count(y_true: np.ndarray, y_pred: np.ndarray) -> Counts:
    """The outcomes of binary decisions, all cells together."""
    tp = np.count_nonzero(y_true & y_pred)
    positive, predicted = np.count_nonzero(y_true), np.count_nonzero(y_pred)
    return Counts(tp, predicted - tp, positive - tp, y_true.size - positive - predicted + tp)


def _ratio(part: Any, whole: Any) -> Any:
    """part / whole, 0 where the whole is 0; as a number for numbers."""
    if isinstance(whole, np.ndarray):
        return np.divide(part, whole, out=np.zeros(whole.shape), where=whole != 0)
    return part / whole if whole else 0.0


def _accuracy_of(c: Counts) -> Any:
    return (c.tp + c.tn) / (c.tp + c.fp + c.fn + c.tn)


def _f1_of(c: Counts) -> Any:
    return _ratio(2.0 * c.tp, 2 * c.tp + c.fp + c.fn)


def _f1_macro_of(c: Counts) -> Any:
    """Like scikit-learn's, the mean over the classes that occur in truths or decisions."""
    negative = Counts(c.tn, c.fn, c.fp, c.tp)
    occurring = (c.tp + c.fp + c.fn > 0) * 1 + (c.tn + c.fp + c.fn > 0) * 1
    return (_f1_of(c) + _f1_of(negative)) / occurring


def _mcc_of(c: Counts) -> Any:
    # As floats: the product of four counts overflows 64 bits from 60,000 rows on.
    tp, fp, fn, tn = (np.asarray(each, dtype=np.float64) for each in c)
    spread = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
    return _ratio(tp * tn - fp * fn, np.asarray(spread))


@register(
    "accuracy",
    better="max",
    inputs="labels",
    tasks=("binary", "multiclass", "multilabel", "ordinal"),
    count_function=_accuracy_of,
)
def accuracy(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Share of rows predicted right; with several labels, all of a row's must be."""
    right = y_true == y_pred
    return np.count_nonzero(right if right.ndim == 1 else right.all(axis=1)) / len(right)


@register(
    "f1",
    better="max",
    inputs="labels",
    tasks=("binary",),
    count_function=_f1_of,
    needs_positive=True,
)
def f1(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """F1 of the positive label."""
    return _f1_of(count(y_true, y_pred))


@register(
    "f1_macro",
    better="max",
    inputs="labels",
    tasks=("binary", "multiclass", "multilabel"),
    count_function=_f1_macro_of,
    mean_of="f1",
)
def f1_macro(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean of the classes' F1."""
    if y_true.ndim == 2:
        tp_K = (y_true & y_pred).sum(axis=0)
        return float(_ratio(2.0 * tp_K, y_true.sum(axis=0) + y_pred.sum(axis=0)).mean())
    tp_K, true_K, pred_K = _hits(y_true, y_pred)
    occurring_K = true_K + pred_K > 0
    return float(_ratio(2.0 * tp_K, true_K + pred_K)[occurring_K].mean())


@register(
    "f1_micro",
    better="max",
    inputs="labels",
    tasks=("multiclass", "multilabel"),
    count_function=_f1_of,
)
def f1_micro(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """F1 over all decisions of all classes together."""
    return accuracy(y_true, y_pred) if y_true.ndim == 1 else _f1_of(count(y_true, y_pred))


@register(
    "mcc",
    better="max",
    inputs="labels",
    tasks=("binary", "multiclass"),
    count_function=_mcc_of,
    by_fold=True,
)
def mcc(y_true: np.ndarray, y_pred: np.ndarray, fold_N: np.ndarray | None = None) -> float:
    """Matthews' correlation of labels, 0 where either side is constant; folds count by rows."""
    return within_folds(_mcc, varied_rows, y_true, y_pred, fold_N)


def _mcc(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    tp_K, true_K, pred_K = (each.astype(np.float64) for each in _hits(y_true, y_pred))
    n = float(len(y_true))
    spread = np.sqrt(n**2 - pred_K @ pred_K) * np.sqrt(n**2 - true_K @ true_K)
    return float((tp_K.sum() * n - true_K @ pred_K) / spread) if spread else 0.0


@register("qwk", better="max", inputs="labels", tasks=("ordinal",), by_fold=True, by_value=True)
def qwk(y_true: np.ndarray, y_pred: np.ndarray, fold_N: np.ndarray | None = None) -> float:
    """Quadratic weighted kappa: agreement of classes by their values, beyond chance.

    Of several folds, each counts by its rows.
    """
    return within_folds(_qwk, varied_rows, y_true, y_pred, fold_N)


def _qwk(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    # With squared distances, observed and expected disagreement are moments of the labels.
    n = len(y_true)
    chance = _spread(y_true) + _spread(y_pred) + (int(y_true.sum()) - int(y_pred.sum())) ** 2
    if chance == 0:
        raise UndefinedScoreError("all labels and predictions are one class")
    gap_N = y_true - y_pred
    return 1 - n * int(gap_N @ gap_N) / chance


def _hits(y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per class (K,): the numbers of correct, true and predicted rows."""
    size = int(max(y_true.max(), y_pred.max())) + 1
    # No table of classes by classes: for thousands of classes it has millions of cells.
    right_N = y_true[y_true == y_pred]
    right_K, true_K, pred_K = (np.bincount(x, minlength=size) for x in (right_N, y_true, y_pred))
    return right_K, true_K, pred_K


def _spread(labels_N: np.ndarray) -> int:
    """N times the sum of squares less the square of the sum: N² variances, exact in integers."""
    return len(labels_N) * int(labels_N @ labels_N) - int(labels_N.sum()) ** 2
