"""Metrics, and the scorer that applies one to a task's predictions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from poolblend.competition.tasks import Task
from poolblend.errors import UserError, quoted, unknown
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
    """A registered metric: the better direction, its inputs (labels or scores), its tasks."""

    name: str
    function: Function
    better: Better
    inputs: Literal["labels", "scores"]
    tasks: tuple[str, ...]
    # The metric computed from counts of binary decisions; with it the best threshold is exact.
    count_function: Callable[[Counts], Any] | None = None
    needs_positive: bool = False  # the score depends on which label is positive
    # The metric of one output whose mean over outputs this is, or that it increases with. Outputs
    # can then have separate weights.
    mean_of: str | None = None
    rank_based: bool = False  # only the order of the predictions counts
    # The metric compares rows with each other. Its function accepts `fold_N` and compares rows of
    # the same fold only, because predictions of different models have no common scale.
    by_fold: bool = False
    by_value: bool = False  # ordinal labels are given as `Task.steps_C`, not as indices
    share_function: Function | None = None  # the metric of a multiclass task's shares (N, K)


METRICS: Registry[Metric] = Registry("metric")


def register(
    name: str,
    *,
    better: Better,
    inputs: Literal["labels", "scores"],
    tasks: tuple[str, ...],
    **properties: Any,
) -> Callable[[Function], Function]:
    """Decorator that registers a function (y_true, y_pred) -> float under `name`.

    `properties` are further fields of `Metric`. With `by_fold` the function also accepts `fold_N`,
    (N,) or None for rows of one model.
    """

    def enter(function: Function) -> Function:
        METRICS.add(name, Metric(name, function, better, inputs, tasks, **properties))
        return function

    return enter


class UndefinedScoreError(UserError):
    """A score that is undefined on these rows, such as the AUC of rows of one class."""

    def __init__(self, reason: str, column: int = 0) -> None:
        super().__init__(reason)
        self.column = column


@dataclass(frozen=True)
class Scorer:
    """A metric bound to a task: scores pred_NK against y as `Task.encode` writes it.

    A multiclass task's y may also be shares (N, K) where the metric has `share_function`. With
    `by`, a column, the score is the mean over the groups of its values; y is then (N, 2), encoded
    targets and numbers of groups.
    """

    metric: Metric
    task: Task
    by: str | None = None

    @property
    def name(self) -> str:
        """The metric's name."""
        return self.metric.name

    @property
    def label(self) -> str:
        """What a reader is told: the metric, and the column whose groups it is averaged over."""
        return self.name if self.by is None else f"{self.name} by {self.by}"

    @property
    def better(self) -> Better:
        """Whether "max" or "min" is the better score."""
        return self.metric.better

    def truth(self, frame: pd.DataFrame) -> np.ndarray:
        """What predictions are scored against: encoded targets, or shares where rows are shared and
        the metric supports shares; with `by`, the groups' numbers besides.
        """
        if self.by is not None:
            return np.column_stack([self.task.encode(frame), self._numbered_groups(frame)])
        if self.task.one_hot and self.metric.share_function:
            share_NK = self.task.shares(frame)
            if (share_NK.max(axis=1) < 1).any():
                return share_NK
        return self.task.encode(frame)

    def metric_inputs(self, pred_NK: np.ndarray, cuts: np.ndarray | None = None) -> np.ndarray:
        """What the metric compares with y: scores, or labels decided at `cuts`.

        Raises UserError for predictions that are NaN or infinite.
        """
        if not np.isfinite(pred_NK).all():
            bad_NK = ~np.isfinite(pred_NK)
            row, column = np.argwhere(bad_NK)[0]
            raise UserError(
                f"{bad_NK.sum()} predictions are NaN or infinite, the first of "
                f"'{self.task.outputs[column]}' at position {row}; make them again"
            )
        if self.metric.inputs == "labels":
            return self.task.labels(pred_NK, cuts)
        return pred_NK[:, 0] if self.task.kind == "binary" else pred_NK

    def score_inputs(
        self, y: np.ndarray, inputs: np.ndarray, fold_N: np.ndarray | None = None
    ) -> float:
        """The metric of `metric_inputs`; raises UndefinedScoreError where it is undefined.

        Out-of-fold predictions need their folds `fold_N`: a metric that compares rows with each
        other is computed within folds and averaged. None: one model predicted all rows.
        """
        if self.by is not None:
            return self._mean_over_groups(y, inputs, fold_N)
        steps_C = self.task.steps_C if self.metric.by_value else None
        if steps_C is not None and steps_C[-1] >= len(steps_C):  # without gaps, steps are indices
            y, inputs = steps_C[y], steps_C[inputs]
        function = self.metric.function
        if self.task.kind == "multiclass" and y.ndim == 2 and self.metric.share_function:
            function = self.metric.share_function
        try:
            if fold_N is not None and self.metric.by_fold:
                return float(function(y, inputs, fold_N))
            return float(function(y, inputs))
        except UndefinedScoreError as error:
            raise UndefinedScoreError(
                f"{self.name} of '{self.task.outputs[error.column]}' is undefined on these "
                f"{len(y)} rows: {error}",
                error.column,
            ) from None

    def check_groups(self, frame: pd.DataFrame) -> None:
        """Raise UserError for a group of `by` whose rows alone have no score."""
        y_N2 = self.truth(frame)
        for group, value in enumerate(np.unique(frame[self.by].to_numpy(str))):
            y_N = y_N2[y_N2[:, 1] == group, 0]
            try:
                replace(self, by=None).score_inputs(y_N, y_N.astype(np.float64))
            except UndefinedScoreError as error:
                raise UserError(
                    f"metric_by: within {self.by} {quoted(value)} {error}; leave these rows out, "
                    "or choose another column"
                ) from None

    def _numbered_groups(self, frame: pd.DataFrame) -> np.ndarray:
        """Numbers (N,) of the groups, in the sorted order of their values."""
        if self.by not in frame:
            raise unknown("column", self.by, map(str, frame.columns), "in metric_by")
        cells = frame[self.by]
        empty = int((cells.isna() | (cells.astype(str).str.strip() == "")).sum())
        if empty:
            raise UserError(f"metric_by: column '{self.by}' has {empty} empty cells; fill them")
        return np.unique(frame[self.by].to_numpy(str), return_inverse=True)[1]

    def _mean_over_groups(
        self, y_N2: np.ndarray, inputs: np.ndarray, fold_N: np.ndarray | None
    ) -> float:
        """The mean of the groups' scores, without those that have none on this part of the rows."""
        alone, undefined = replace(self, by=None), None
        scores: list[float] = []
        for group in np.unique(y_N2[:, 1]):
            rows_N = y_N2[:, 1] == group
            held_N = None if fold_N is None else fold_N[rows_N]
            try:
                scores.append(alone.score_inputs(y_N2[rows_N, 0], inputs[rows_N], held_N))
            except UndefinedScoreError as error:
                undefined = error
        if not scores and undefined is not None:
            raise undefined
        return float(np.mean(scores))

    def loss_inputs(
        self, y: np.ndarray, inputs: np.ndarray, fold_N: np.ndarray | None = None
    ) -> float:
        """The score of `metric_inputs`, negated where more is better: always to be minimised."""
        score = self.score_inputs(y, inputs, fold_N)
        return -score if self.better == "max" else score

    def loss_or_inf(
        self, y: np.ndarray, inputs: np.ndarray, fold_N: np.ndarray | None = None
    ) -> float:
        """The loss of `metric_inputs`, infinite where the metric is undefined."""
        try:
            return self.loss_inputs(y, inputs, fold_N)
        except UndefinedScoreError:
            return math.inf

    def score(self, y: np.ndarray, pred_NK: np.ndarray, cuts: np.ndarray | None = None) -> float:
        """The metric; raises UndefinedScoreError, a UserError, where it is undefined."""
        return self.score_inputs(y, self.metric_inputs(pred_NK, cuts))

    def loss(self, y: np.ndarray, pred_NK: np.ndarray, cuts: np.ndarray | None = None) -> float:
        """The score, negated where more is better: always to be minimised."""
        return self.loss_inputs(y, self.metric_inputs(pred_NK, cuts))

    def of_output(self, k: int) -> Scorer:
        """The scorer of the k-th output alone, whose mean over outputs this one is.

        Raises UserError where the metric is not such a mean, or the outputs are one decision.
        """
        kind = {"multilabel": "binary", "regression": "regression"}.get(self.task.kind)
        if len(self.task.outputs) == 1:
            return self
        if kind is None or self.metric.mean_of is None:
            raise UserError(
                f"{self.name} of a {self.task.kind} task is not a mean over its outputs, so they "
                "cannot have separate weights; use blend.weights=shared"
            )
        classes = (0, 1) if kind == "binary" else ()
        return make_scorer(self.metric.mean_of, Task(kind, (self.task.targets[k],), classes))


def make_scorer(metric: str, task: Task, by: str | None = None) -> Scorer:
    """The scorer of a registered metric, with `by` its mean over the groups of a column's values.

    Raises UserError where the metric does not fit the task, or has no mean over groups.
    """
    entry = METRICS[metric]
    if task.kind not in entry.tasks:
        fitting = ", ".join(name for name in METRICS if task.kind in METRICS[name].tasks)
        raise UserError(
            f"metric '{metric}' does not fit a {task.kind} task; choose one of: {fitting}"
        )
    if by is not None and (task.kind != "binary" or entry.inputs != "scores"):
        able = [name for name in METRICS if METRICS[name].inputs == "scores"]
        fitting = ", ".join(name for name in able if "binary" in METRICS[name].tasks)
        raise UserError(
            f"metric_by={by} is for a binary task's {fitting}, this is {metric} of a {task.kind} "
            "task; leave it out"
        )
    return Scorer(entry, task, by)
