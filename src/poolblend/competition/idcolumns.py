"""The column that holds a table's ids: the one named, or what stands for it where none is.

Ids are strings, and what they look like means nothing: tables of any looks go together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from poolblend.competition.files import read_table
from poolblend.competition.ids import check_unique
from poolblend.competition.joins import Lookup, check_columns, read_joined, unknown_column
from poolblend.errors import UserError, quoted

log = logging.getLogger(__name__)

IdsOf = Callable[[Path, pd.DataFrame], pd.Series]  # the ids of a table where data.id is null


def id_column(id: str | None, sample: Path, columns: Sequence[str]) -> tuple[str, IdsOf | None]:
    """The id column's name; where none is given, the sample's first, and what finds test's ids."""
    if id is not None:
        return id, None
    ids = read_table(sample).iloc[:, 0]
    id = str(ids.name)
    if id in columns:
        raise UserError(
            f"{sample} begins with column {quoted(id)}, which the config names, too; expected its "
            "ids there, as data.id is null: put them first, or rename the other column"
        )
    check_unique(sample, ids)
    return id, partial(ids_of_sample, sample=sample, ids=ids)


def read_with_ids(
    path: Path,
    id: str,
    columns: Sequence[str],
    joins: Sequence[Lookup] = (),
    ids: IdsOf | None = None,
) -> pd.DataFrame:
    """The table of `path` with `columns` present, joined ones too; ids are present and unique.

    They stand in column `id`, or are what `ids` makes of the table.
    """
    table = read_joined(path, joins, needed=[id, *columns])
    if ids is not None:
        table[id] = ids(path, table)
    elif id not in table:
        raise UserError(
            f"{unknown_column(path, id, table)}; data.id names the ids' column, or is "
            "null where train has none"
        )
    check_columns(path, table, columns)
    check_unique(path, table[id])
    return table


def number_rows(path: Path, table: pd.DataFrame) -> pd.Series:
    """Ids for a train table that has none: the rows' positions "0", "1", … in the file."""
    log.info("%s: data.id is null: its rows have the ids 0 to %d", path, len(table) - 1)
    return pd.Series(map(str, range(len(table))), table.index, str)


def ids_of_sample(path: Path, table: pd.DataFrame, sample: Path, ids: pd.Series) -> pd.Series:
    """The ids of a test table that may lack the sample submission's id column.

    They are that column, else the one other column that holds the sample's ids, else the sample's
    ids in its order of rows, where it has as many. Raises UserError where it has not.
    """
    if ids.name in table:
        return table[ids.name]
    alike = [column for column in table if ids.isin(table[column]).all()]
    if len(alike) == 1:
        log.info("%s: its ids are those of column %s, as in %s", path, quoted(alike[0]), sample)
        return table[alike[0]]
    if len(ids) != len(table):
        raise UserError(
            f"{path} has no column '{ids.name}', as {sample} has, and {len(table)} rows, not "
            f"{len(ids)}; expected that column, or a row for each of the sample's, in its order"
        )
    log.info("%s has no ids: its rows are taken for those of %s, in order", path, sample)
    return ids
