"""The task: target columns become arrays for training, predictions become labels.

Predictions are always pred_NK: probabilities for classification (K = 1 for binary: the positive
label's), values for regression, and for an ordinal task values on the scale of its classes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic.dataclasses import dataclass

from poolblend.competition.cells import normalise_shares
from poolblend.competition.classes import Label, class_indices, find_classes, listed
from poolblend.errors import UserError, unknown

if TYPE_CHECKING:
    import pandas as pd

TRUTHS = ("true", "false", "yes", "no")
KINDS = ("binary", "multiclass", "multilabel", "regression", "ordinal")
MOST_STEPS = 1_000_000  # of an ordinal scale: squares of more overflow
SINGLE = ("binary", "multiclass", "ordinal")  # kinds of one target, whose values are classes


@dataclass(frozen=True)
class Task:
    """A kind of task and its target columns; `make_task` derives it from the train table.

    A card can hold a task as a field: it is checked when it is read.

    `classes` are the original labels: (negative, positive) for binary, all in sorted order for
    multiclass and ordinal (where they are numbers), none for the other kinds. Classes that the
    config lists may be absent from train. In a multiclass task with several targets, each target
    is a class, and its column holds the class's share of the row, mostly 0 or 1.
    """

    kind: str
    targets: tuple[str, ...]
    classes: tuple[Label, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON holds them; `Task(**fields)` is the same task again."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the K outputs: the classes for multiclass, else the targets."""
        if self.kind == "multiclass":
            return tuple(str(label) for label in self.classes)
        return self.targets

    def encode(self, frame: pd.DataFrame) -> np.ndarray:
        """The targets as numbers.

        int64 (N,) of 0 and 1 for binary and of class indices for multiclass and ordinal, int64
        (N, K) of 0 and 1 for multilabel, float64 (N, K) for regression. A row that is shared among
        classes gets the class of the largest share, the first of equal ones. Raises UserError for
        an unknown value.
        """
        if self.one_hot:
            return self.hard(self.shares(frame))
        if self.classes:
            return self._encode_classes(frame[self.targets[0]])
        columns = [_numbers(frame[target], self.kind) for target in self.targets]
        y_NK = np.stack(columns, axis=1)
        return y_NK.astype(np.int64) if self.kind == "multilabel" else y_NK

    @property
    def one_hot(self) -> bool:
        """Whether each class has its own target column."""
        return self.kind == "multiclass" and len(self.targets) > 1

    def shares(self, frame: pd.DataFrame) -> np.ndarray:
        """The classes' shares of each row of a `one_hot` task, float64 (N, K), which sum to 1.

        Raises UserError for a cell that is not a share, and for a row with another sum.
        """
        columns = [_numbers(frame[target], self.kind) for target in self.targets]
        place = f"target columns {listed(self.targets)}: row"
        remedy = (
            "correct the row, or use task=multilabel where a row may have several labels or none"
        )
        return normalise_shares(np.stack(columns, axis=1), frame.index.tolist(), place, remedy)

    def hard(self, y: np.ndarray) -> np.ndarray:
        """What a scorer compares with, as `encode` writes it: shares, or targets beside groups."""
        if self.kind == "binary" and y.ndim == 2:
            return y[:, 0]
        return y.argmax(axis=1) if self.kind == "multiclass" and y.ndim == 2 else y

    @property
    def probabilistic(self) -> bool:
        """Whether predictions are probabilities, rather than values."""
        return self.kind in ("binary", "multiclass", "multilabel")

    @property
    def default_cuts(self) -> np.ndarray | None:
        """Where labels change when nothing was fitted: (K,) of one half for binary and multilabel,
        the midpoints between neighbouring classes for ordinal, None where nothing is cut.
        """
        if self.kind in ("binary", "multilabel"):
            return np.full(len(self.outputs), 0.5)
        if self.kind == "ordinal":
            scale = np.array(self.classes, dtype=np.float64)
            return (scale[1:] + scale[:-1]) / 2
        return None

    @cached_property
    def steps_C(self) -> np.ndarray:
        """Each class of an ordinal task as its distance from the lowest class, int64 (C,).

        The unit is the largest step of which all distances are multiples: 0, 1, 2, 9 for classes 1,
        2, 3, 10, and 0, 1, 3 for 0.5, 1, 2. A scale of more than a million steps is rounded.
        """
        # From the decimal notation, so that .1 is exactly one tenth.
        value_C = [Fraction(str(label)) for label in self.classes]
        fine = math.lcm(*(value.denominator for value in value_C))
        step_C = [int((value - value_C[0]) * fine) for value in value_C]
        coarsest = math.gcd(*step_C) or 1
        step_C = [step // coarsest for step in step_C]
        if step_C[-1] > MOST_STEPS:
            step_C = [round(Fraction(MOST_STEPS * step, step_C[-1])) for step in step_C]
        return np.array(step_C, dtype=np.int64)

    def labels(self, pred_NK: np.ndarray, cuts: np.ndarray | None = None) -> np.ndarray:
        """Predictions as `encode` would write them: probabilities and values become labels.

        A prediction at its cut or above is positive; of several classes, the most probable; an
        ordinal class counts the cut points at or below the value. `cuts` default to
        `default_cuts`.
        """
        cuts = self.default_cuts if cuts is None else cuts
        if self.kind == "binary":
            return (pred_NK[:, 0] >= cuts).astype(np.int64)
        if self.kind == "multiclass":
            return pred_NK.argmax(axis=1)
        if self.kind == "multilabel":
            return (pred_NK >= cuts).astype(np.int64)
        if self.kind == "ordinal" and cuts is not None:
            # With few cuts, comparing with each is faster than a binary search.
            labels_N = np.zeros(len(pred_NK), dtype=np.int64)
            for cut in cuts:
                labels_N += pred_NK[:, 0] >= cut
            return labels_N
        return pred_NK

    def training_targets(self, y: np.ndarray) -> np.ndarray:
        """Encoded targets as a model learns them: an ordinal class is its value, float64 (N, 1)."""
        if self.kind == "ordinal":
            return np.array(self.classes, dtype=np.float64)[y][:, None]
        return y

    def decode(self, labels: np.ndarray) -> np.ndarray:
        """Encoded labels as the values that the train file holds; unchanged without classes."""
        if not self.classes:
            return labels
        if self.one_hot:
            return np.eye(len(self.classes), dtype=np.int64)[labels]
        dtype = object if isinstance(self.classes[0], str) else None
        return np.array(self.classes, dtype=dtype)[labels]

    def _encode_classes(self, column: pd.Series) -> np.ndarray:
        places = class_indices(self.classes, column)
        for value, place in zip(column.tolist(), places, strict=True):
            if place is None:
                known = map(str, self.classes)
                raise unknown("label", value, known, f"in column '{column.name}'")
        return np.array(places, dtype=np.int64)


def make_task(
    kind: str,
    train: pd.DataFrame,
    targets: Sequence[str],
    positive: object = None,
    classes: Sequence[Label] | None = None,
) -> Task:
    """The task of `kind` over train's target columns, as `load_tables` parsed them.

    `positive` is the label of a binary task that counts as 1, by default the last in sorted order.
    `classes` are the labels that may occur, by default those that do. Raises UserError for labels
    that are outside the kind.
    """
    single = kind in SINGLE
    if single and len(targets) != 1 and kind != "multiclass":
        raise UserError(
            f"a {kind} task has one target column, not {len(targets)} ({', '.join(targets)}); name "
            "one, or use multiclass (columns of 0 and 1, one of them 1), multilabel or regression"
        )
    if kind == "multilabel" and len(targets) < 2:
        raise UserError(
            f"a multilabel task has several target columns, not {len(targets)} "
            f"({', '.join(targets)}); name more, or use binary"
        )
    if not single and classes is not None:
        raise UserError(f"data.classes: a {kind} task has no classes; leave it out")
    if kind == "multiclass" and len(targets) > 1:
        return _one_hot_task(train, targets, classes)
    found = find_classes(kind, train[targets[0]], positive, classes) if single else ()
    task = Task(kind, tuple(targets), found)
    task.encode(train)
    return task


def _one_hot_task(
    train: pd.DataFrame, targets: Sequence[str], classes: Sequence[Label] | None
) -> Task:
    if classes is not None:
        raise UserError(
            f"data.classes: with {len(targets)} target columns these are the classes; leave it out"
        )
    task = Task("multiclass", tuple(targets), tuple(targets))
    found = np.unique(task.encode(train))
    if len(found) < 2:
        raise UserError(
            f"column '{targets[found[0]]}' has the largest share of all rows; a multiclass task "
            "needs at least two classes"
        )
    return task


def _numbers(column: pd.Series, kind: str) -> np.ndarray:
    """The column as float64 of what `kind` allows: 0 and 1, shares, or any finite number."""
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    fine, wanted = np.isfinite(values), "finite numbers only"
    if kind == "multilabel":
        fine, wanted = np.isin(values, (0, 1)), "only 0 and 1"
    elif kind == "multiclass":
        fine, wanted = (values >= 0) & (values <= 1), "1 or 0, or shares that sum to 1 in each row"
    if not fine.all():
        bad = list(dict.fromkeys(column[~fine].tolist()))
        raise UserError(
            f"column '{column.name}' holds {listed(bad)} in {(~fine).sum()} rows; "
            f"a {kind} target holds {wanted}{_hint(bad)}"
        )
    return values


def _hint(bad: Sequence[object]) -> str:
    if all(re.fullmatch(r"\s*[+-]?[0-9]+(,[0-9]+)+(\.[0-9]+)?\s*", str(value)) for value in bad):
        return "; write 1234.5 for 1,234.5 or 1234,5"
    if all(str(value).strip().lower() in TRUTHS for value in bad):
        return "; write 1 for true and 0 for false"
    return ""
