"""The cells of a file that another tool wrote, and which of its columns are the predictions.

Legend: N rows.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.competition.files import nearest
from poolblend.competition.tasks import Task
from poolblend.ensembling.alignment import ROUNDING
from poolblend.errors import UserError, quoted
from poolblend.store.predictions import PREFIX

log = logging.getLogger(__name__)

# A column that names a class by its place among the classes, such as 0, pred_0 or class_0.
NUMBERED = re.compile(r"(?:(?:pred|proba?|class|label|oof)_?)*([0-9]+)")
# What a column of predictions is called where there is but one output.
SINGLE = ("pred", "prediction", "probability", "oof")
MEND = "mend the file or take it out of its folder"


@dataclass(frozen=True, eq=False)
class Sheet:
    """A file's cells, all strings, and the ids of its rows."""

    path: Path
    ids: pd.Series
    table: pd.DataFrame

    def numbers(self, column: str) -> np.ndarray:
        """The column as floats (N,), NaN where a cell is no number."""
        return pd.to_numeric(self.table[column], errors="coerce").to_numpy(np.float64)

    def predictions(self, column: str, *, probability: bool) -> np.ndarray:
        """The column as finite floats (N,), from 0 to 1 for a probability; else UserError."""
        value_N = self.numbers(column)
        bad_N = ~np.isfinite(value_N)
        if probability:
            bad_N |= (value_N < -ROUNDING) | (value_N > 1 + ROUNDING)
        if bad_N.any():
            expected = "a probability from 0 to 1" if probability else "a finite number"
            raise self.refusal(column, bad_N, expected)
        return value_N

    def folds(self, column: str) -> np.ndarray:
        """The column as int64 (N,), whole and not negative; else UserError."""
        fold_N = self.numbers(column)
        fine_N = (fold_N >= 0) & (fold_N < 2**31) & (fold_N == np.floor(fold_N))
        if not fine_N.all():
            raise self.refusal(column, ~fine_N, "the number of a fold")
        return fold_N.astype(np.int64)

    def same(self, column: str, truth: pd.Series) -> np.ndarray:
        """Where the column holds the values of `truth` (N,), which are numbers or strings."""
        if not pd.api.types.is_numeric_dtype(truth):
            return np.array(self.table[column] == truth.to_numpy(), dtype=bool)
        # A label may have passed through a float32 on its way.
        return np.isclose(self.numbers(column), truth.to_numpy(np.float64), rtol=1e-6, atol=1e-9)

    def refusal(self, column: str, bad_N: np.ndarray, expected: str) -> UserError:
        """The error for the cells marked, which quotes the first."""
        n = np.flatnonzero(bad_N)[0]
        cell = self.table[column].iloc[n]
        held = "an empty cell" if pd.isna(cell) else quoted(cell)
        return UserError(
            f"{self.path} holds {held} in column {quoted(column)} for id "
            f"{quoted(self.ids.iloc[n])}, expected {expected} ({bad_N.sum()} such cells); {MEND}"
        )


def find_columns(sheet: Sheet, free: Sequence[str], task: Task) -> list[str]:
    """Those of the `free` columns that hold predictions: one per output, or the two classes' own.

    Columns may number the classes from 0 in their order, where no column bears a class's name.

    Raises UserError where an output has no column, or several that may be meant.
    """
    outputs = list(task.outputs)
    prefixed = [f"{PREFIX}{output}" for output in outputs]
    if set(prefixed) <= set(free):
        return prefixed
    gaps = [column for column in prefixed if column not in free]
    if len(gaps) < len(prefixed):
        # Beside some pred_ columns, plain ones are labels and fill no gap.
        raise no_column(sheet.path, gaps[:1], free)
    if len(outputs) == 1:
        columns = _find_single(sheet, free, task)
        if columns:
            return columns
    lacking = [output for output in outputs if output not in free]
    if len(lacking) == len(outputs) and task.kind == "multiclass":
        columns = _numbered(sheet, free, task)
        if columns:
            return columns
    if lacking:
        raise no_column(sheet.path, [f"{PREFIX}{lacking[0]}", lacking[0]], free)
    return outputs


def _find_single(sheet: Sheet, free: Sequence[str], task: Task) -> list[str] | None:
    """The column of a task's one output if it goes by another name, or the two classes' columns."""
    named = [column for column in SINGLE if column in free]
    if len(named) > 1:
        raise UserError(
            f"{sheet.path} has columns {listed(named)}, each of which may be the predictions; "
            f"name the right one {quoted(PREFIX + task.outputs[0])}"
        )
    if named:
        return named
    classes = [str(label) for label in task.classes] if task.kind == "binary" else []
    for form in ([f"{PREFIX}{label}" for label in classes], classes):
        if form and set(form) <= set(free):
            return form
    columns = _numbered(sheet, free, task) if classes else None
    if columns:
        return columns
    numeric = [c for c in free if np.isfinite(sheet.numbers(c)).mean() > 0.5]
    negative = [column for column in numeric if column.removeprefix(PREFIX) in classes[:1]]
    return numeric if len(numeric) == 1 and not negative else None


def _numbered(sheet: Sheet, free: Sequence[str], task: Task) -> list[str] | None:
    """Columns of the numbers 0 to K - 1 for the K classes in their order; None where a name of a
    class is among them, or a number is missing or there twice.
    """
    found: dict[int, str] = {}
    named = {str(label) for label in task.classes}
    for column in free:
        number = NUMBERED.fullmatch(column)
        if number is None:
            continue
        if column in named or number[1] in named or int(number[1]) in found:
            return None
        found[int(number[1])] = column
    if sorted(found) != list(range(len(task.classes))):
        return None
    columns = [found[place] for place in range(len(found))]
    _refuse_either_order(sheet, columns, task)
    log.info(
        "%s: columns %s are read as the classes in their order: %s",
        sheet.path,
        listed(columns),
        listed([str(label) for label in task.classes]),
    )
    return columns


def _refuse_either_order(sheet: Sheet, columns: Sequence[str], task: Task) -> None:
    """Raise UserError where numbers may mean (negative, positive) words or their sorted order."""
    labels = [label for label in task.classes if isinstance(label, str)]
    if labels != sorted(labels):
        first, second = (quoted(f"{PREFIX}{label}") for label in labels)
        raise UserError(
            f"{sheet.path}: columns {listed(columns)} may number the labels as negative and "
            f"positive ({listed(labels)}) or in sorted order ({listed(sorted(labels))}); name them "
            f"{first} and {second}, each for its own label"
        )


def no_column(path: Path, wanted: Sequence[str], columns: Iterable[str]) -> UserError:
    """The error for a column that is absent under every name it may have."""
    known = list(columns)
    near = next((name for name in (nearest(w, known) for w in wanted) if name), None)
    hint = f"; did you mean {quoted(near)}?" if near else ";"
    return UserError(
        f"{path} has no column {' or '.join(map(quoted, wanted))}{hint} its columns: "
        f"{listed(known) or 'none'}"
    )


def listed(columns: Sequence[str]) -> str:
    """The first columns, quoted."""
    return ", ".join(map(quoted, columns[:8])) + (", …" if len(columns) > 8 else "")
