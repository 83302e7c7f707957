"""Metrics by name, and the scorer that applies one to a task's predictions.

A metric is a function (y_true, y_pred) -> float under `@register`; its docstring's first line is
what `--help` shows. It sees y as `Task.encode` writes it. With takes="labels", y_pred is of the
same shape; with takes="scores" it is the predictions themselves, a vector for binary.

Legend: N rows, K model outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata
from sklearn import metrics as sk

from poolblend.competition.tasks import Task
from poolblend.errors import UserError
from poolblend.registry import Registry

Function = Callable[[np.ndarray, np.ndarray], float]
Better = Literal["max", "min"]

# Predictions are computed in float32, which cannot tell 1 - 6e-8 from 1.
SMALLEST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Metric:
    """A registered metric: which direction is better, what it takes, and which tasks it fits."""

    name: str
    function: Function
    better: Better
    takes: Literal["labels", "scores"]
    tasks: tuple[str, ...]


METRICS: Registry[Metric] = Registry("metric")


def register(
    name: str, *, better: Better, takes: Literal["labels", "scores"], tasks: tuple[str, ...]
) -> Callable[[Function], Function]:
    """Decorator that enters a function (y_true, y_pred) -> float under `name`."""

    def enter(function: Function) -> Function:
        METRICS.add(name, Metric(name, function, better, takes, tasks))
        return function

    return enter


class UndefinedScoreError(UserError):
    """A score that has no value on these rows, such as the AUC where all are of one class."""

    def __init__(self, reason: str, column: int = 0) -> None:
        super().__init__(reason)
        self.column = column


@dataclass(frozen=True)
class Scorer:
    """A metric bound to a task: scores pred_NK against y as `Task.encode` writes it."""

    metric: Metric
    task: Task

    @property
    def name(self) -> str:
        """The metric's name."""
        return self.metric.name

    @property
    def better(self) -> Better:
        """Whether "max" or "min" is the better score."""
        return self.metric.better

    def score(self, y: np.ndarray, pred_NK: np.ndarray) -> float:
        """The metric itself; raises UndefinedScoreError, a UserError, where it has no value."""
        bad_NK = ~np.isfinite(pred_NK)
        if bad_NK.any():
            row, column = np.argwhere(bad_NK)[0]
            raise UserError(
                f"{bad_NK.sum()} predictions are NaN or infinite, the first of "
                f"'{self.task.outputs[column]}' at position {row}; make them again"
            )
        try:
            return float(self.metric.function(y, self._taken(pred_NK)))
        except UndefinedScoreError as error:
            raise UndefinedScoreError(
                f"{self.name} of '{self.task.outputs[error.column]}' is undefined on these "
                f"{len(y)} rows: {error}",
                error.column,
            ) from None

    def loss(self, y: np.ndarray, pred_NK: np.ndarray) -> float:
        """The score, negated where more is better: always to be minimised."""
        score = self.score(y, pred_NK)
        return -score if self.better == "max" else score

    def smooth_loss(self, y: np.ndarray, pred_NK: np.ndarray) -> float:
        """A loss with a gradient, whatever the metric: log loss, or mean squared error."""
        if self.task.kind == "regression":
            return float(np.mean((y - pred_NK) ** 2))
        return log_loss(y, pred_NK[:, 0] if self.task.kind == "binary" else pred_NK)

    def _taken(self, pred_NK: np.ndarray) -> np.ndarray:
        if self.metric.takes == "labels":
            return self.task.labels(pred_NK)
        return pred_NK[:, 0] if self.task.kind == "binary" else pred_NK


def make_scorer(metric: str, task: Task) -> Scorer:
    """The scorer of a registered metric; raises UserError where it does not fit the task."""
    entry = METRICS[metric]
    if task.kind not in entry.tasks:
        fitting = ", ".join(name for name in METRICS if task.kind in METRICS[name].tasks)
        raise UserError(
            f"metric '{metric}' does not fit a {task.kind} task; choose one of: {fitting}"
        )
    return Scorer(entry, task)


