"""Read what a competition ships (train, test, sample submission) and refuse what cannot be right.

Everything is read as strings, so that an id "0001" keeps its zeros and a text "NA" stays a text.
In messages, rows count as a spreadsheet shows them: a CSV's header is row 1.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.competition.files import nearest, read_table
from poolblend.errors import UserError, quoted

INTEGER = r"[+-]?[0-9]+"
LEADING_ZERO = r"[+-]?0[0-9]+"
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
DECIMAL = rf"{NUMBER}|[+-]?(?i:inf|infinity|nan)"
# Where an id ends in a line break, a quote was left open; others spoil every file they stand in.
CONTROL = r"[\x00-\x1f\x7f]"
COLUMNS_SHOWN = 30


@dataclass(frozen=True)
class Tables:
    """A competition's three tables, checked; ids and texts are strings and never missing.

    `train` holds ids, texts, parsed targets, and any other column as strings; `test` the same
    without targets; `sample` is the sample submission. `missing_texts` counts, for each text
    column over train and test, the cells that were empty and are now empty texts.
    """

    train: pd.DataFrame
    test: pd.DataFrame
    sample: pd.DataFrame
    missing_texts: dict[str, int]


@dataclass(frozen=True)
class Unlabelled:
    """The tables that predicting needs, with no train table; columns as in `Tables`."""

    test: pd.DataFrame
    sample: pd.DataFrame


def load_tables(
    train: Path,
    test: Path,
    sample_submission: Path,
    *,
    id: str,
    text: Sequence[str],
    targets: Sequence[str],
    sample_rows: int | None = None,
    seed: int = 42,
) -> Tables:
    """Read and check the three files; with `sample_rows`, keep that many random train rows.

    The checks see the whole of train, and the rows kept stay in the file's order. Raises UserError
    for files, columns, ids or target cells that are missing, doubled or do not match.
    """
    train_table = _read_with_ids(train, id, [*text, *targets])
    test_table = _read_with_ids(test, id, text)
    _check_id_types(train, train_table[id], test, test_table[id])
    sample = _read_sample(sample_submission, id, test, test_table[id])
    for target in targets:
        _check_no_empty_cells(train, train_table[target])
        train_table[target] = parse_column(train_table[target])

    if sample_rows is not None and sample_rows < len(train_table):
        rows = np.random.default_rng(seed).choice(len(train_table), sample_rows, replace=False)
        train_table = train_table.iloc[np.sort(rows)].reset_index(drop=True)
    test_table = test_table.drop(columns=list(targets), errors="ignore")
    missing = {c: int(train_table[c].isna().sum() + test_table[c].isna().sum()) for c in text}
    empty_texts = dict.fromkeys(text, "")
    return Tables(train_table.fillna(empty_texts), test_table.fillna(empty_texts), sample, missing)


def load_test(test: Path, sample_submission: Path, *, id: str, text: Sequence[str]) -> Unlabelled:
    """Read and check what predicting needs, as `load_tables` does, where train may be far away."""
    table = _read_with_ids(test, id, text)
    sample = _read_sample(sample_submission, id, test, table[id])
    return Unlabelled(table.fillna(dict.fromkeys(text, "")), sample)


def parse_column(column: pd.Series) -> pd.Series:
    """Strings to int64 where all are integers, else to float64 where all are numbers, else as is.

    Spaces around a number, and how it is written, are all that is lost. A leading zero ("007")
    marks a name rather than a number; an empty cell, or a number beyond the type, leaves all as is.
    """
    if column.isna().any():
        return column
    cells = {cell: cell.strip() for cell in set(column)}  # of many rows, few cells may be distinct
    if any(re.fullmatch(LEADING_ZERO, text) for text in cells.values()):
        return column
    whole = all(re.fullmatch(INTEGER, text) for text in cells.values())
    if not whole and not all(re.fullmatch(DECIMAL, text) for text in cells.values()):
        return column
    try:
        number = {cell: int(text) if whole else _float(text) for cell, text in cells.items()}
        dtype = "int64" if whole else "float64"
        return pd.Series(map(number.get, column), column.index, dtype, column.name)
    except (ValueError, OverflowError):
        return column


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value) and re.fullmatch(NUMBER, text):
        raise OverflowError(text)
    return value


def join_texts(frame: pd.DataFrame, columns: Sequence[str], separator: str) -> list[str]:
    """One text per row: a single column as it is, several joined by the separator in spaces."""
    cells = (frame[column].tolist() for column in columns)
    return [f" {separator} ".join(row) for row in zip(*cells, strict=True)]


def _read_with_ids(path: Path, id: str, columns: Sequence[str]) -> pd.DataFrame:
    """The table of `path` with `columns` present, and ids that are present and unique."""
    table = read_table(path, needed=[id, *columns])
    for column in [id, *columns]:
        if column not in table.columns:
            raise _unknown_column(path, column, list(table.columns))
    _check_ids(path, table[id])
    return table


def _unknown_column(path: Path, column: str, columns: Sequence[str]) -> UserError:
    near = nearest(column, columns)
    hint = f"; did you mean {quoted(near)}?" if near else ";"
    known = ", ".join(quoted(name)[1:-1] for name in sorted(columns)[:COLUMNS_SHOWN])
    more = f", … ({len(columns)})" if len(columns) > COLUMNS_SHOWN else ""
    return UserError(f"unknown column '{column}' in {path}{hint} known: {known}{more}")


def _check_ids(path: Path, ids: pd.Series) -> None:
    missing = np.flatnonzero(ids.isna() | (ids.str.strip() == ""))
    if len(missing):
        raise UserError(
            f"{path} row {_row(path, missing[0])} has no id in column '{ids.name}' "
            f"({len(missing)} such rows); give every row an id of its own"
        )
    spoilt = np.flatnonzero(ids.str.contains(CONTROL))
    if len(spoilt):
        raise UserError(
            f"{path} row {_row(path, spoilt[0])} has id {quoted(ids.iloc[spoilt[0]])} in column "
            f"'{ids.name}', expected no line break or control character ({len(spoilt)} such rows); "
            "look for a quote that is left open, or write the ids without"
        )
    repeated = np.flatnonzero(ids.duplicated())
    if len(repeated):
        value = ids.iloc[repeated[0]]
        first = np.flatnonzero(ids == value)[0]
        raise UserError(
            f"{path} has id {quoted(value)} in rows {_row(path, first)} and "
            f"{_row(path, repeated[0])} of column '{ids.name}' ({len(repeated)} such repeats); "
            "ids must be unique"
        )


def _row(path: Path, position: int) -> int:
    """The row's number as a reader of the file counts it."""
    return int(position) + (2 if path.suffix.lower() == ".csv" else 1)


