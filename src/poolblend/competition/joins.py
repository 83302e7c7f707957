"""Further tables, looked up by a key: their columns are added to each row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.competition.files import nearest, read_table
from poolblend.competition.ids import check_unique, row_number
from poolblend.competition.options import Join, Side
from poolblend.errors import UserError, quoted

COLUMNS_SHOWN = 30


def read_joined(
    folder: Path, table: str, joins: Sequence[Join], side: Side, needed: Collection[str]
) -> pd.DataFrame:
    """The table of this side with the joined columns after its own, in its own order of rows.

    Columns `needed` hold one text or number per row. Raises UserError for what `read_table`
    refuses, keys that are missing or repeated, and columns of one name.
    """
    path, needed = folder / table, [*needed, *(join.on for join in joins)]
    return add_joined(path, read_table(path, needed=needed), folder, joins, side, needed)


def add_joined(
    path: Path,
    frame: pd.DataFrame,
    folder: Path,
    joins: Sequence[Join],
    side: Side,
    needed: Collection[str],
) -> pd.DataFrame:
    """The table `frame`, which messages call `path`, with the columns of this side's joins."""
    for join in joins:
        other = folder / join.table(side)
        frame = _joined(path, frame, other, read_table(other, needed=needed), join.on)
    return frame


def check_columns(path: Path, table: pd.DataFrame, columns: Collection[str]) -> None:
    """Raise UserError for the first of `columns` that the table lacks."""
    for column in columns:
        if column not in table.columns:
            raise unknown_column(path, column, table)


def unknown_column(path: Path, column: str, table: pd.DataFrame) -> UserError:
    """The error for a column that the table lacks."""
    columns = list(table.columns)
    near = nearest(column, columns)
    hint = f"; did you mean {quoted(near)}?" if near else ";"
    known = ", ".join(quoted(name)[1:-1] for name in sorted(columns)[:COLUMNS_SHOWN])
    more = f", … ({len(columns)})" if len(columns) > COLUMNS_SHOWN else ""
    return UserError(f"unknown column '{column}' in {path}{hint} known: {known}{more}")


def _joined(
    path: Path, table: pd.DataFrame, other_path: Path, other: pd.DataFrame, on: str
) -> pd.DataFrame:
    check_columns(path, table, [on])
    check_columns(other_path, other, [on])
    check_unique(other_path, other[on], "key")
    added = other.drop(columns=on)
    clash = [column for column in added if column in table]
    if clash:
        raise UserError(
            f"{other_path} has a column {quoted(clash[0])}, and so has {path} that it is joined "
            "to; rename one, or drop it"
        )
    position_N = pd.Index(other[on]).get_indexer(pd.Index(table[on]))
    lost = np.flatnonzero(position_N < 0)
    if len(lost):
        key = table[on].iloc[lost[0]]
        shown = "no key" if pd.isna(key) else f"key {quoted(key)}"
        raise UserError(
            f"{other_path} lacks the key of {len(lost)} of the {len(table)} rows in {path}, the "
            f"first row {row_number(path, lost[0])} with {shown} in column '{on}'; expected a row "
            "for each key"
        )
    return pd.concat([table, added.iloc[position_N].reset_index(drop=True)], axis=1)