@register("accuracy", better="max", takes="labels", tasks=("binary", "multiclass", "multilabel"))
def accuracy(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Share of rows predicted right; with several labels, all of a row's must be."""
    return sk.accuracy_score(y_true, y_pred)


@register("f1", better="max", takes="labels", tasks=("binary",))
def f1(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """F1 of the positive label."""
    return sk.f1_score(y_true, y_pred, zero_division=0.0)


@register("f1_macro", better="max", takes="labels", tasks=("binary", "multiclass", "multilabel"))
def f1_macro(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean of the classes' F1."""
    return sk.f1_score(y_true, y_pred, average="macro", zero_division=0.0)


@register("f1_micro", better="max", takes="labels", tasks=("multiclass", "multilabel"))
def f1_micro(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """F1 over all decisions of all classes together."""
    return sk.f1_score(y_true, y_pred, average="micro", zero_division=0.0)


@register("log_loss", better="min", takes="scores", tasks=("binary", "multiclass", "multilabel"))
def log_loss(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean negative log of the probability given to the truth."""
    clipped = np.clip(y_pred, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    if y_pred.ndim > y_true.ndim:
        of_truth_N = clipped[np.arange(len(y_true)), y_true] / clipped.sum(axis=1)
        return float(-np.log(of_truth_N).mean())
    return float(-np.log(np.where(y_true == 1, clipped, 1 - clipped)).mean())


@register("roc_auc", better="max", takes="scores", tasks=("binary",))
def roc_auc(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive row ranks above a negative one."""
    if np.ptp(y_true) == 0:
        raise UndefinedScoreError("all rows are of one class")
    return sk.roc_auc_score(y_true, y_pred)


@register("roc_auc_macro", better="max", takes="scores", tasks=("multiclass", "multilabel"))
def roc_auc_macro(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean of the classes' areas under the ROC curve, each class against the rest."""
    K = y_pred.shape[1]
    y_NK = y_true if y_true.ndim == 2 else y_true[:, None] == np.arange(K)
    return _mean_over_columns(roc_auc, y_NK.astype(np.int64), y_pred)


@register("mcc", better="max", takes="labels", tasks=("binary", "multiclass"))
def mcc(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Matthews' correlation of labels, 0 where either side is constant."""
    if np.ptp(y_true) == 0 or np.ptp(y_pred) == 0:
        return 0.0
    return sk.matthews_corrcoef(y_true, y_pred)


@register("rmse", better="min", takes="scores", tasks=("regression",))
def rmse(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Root of the mean squared error over all targets together."""
    return float(np.sqrt(np.mean((y_true - y_pred) ** 2)))


@register("mcrmse", better="min", takes="scores", tasks=("regression",))
def mcrmse(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean of the targets' root mean squared errors."""
    return float(np.sqrt(np.mean((y_true - y_pred) ** 2, axis=0)).mean())


@register("mae", better="min", takes="scores", tasks=("regression",))
def mae(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(y_true - y_pred)))


@register("pearson", better="max", takes="scores", tasks=("regression",))
def pearson(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Pearson correlation, mean over targets."""
    return _mean_over_columns(_correlation, y_true, y_pred)


@register("spearman", better="max", takes="scores", tasks=("regression",))
def spearman(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Spearman rank correlation, mean over targets."""
    return _mean_over_columns(_correlation, rankdata(y_true, axis=0), rankdata(y_pred, axis=0))


def _correlation(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    for side, values in (("targets", y_true), ("predictions", y_pred)):
        if np.ptp(values) == 0:
            raise UndefinedScoreError(f"all {side} are equal")
    return float(np.corrcoef(y_true, y_pred)[0, 1])


def _mean_over_columns(function: Function, y_NK: np.ndarray, pred_NK: np.ndarray) -> float:
    values = []
    for k in range(pred_NK.shape[1]):
        try:
            values.append(function(y_NK[:, k], pred_NK[:, k]))
        except UndefinedScoreError as error:
            raise UndefinedScoreError(str(error), column=k) from None
    return float(np.mean(values))
