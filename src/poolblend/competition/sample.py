"""The columns of a sample submission, and what could fill each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import pandas as pd
from pandas.api.types import is_numeric_dtype

from poolblend.competition.classes import Label
from poolblend.competition.names import plain, words
from poolblend.competition.tables import parse_column
from poolblend.competition.tasks import Task
from poolblend.competition.tops import holds_several
from poolblend.errors import UserError, unknown

VALUES = ("labels", "probabilities")
COPY: Literal["copy"] = "copy"


class Source(NamedTuple):
    """What fills a column: a target, the share of a class (both by place), or the sample's cells.

    `name` is what messages and `submission.columns` call it.
    """

    kind: Literal["target", "class", "copy"]
    place: int
    name: str


Group = Mapping[str, Source]  # sources that belong together, by name


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample submission as it is to be filled, and what tells about its columns.

    `rows` has the ids to submit; where `own_rows` is false, some of its rows were made for ids that
    the sample lacks. `test` is the test table, whose columns may stand in the sample, too. `given`
    is what the user says of columns: an output, a label or "copy".
    """

    task: Task
    rows: pd.DataFrame
    id: str
    own_rows: bool = True
    test: pd.DataFrame | None = None
    given: Mapping[str, Label] = field(default_factory=dict)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The sample without its ids."""
        return self.rows.drop(columns=self.id)

    @cached_property
    def _labels(self) -> set[str]:
        return set(map(str, self.task.classes))

    @cached_property
    def _names(self) -> set[tuple[str, ...]]:
        """The targets' and labels' names, as words."""
        return {words(name) for name in (*self.task.targets, *self._labels)}

    @cached_property
    def free(self) -> list[str]:
        """The columns of which the user says nothing."""
        return [column for column in self.cells.columns if column not in self.given]

    @cached_property
    def sources(self) -> dict[str, Source]:
        """What the user says of columns; UserError for a column or a name that is unknown."""
        known: dict[str, Source] = {COPY: Source(COPY, 0, COPY)}
        for values in VALUES:
            for group in groups(self.task, values):
                known |= group
        alike = {plain(name): name for name in known}
        found = {}
        for column, value in self.given.items():
            if column not in self.cells:
                place = "for submission.columns in the sample submission"
                raise unknown("column", column, map(str, self.cells.columns), place)
            name = str(value) if str(value) in known else alike.get(plain(str(value)))
            if name is None:
                raise unknown("output or label", value, known, f"in submission.columns.{column}")
            found[column] = known[name]
        return found

    def alike_in_test(self, column: str) -> bool:
        """Whether the test table has the column, with the same cells where the rows are known."""
        if self.test is None or column not in self.test or column in self.task.targets:
            return False
        return not self.own_rows or self._of_test(column).equals(self.cells[column])

    def _of_test(self, column: str) -> pd.Series:
        assert self.test is not None
        cells = self.test.set_index(self.id)[column].reindex(self.rows[self.id])
        return parse_column(cells.reset_index(drop=True)).rename(column)

    def is_spare(self, column: str, values: str) -> bool:
        """Whether a column cannot hold predictions, so that it is copied unless it is named."""
        if self.alike_in_test(column):
            return True
        cells = self.cells[column]
        if words(column) in self._names or cells.isna().any():
            return False
        if is_numeric_dtype(cells.dtype):
            return values == "labels" and any(isinstance(each, str) for each in self.task.classes)
        labels = holds_several(cells, self.task.classes)
        return not labels and self._labels.isdisjoint(cells.map(str))

    def copied(self, column: str) -> pd.Series:
        """The column's cells for the rows to submit; UserError where nothing tells them."""
        cells = self.cells[column]
        if self.own_rows:
            return cells
        if self.alike_in_test(column):
            return self._of_test(column)
        if cells.nunique(dropna=False) == 1:
            return cells
        raise UserError(
            f"column '{column}' of the sample submission is to be copied, but differs from row to "
            "row, and test holds ids that the sample lacks; use submission.ids: sample, or say in "
            "submission.columns what fills it"
        )


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
