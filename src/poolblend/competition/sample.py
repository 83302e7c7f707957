"""The columns of a sample submission: what could fill each, and cells that hold several labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from poolblend.competition.cells import parse_column
from poolblend.competition.classes import Label
from poolblend.competition.names import plain, words
from poolblend.competition.options import Data
from poolblend.competition.tables import Unlabelled
from poolblend.competition.tasks import Task
from poolblend.errors import UserError, quoted, unknown

VALUES = ("labels", "probabilities")
SEPARATORS = (", ", " ", ",", ";", "|")  # between the labels of a cell


class Source(NamedTuple):
    """What fills a column: a target, the share of a class (both by place), or the sample's cells.

    `name` is what messages and `submission.columns` call it.
    """

    kind: Literal["target", "class", "copy"]
    place: int
    name: str


COPY = Source("copy", 0, "copy")
Group = Mapping[str, Source]  # sources that belong together, by name


def empty_sample(test: pd.DataFrame, data: Data) -> pd.DataFrame:
    """A sample submission for a competition without one: test's ids, and targets without values.

    Where `data.id` is null, the ids are row numbers from 0.
    """
    ids = [] if data.id is None else [data.id]
    if ids and data.id not in test:
        raise unknown("column", data.id, map(str, test.columns), "of test, as id")
    rows = test[ids] if ids else pd.DataFrame({"id": range(len(test))})
    return rows.assign(**dict.fromkeys(data.targets))


def groups(task: Task, values: str) -> list[Group]:
    """The sets of sources that can fill the columns of a submission of these values."""
    found: list[Group] = []
    if task.kind in ("binary", "multiclass"):
        found.append({str(c): Source("class", k, str(c)) for k, c in enumerate(task.classes)})
    if task.kind != "multiclass":
        found.append({name: Source("target", k, name) for k, name in enumerate(task.targets)})
    elif values == "labels":
        name = task.targets[0] if len(task.targets) == 1 else "label"
        found.append({name: Source("target", 0, name)})
    return found


class Sample:
    """A sample submission over the rows to submit, and what is known of its columns.

    `sources` is what `given`, the config's submission.columns, says of columns; `free` are the
    other columns.
    """

    def __init__(self, task: Task, tables: Unlabelled, given: Mapping[str, Label]) -> None:
        self.task = task
        self.tables = tables
        self.cells = tables.sample.drop(columns=tables.id)
        self.free = [str(column) for column in self.cells.columns if column not in given]
        self.sources = {column: self._source(column, value) for column, value in given.items()}

    def _source(self, column: str, value: Label) -> Source:
        """The source that the config names; UserError for an unknown column or name."""
        if column not in self.cells:
            place = "for submission.columns in the sample submission"
            raise unknown("column", column, map(str, self.cells.columns), place)
        known: dict[str, Source] = {COPY.name: COPY}
        for values in VALUES:
            for group in groups(self.task, values):
                known |= group
        alike = {plain(name): name for name in known}
        name = str(value) if str(value) in known else alike.get(plain(str(value)))
        if name is None:
            raise unknown("output or label", value, known, f"in submission.columns.{column}")
        return known[name]

    @cached_property
    def _labels(self) -> set[str]:
        return set(map(str, self.task.classes))

    def is_spare(self, column: str, values: str) -> bool:
        """Whether a column cannot hold predictions; it is copied unless the config names it."""
        if self._is_alike_in_test(column):
            return True
        cells = self.cells[column]
        names = {words(name) for name in (*self.task.targets, *self._labels)}
        if words(column) in names or cells.isna().any():
            return False
        if is_numeric_dtype(cells.dtype):
            return values == "labels" and any(isinstance(each, str) for each in self.task.classes)
        labels = holds_several(cells, self.task.classes)
        return not labels and self._labels.isdisjoint(cells.map(str))

    def copied(self, column: str) -> pd.Series:
        """The column's cells for the rows to submit; UserError where these are not known."""
        cells = self.cells[column]
        if self.tables.own_rows:
            return cells
        if self._is_alike_in_test(column):
            return self._of_test(column)
        if cells.nunique(dropna=False) == 1:
            return cells
        raise UserError(
            f"column '{column}' of the sample submission is to be copied, but differs from row to "
            "row, and test holds ids that the sample lacks; use submission.ids: sample, or say in "
            "submission.columns what fills it"
        )

    def _is_alike_in_test(self, column: str) -> bool:
        """Whether the test table has the column, with the same cells where the rows are known."""
        if column not in self.tables.test or column in self.task.targets:
            return False
        return not self.tables.own_rows or self._of_test(column).equals(self.cells[column])

    def _of_test(self, column: str) -> pd.Series:
        id = self.tables.id
        cells = self.tables.test.set_index(id)[column].reindex(self.tables.sample[id])
        return parse_column(cells.reset_index(drop=True)).rename(column)


