"""Ids: which column holds them, whether they are unique and match, and which rows are submitted.

Ids are strings and are compared character by character. In messages, rows are numbered as in a
spreadsheet: a CSV's header is row 1.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from poolblend.competition.options import RowIds
from poolblend.errors import UserError, quoted

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

INTEGER = r"[+-]?[0-9]+"
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
# A line break at the end of an id means that a quote was not closed.
CONTROL = r"[\x00-\x1f\x7f]"


def row_number(path: Path, position: int) -> int:
    """The row's number as a spreadsheet shows it; rows of parquet count from 1."""
    return int(position) + (2 if path.suffix.lower() == ".csv" else 1)


def ids_of_sample(path: Path, columns: Sequence[str]) -> pd.Series:
    """The first column of the sample submission, which holds the ids where data.id is null.

    Raises UserError where it is one of `columns`, which the config names for something else.
    """
    from poolblend.competition.files import read_table

    ids = read_table(path).iloc[:, 0]
    if ids.name in columns:
        raise UserError(
            f"{path} begins with column {quoted(ids.name)}, which the config names, too; expected "
            "its ids there, as data.id is null: put them first, or rename the other column"
        )
    check_unique(path, ids)
    return ids


def number_rows(path: Path, table: pd.DataFrame) -> pd.Series:
    """Ids for a train table that has none: the rows' positions "0", "1", … in the file."""
    import pandas as pd

    log.info("%s: data.id is null, so its rows get the ids 0 to %d", path, len(table) - 1)
    return pd.Series(map(str, range(len(table))), table.index, str)


def find_test_ids(path: Path, table: pd.DataFrame, sample: Path, ids: pd.Series) -> pd.Series:
    """The ids of a test table that may lack the sample submission's id column.

    They are in that column, or else in the only column that holds all of the sample's ids. Without
    such a column, the sample's `ids` are used in its order; UserError where the numbers of rows
    differ.
    """
    if ids.name in table:
        return table[ids.name]
    same = [column for column in table if ids.isin(table[column]).all()]
    if len(same) == 1:
        log.info("%s: column %s holds the ids of %s", path, quoted(same[0]), sample)
        return table[same[0]]
    if len(ids) != len(table):
        raise UserError(
            f"{path} has no column '{ids.name}', as {sample} has, and {len(table)} rows, not "
            f"{len(ids)}; expected that column, or a row for each of the sample's, in its order"
        )
    log.info("%s has no ids: its rows get the ids of %s, in order", path, sample)
    return ids


def check_unique(path: Path, ids: pd.Series, noun: str = "id") -> None:
    """Raise UserError for an id (a `noun` in messages) that is missing, malformed or repeated."""
    missing = np.flatnonzero(ids.isna() | (ids.str.strip() == ""))
    if len(missing):
        raise UserError(
            f"{path} row {row_number(path, missing[0])} has no {noun} in column '{ids.name}' "
            f"({len(missing)} such rows); give every row a unique {noun}"
        )
    bad = np.flatnonzero(ids.str.contains(CONTROL))
    if len(bad):
        raise UserError(
            f"{path} row {row_number(path, bad[0])} has {noun} {quoted(ids.iloc[bad[0]])} in "
            f"column '{ids.name}', expected no line break or control character ({len(bad)} such "
            f"rows); look for an unclosed quote, or remove these characters"
        )
    repeated = np.flatnonzero(ids.duplicated())
    if len(repeated):
        value = ids.iloc[repeated[0]]
        first = np.flatnonzero(ids == value)[0]
        raise UserError(
            f"{path} has {noun} {quoted(value)} in rows {row_number(path, first)} and "
            f"{row_number(path, repeated[0])} of column '{ids.name}' ({len(repeated)} such "
            f"repeats); {noun}s must be unique"
        )


def rows_to_submit(
    path: Path, sample: pd.DataFrame, test: Path, test_ids: pd.Series, ids: RowIds
) -> tuple[pd.DataFrame, bool]:
    """The sample submission over the rows to submit, and whether the sample holds all of them.

    With `ids` "sample" these are the sample's rows. With "test" they are one row per test id, in
    test's order; where the sample lacks the id, the cells come from another row of the sample.
    "auto" means "test" where test holds ids that the sample lacks: a code competition's hidden test
    is larger than the visible sample. Raises UserError where the sample's ids are wanted and test
    lacks some.
    """
    import pandas as pd

    id = str(test_ids.name)
    if ids != "test":
        _check_predictable(path, sample[id], test, test_ids)
    lacking = test_ids[~test_ids.isin(sample[id])]
    if ids == "sample" or (ids == "auto" and lacking.empty):
        return sample, True
    if len(lacking):
        log.info(
            "%s holds %d ids that %s lacks, the first %s: the submission gets a row for each of "
            "the %d test ids (submission.ids: sample keeps to the sample's)",
            test,
            len(lacking),
            path,
            quoted(lacking.iloc[0]),
            len(test_ids),
        )
    known_N = pd.Index(sample[id]).get_indexer(pd.Index(test_ids))
    row_N = np.where(known_N >= 0, known_N, np.arange(len(test_ids)) % len(sample))
    rows = sample.iloc[row_N].reset_index(drop=True)
    rows[id] = test_ids.to_numpy()
    return rows, lacking.empty


def _check_predictable(path: Path, sample_ids: pd.Series, test: Path, test_ids: pd.Series) -> None:
    if sample_ids.isin(test_ids).all():
        return
    for here, found, other, wanted in (
        (path, sample_ids, test, test_ids),
        (test, test_ids, path, sample_ids),
    ):
        lacking, extra = wanted[~wanted.isin(found)], found[~found.isin(wanted)]
        if len(lacking):
            hint = f" (it has others, such as {quoted(extra.iloc[0])})" if len(extra) else ""
            raise UserError(
                f"{here} lacks {len(lacking)} of the {len(wanted)} ids in {other}, the first "
                f"{quoted(lacking.iloc[0])}{hint}; expected the same ids in both files, in any "
                "order, or submission.ids: test to ignore the sample's ids"
            )
