"""What a metric is, and the scorer that applies one to a task's predictions.

Legend: N rows, K model outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from poolblend.competition.tasks import Task
from poolblend.errors import UserError
from poolblend.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

Function = Callable[..., float]  # (y_true, y_pred), and fold_N where it is scored by fold
Better = Literal["max", "min"]


class Counts(NamedTuple):
    """Binary decisions by outcome, as numbers or arrays: true and false positives, negatives."""

    tp: Any
    fp: Any
    fn: Any
    tn: Any


@dataclass(frozen=True)
class Metric:
    """A registered metric: which direction is better, what it takes, and which tasks it fits."""

    name: str
    function: Function
    better: Better
    takes: Literal["labels", "scores"]
    tasks: tuple[str, ...]
    # The metric of binary decisions from their counts, which gives the best threshold exactly.
    of_counts: Callable[[Counts], Any] | None = None
    of_positive: bool = False  # the two labels do not count alike
    # The metric of one output that this one averages over outputs, or grows with: then each output
    # can have weights of its own.
    mean_of: str | None = None
    of_order: bool = False  # only the order of the predictions counts
    # The metric compares rows with each other. Its function takes `fold_N` and compares rows of the
    # same fold only, because predictions of different models have no scale in common.
    by_fold: bool = False
    by_value: bool = False  # it takes ordinal labels as `Task.steps_C`, and not as indices
    of_shares: Function | None = None  # the metric of a multiclass task's shares (N, K)


METRICS: Registry[Metric] = Registry("metric")


def register(
    name: str,
    *,
    better: Better,
    takes: Literal["labels", "scores"],
    tasks: tuple[str, ...],
    **properties: Any,
) -> Callable[[Function], Function]:
    """Decorator that enters a function (y_true, y_pred) -> float under `name`.

    `properties` are further fields of `Metric`. With `by_fold` the function also takes `fold_N`,
    (N,) or None for rows of one model.
    """

    def enter(function: Function) -> Function:
        METRICS.add(name, Metric(name, function, better, takes, tasks, **properties))
        return function

    return enter


class UndefinedScoreError(UserError):
    """A score that has no value on these rows, such as the AUC where all are of one class."""

    def __init__(self, reason: str, column: int = 0) -> None:
        super().__init__(reason)
        self.column = column


@dataclass(frozen=True)
class Scorer:
    """A metric bound to a task: scores pred_NK against y as `Task.encode` writes it.

    A multiclass task's y may also be shares (N, K) where the metric has `of_shares`.
    """

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

    def truth(self, frame: pd.DataFrame) -> np.ndarray:
        """The targets as the metric takes them: encoded, or as shares if some are and it can."""
        if self.task.one_hot and self.metric.of_shares:
            share_NK = self.task.shares(frame)
            if (share_NK.max(axis=1) < 1).any():
                return share_NK
        return self.task.encode(frame)

    def take(self, pred_NK: np.ndarray, cuts: np.ndarray | None = None) -> np.ndarray:
        """What the metric takes: labels, decided at `cuts` (default: the task's), or scores.

        Raises UserError for predictions that are NaN or infinite.
        """
        if not np.isfinite(pred_NK).all():
            bad_NK = ~np.isfinite(pred_NK)
            row, column = np.argwhere(bad_NK)[0]
            raise UserError(
                f"{bad_NK.sum()} predictions are NaN or infinite, the first of "
                f"'{self.task.outputs[column]}' at position {row}; make them again"
            )
        if self.metric.takes == "labels":
            return self.task.labels(pred_NK, cuts)
        return pred_NK[:, 0] if self.task.kind == "binary" else pred_NK

    def score_taken(
        self, y: np.ndarray, taken: np.ndarray, fold_N: np.ndarray | None = None
    ) -> float:
        """The metric of what `take` gave; raises UndefinedScoreError where it has no value.

        Out-of-fold predictions need their folds `fold_N`: a metric that compares rows with each
        other is then taken within folds and averaged. None: one model predicted all rows.
        """
        steps_C = self.task.steps_C if self.metric.by_value else None
        if steps_C is not None and steps_C[-1] >= len(steps_C):  # with a gap; else they are places
            y, taken = steps_C[y], steps_C[taken]
        function = self.metric.function
        if self.task.kind == "multiclass" and y.ndim == 2 and self.metric.of_shares:
            function = self.metric.of_shares
        try:
            if fold_N is not None and self.metric.by_fold:
                return float(function(y, taken, fold_N))
            return float(function(y, taken))
        except UndefinedScoreError as error:
            raise UndefinedScoreError(
                f"{self.name} of '{self.task.outputs[error.column]}' is undefined on these "
                f"{len(y)} rows: {error}",
                error.column,
            ) from None

    def loss_taken(
        self, y: np.ndarray, taken: np.ndarray, fold_N: np.ndarray | None = None
    ) -> float:
        """The score of what `take` gave, negated where more is better: always to be minimised."""
        score = self.score_taken(y, taken, fold_N)
        return -score if self.better == "max" else score

    def loss_or_inf(
        self, y: np.ndarray, taken: np.ndarray, fold_N: np.ndarray | None = None
    ) -> float:
        """The loss of what `take` gave, infinite where the metric has no value."""
        try:
            return self.loss_taken(y, taken, fold_N)
        except UndefinedScoreError:
            return math.inf

    def score(self, y: np.ndarray, pred_NK: np.ndarray, cuts: np.ndarray | None = None) -> float:
        """The metric itself; raises UndefinedScoreError, a UserError, where it has no value."""
        return self.score_taken(y, self.take(pred_NK, cuts))

    def loss(self, y: np.ndarray, pred_NK: np.ndarray, cuts: np.ndarray | None = None) -> float:
        """The score, negated where more is better: always to be minimised."""
        return self.loss_taken(y, self.take(pred_NK, cuts))

    def of_output(self, k: int) -> Scorer:
        """The scorer of the k-th output alone, whose mean over outputs this one is.

        Raises UserError where the metric is no such mean, or the outputs are one decision.
        """
        kind = {"multilabel": "binary", "regression": "regression"}.get(self.task.kind)
        if len(self.task.outputs) == 1:
            return self
        if kind is None or self.metric.mean_of is None:
            raise UserError(
                f"{self.name} of a {self.task.kind} task is no mean over its outputs, so they "
                "cannot have weights of their own; use blend.weights=shared"
            )
        classes = (0, 1) if kind == "binary" else ()
        return make_scorer(self.metric.mean_of, Task(kind, (self.task.targets[k],), classes))


def make_scorer(metric: str, task: Task) -> Scorer:
    """The scorer of a registered metric; raises UserError where it does not fit the task."""
    entry = METRICS[metric]
    if task.kind not in entry.tasks:
        fitting = ", ".join(name for name in METRICS if task.kind in METRICS[name].tasks)
        raise UserError(
            f"metric '{metric}' does not fit a {task.kind} task; choose one of: {fitting}"
        )
    return Scorer(entry, task)