def _check_id_types(train: Path, train_ids: pd.Series, test: Path, test_ids: pd.Series) -> None:
    integers = [bool(ids.str.fullmatch(INTEGER).all()) for ids in (train_ids, test_ids)]
    if integers[0] == integers[1]:
        return
    (path, ids), other = (test, test_ids), train
    if integers[1]:
        (path, ids), other = (train, train_ids), test
    odd = next(position for position, id in enumerate(ids) if not re.fullmatch(INTEGER, id))
    raise UserError(
        f"ids of {other} are all integers, those of {path} are not ({quoted(ids.iloc[odd])} in row "
        f"{_row(path, odd)}); expected one type, so check that both hold the same id column"
    )


def _read_sample(path: Path, id: str, test: Path, test_ids: pd.Series) -> pd.DataFrame:
    """The sample submission, its columns parsed, with exactly the ids of the test table."""
    sample = _read_with_ids(path, id, [])
    if len(sample.columns) < 2:
        raise UserError(
            f"{path} has no column beside '{id}', expected one for each value to submit; "
            "download the competition's own sample again"
        )
    for here, found, other, wanted in (
        (path, sample[id], test, test_ids),
        (test, test_ids, path, sample[id]),
    ):
        lacking = wanted[~wanted.isin(found)]
        if len(lacking):
            raise UserError(
                f"{here} lacks {len(lacking)} of the {len(wanted)} ids in {other}, the first "
                f"{quoted(lacking.iloc[0])}{_alike(lacking.iloc[0], found[~found.isin(wanted)])}; "
                "expected the same ids in both, in any order"
            )
    for column in sample.columns.drop(id):
        sample[column] = parse_column(sample[column])
    return sample


def _decimal(id: str) -> Decimal | str:
    return Decimal(id) if len(id) < 100 and re.fullmatch(NUMBER, id) else id


ALIKE: tuple[tuple[str, Callable[[str], Decimal | str]], ...] = (
    ("spaces around it", str.strip),
    ("upper and lower case", str.casefold),
    ("how the number is written", _decimal),
    ("how Unicode composes it (NFC, NFD)", lambda id: unicodedata.normalize("NFC", id)),
)


def _alike(id: str, others: pd.Series) -> str:
    """In brackets, an id that a reader may take for the same one, and what sets the two apart."""
    for what, form in ALIKE:
        for other in others:
            if form(other) == form(id):
                return f" ({quoted(other)} there differs only in {what})"
    return ""


def _check_no_empty_cells(path: Path, column: pd.Series) -> None:
    empty = np.flatnonzero(column.isna())
    if len(empty):
        raise UserError(
            f"{path} has {len(empty)} empty cells in target column '{column.name}', the first in "
            f"row {_row(path, empty[0])}; fill them or drop the rows"
        )