class Top(NamedTuple):
    """How many labels a cell holds, the most probable first as in `C CL D`; and the separator."""

    size: int = 1
    separator: str = " "

    def cells(self, names: Sequence[str], pred_NK: np.ndarray) -> np.ndarray:
        """Text (N,): the names of each row's most probable classes, the most probable first."""
        order_NK = np.argsort(-pred_NK, axis=1, kind="stable")[:, : self.size]
        joined = [self.separator.join(names[k] for k in order_K) for order_K in order_NK.tolist()]
        return np.array(joined, dtype=object)


def split_labels(cells: pd.Series, labels: Sequence[Label]) -> dict[str, list[str]]:
    """The labels that each distinct cell names, by the separator that gives most known ones."""
    distinct = dict.fromkeys(cells.dropna())
    parts = zip(distinct, _split(cells, labels)[1], strict=True)
    return {cell: [label.strip() for label in split if label.strip()] for cell, split in parts}


def holds_several(cells: pd.Series, labels: Sequence[Label]) -> bool:
    """Whether every cell is made of known labels, and some of more than one."""
    _, split = _split(cells, labels)
    return any(len(parts) > 1 for parts in split) and _share_known(split, labels) == 1


def find_top(cells: pd.Series, labels: Sequence[Label], asked: int | None) -> Top:
    """How many labels a cell holds: `asked`, or else the number in the sample's cells.

    Raises UserError where they hold several and do not show how many are wanted.
    """
    separator, split = _split(cells, labels)
    counts = {len(parts) for parts in split}
    if asked is not None:
        if asked > len(labels):
            raise UserError(f"submission.top={asked}, but there are {len(labels)} labels; lower it")
        return Top(asked, separator)
    known = _share_known(split, labels)
    if max(counts, default=1) == 1 or known == 0:
        return Top()
    if known < 1 or len(counts) > 1 or max(counts) > len(labels):
        longest = max(split, key=len)
        raise UserError(
            f"column '{cells.name}' of the sample submission seems to hold several labels in a "
            f"cell ({quoted(separator.join(longest))}); set submission.top to how many, 1 for one"
        )
    return Top(max(counts), separator)


def _split(cells: pd.Series, labels: Sequence[Label]) -> tuple[str, list[list[str]]]:
    """The distinct cells, split by the separator that gives most known labels."""
    if is_numeric_dtype(cells.dtype):
        return " ", []
    known, distinct = set(map(str, labels)), list(dict.fromkeys(cells.dropna().map(str)))
    ways = [
        (sep, [[cell] if cell in known else cell.split(sep) for cell in distinct])
        for sep in SEPARATORS
    ]
    several = [way for way in ways if any(len(parts) > 1 for parts in way[1])]
    return max(several or ways[1:2], key=lambda way: _share_known(way[1], labels))


def _share_known(split: Sequence[Sequence[str]], labels: Sequence[Label]) -> float:
    known, parts = set(map(str, labels)), [part for cell in split for part in cell]
    return sum(part in known for part in parts) / max(1, len(parts))
