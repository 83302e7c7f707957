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
SINGLE = ("pred", "prediction", "probability", "oof")  # names for the predictions of one output
REMEDY = "correct the file or remove it from its folder"


@dataclass(frozen=True, eq=False)
class MemberFile:
    """A file's cells, all strings, and the ids of its rows."""

    path: Path
    ids: pd.Series
    table: pd.DataFrame

    def numbers(self, column: str) -> np.ndarray:
        """The column as floats (N,), NaN for a cell that is not a number."""
        return pd.to_numeric(self.table[column], errors="coerce").to_numpy(np.float64)

    def predictions(self, column: str, *, probability: bool) -> np.ndarray:
        """The column as finite floats (N,), probabilities from 0 to 1; else UserError."""
        value_N = self.numbers(column)
        bad_N = ~np.isfinite(value_N)
        if probability:
            bad_N |= (value_N < -ROUNDING) | (value_N > 1 + ROUNDING)
        if bad_N.any():
            expected = "a probability from 0 to 1" if probability else "a finite number"
            raise self.refusal(column, bad_N, expected)
        return value_N

    def folds(self, column: str) -> np.ndarray:
        """The column as int64 (N,) of 0 or more; else UserError."""
        fold_N = self.numbers(column)
        bad_N = ~((fold_N >= 0) & (fold_N < 2**31) & (fold_N == np.floor(fold_N)))
        if bad_N.any():
            raise self.refusal(column, bad_N, "the number of a fold")
        return fold_N.astype(np.int64)

    def same(self, column: str, truth: pd.Series) -> np.ndarray:
        """For each row, whether the column equals `truth` (N,), numbers or strings."""
        if not pd.api.types.is_numeric_dtype(truth):
            return np.array(self.table[column] == truth.to_numpy(), dtype=bool)
        # Labels may have been stored in single precision.
        return np.isclose(self.numbers(column), truth.to_numpy(np.float64), rtol=1e-6, atol=1e-9)

    def refusal(self, column: str, bad_N: np.ndarray, expected: str) -> UserError:
        """The error for the marked cells; it quotes the first."""
        n = np.flatnonzero(bad_N)[0]
        cell = self.table[column].iloc[n]
        held = "an empty cell" if pd.isna(cell) else quoted(cell)
        return UserError(
            f"{self.path} holds {held} in column {quoted(column)} for id "
            f"{quoted(self.ids.iloc[n])}, expected {expected} ({bad_N.sum()} such cells); {REMEDY}"
        )


def find_columns(file: MemberFile, free: Sequence[str], task: Task) -> list[str]:
    """The columns among `free` that hold predictions: one per output, or one per binary class.

    If no column has the name of a class, columns may have the numbers of the classes, from 0.
    Raises UserError if an output has no column, or more than one column may hold it.
    """
    outputs = list(task.outputs)
    prefixed = [f"{PREFIX}{output}" for output in outputs]
    absent = [column for column in prefixed if column not in free]
    if not absent:
        return prefixed
    if len(absent) < len(prefixed):
        # If some columns have the prefix, those without it are labels and not predictions.
        raise no_column(file.path, absent[:1], free)
    found = _find_single(file, free, task) if len(outputs) == 1 else None
    lacking = [output for output in outputs if output not in free]
    if found is None and len(lacking) == len(outputs) and task.kind == "multiclass":
        found = _find_numbered(file, free, task)
    if found is not None:
        return found
    if lacking:
        raise no_column(file.path, [f"{PREFIX}{lacking[0]}", lacking[0]], free)
    return outputs


def _find_single(file: MemberFile, free: Sequence[str], task: Task) -> list[str] | None:
    """The column of the only output under another name, or the columns of the two classes."""
    named = [column for column in SINGLE if column in free]
    if len(named) > 1:
        raise UserError(
            f"{file.path} has columns {listed(named)}, each of which may be the predictions; "
            f"name the right one {quoted(PREFIX + task.outputs[0])}"
        )
    if named:
        return named
    classes = [str(label) for label in task.classes] if task.kind == "binary" else []
    for columns in ([f"{PREFIX}{label}" for label in classes], classes):
        if columns and set(columns) <= set(free):
            return columns
    numbered = _find_numbered(file, free, task) if classes else None
    if numbered is not None:
        return numbered
    numeric = [c for c in free if np.isfinite(file.numbers(c)).mean() > 0.5]
    negative = [column for column in numeric if column.removeprefix(PREFIX) in classes[:1]]
    return numeric if len(numeric) == 1 and not negative else None


def _find_numbered(file: MemberFile, free: Sequence[str], task: Task) -> list[str] | None:
    """The columns with the numbers 0 to K - 1, for the K classes in their order.

    None if a column has the name of a class, or a number is missing or repeated.
    """
    found: dict[int, str] = {}
    labels = [str(label) for label in task.classes]
    for column in free:
        number = NUMBERED.fullmatch(column)
        if number is None:
            continue
        if column in labels or number[1] in labels or int(number[1]) in found:
            return None
        found[int(number[1])] = column
    if sorted(found) != list(range(len(labels))):
        return None
    columns = [found[place] for place in range(len(labels))]
    # Other tools number labels in sorted order, which may differ from (negative, positive).
    words = [label for label in task.classes if isinstance(label, str)]
    if words != sorted(words):
        first, second = (quoted(f"{PREFIX}{label}") for label in words)
        raise UserError(
            f"{file.path}: columns {listed(columns)} may number the labels as negative and "
            f"positive ({listed(words)}) or in sorted order ({listed(sorted(words))}); name them "
            f"{first} and {second}"
        )
    place = "%s: columns %s are read as the classes in their order: %s"
    log.info(place, file.path, listed(columns), listed(labels))
    return columns


def no_column(path: Path, wanted: Sequence[str], columns: Iterable[str]) -> UserError:
    """The error for a column that has none of the `wanted` names."""
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
