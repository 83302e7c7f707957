"""Read what a competition ships (train, test, sample submission) and refuse what cannot be right.

Everything is read as strings, so that an id "0001" keeps its zeros and a text "NA" stays a text.
In messages, rows count as a spreadsheet shows them: a CSV's header is row 1.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.errors import UserError, unknown

INTEGER = r"[+-]?[0-9]+"
LEADING_ZERO = r"[+-]?0[0-9]+"


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


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV (UTF-8, with or without BOM) or parquet file, every cell a string.

    Only an empty cell is missing. Raises UserError for a file that is absent, empty or unreadable.
    """
    if not path.is_file():
        raise _no_file(path)
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path} ends in '{path.suffix}'; expected a .csv or .parquet file")
    table = readers[path.suffix.lower()](path)
    if table.empty:
        raise UserError(f"{path} has no rows; expected a header and at least one row below it")
    return table


def parse_column(column: pd.Series) -> pd.Series:
    """Strings to int64 where all are integers, else to float64 where all are numbers, else as is.

    A leading zero ("007") marks a name rather than a number, and an empty cell leaves all as is.
    """
    if column.isna().any() or column.str.fullmatch(LEADING_ZERO).any():
        return column
    try:
        return column.astype("int64" if column.str.fullmatch(INTEGER).all() else "float64")
    except (ValueError, OverflowError):
        return column


def join_texts(frame: pd.DataFrame, columns: Sequence[str], separator: str) -> list[str]:
    """One text per row: a single column as it is, several joined by the separator in spaces."""
    cells = (frame[column].tolist() for column in columns)
    return [f" {separator} ".join(row) for row in zip(*cells, strict=True)]


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # pandas only warns when rows are longer than the header, and drops their last cells.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                na_values=[""],
                index_col=False,
            )
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} cannot be read as CSV: {reason}; expected commas between the cells, and "
            "double quotes around a text that holds commas or line breaks"
        ) from error


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path, dtype_backend="numpy_nullable")
        if table.index.name is not None:
            table = table.reset_index()
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as parquet: {reason}; write it again") from error
    return pd.DataFrame({name: map(_cell, table[name]) for name in table.columns}, dtype=str)


def _cell(value: object) -> str | None:
    # `is True`, because for a list isna answers element by element.
    return None if pd.isna(value) is True else str(value) or None  # type: ignore[call-overload]


def _no_file(path: Path) -> UserError:
    if path.is_dir():
        return UserError(f"{path} is a folder; expected a .csv or .parquet file")
    if not path.parent.is_dir():
        return UserError(f"no file {path}: there is no folder {path.parent}; check the path")
    names = sorted(p.name for p in path.parent.iterdir() if p.is_file())
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else "check the path:"
    held = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return UserError(f"no file {path}; {hint} the folder holds: {held or 'no files'}")


def _not_utf8(path: Path) -> UserError:
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return UserError(
            f"{path} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start} "
            f"(line {line}); save the file as UTF-8"
        )
    raise AssertionError(f"{path} decodes after all")


def _read_with_ids(path: Path, id: str, columns: Sequence[str]) -> pd.DataFrame:
    """The table of `path` with `columns` present, and ids that are present and unique."""
    table = read_table(path)
    for column in [id, *columns]:
        if column not in table.columns:
            raise unknown("column", column, table.columns, f"in {path}")
    missing = np.flatnonzero(table[id].isna())
    if len(missing):
        raise UserError(
            f"{path} row {_row(path, missing[0])} has no id in column '{id}' "
            f"({len(missing)} such rows); give every row an id of its own"
        )
    repeated = np.flatnonzero(table[id].duplicated())
    if len(repeated):
        value = table[id].iloc[repeated[0]]
        first = np.flatnonzero(table[id] == value)[0]
        raise UserError(
            f"{path} has id '{value}' in rows {_row(path, first)} and {_row(path, repeated[0])} "
            f"of column '{id}' ({len(repeated)} such repeats); ids must be unique"
        )
    return table


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
        f"ids of {other} are all integers, those of {path} are not ('{ids.iloc[odd]}' in row "
        f"{_row(path, odd)}); expected one type, so check that both hold the same id column"
    )


def _read_sample(path: Path, id: str, test: Path, test_ids: pd.Series) -> pd.DataFrame:
    """The sample submission, its columns parsed, with exactly the ids of the test table."""
    sample = _read_with_ids(path, id, [])
    for here, found, other, wanted in (
        (path, sample[id], test, test_ids),
        (test, test_ids, path, sample[id]),
    ):
        lacking = wanted[~wanted.isin(found)]
        if len(lacking):
            raise UserError(
                f"{here} lacks {len(lacking)} of the {len(wanted)} ids in {other}, the first "
                f"'{lacking.iloc[0]}'; expected the same ids in both, in any order"
            )
    for column in sample.columns.drop(id):
        sample[column] = parse_column(sample[column])
    return sample


def _check_no_empty_cells(path: Path, column: pd.Series) -> None:
    empty = np.flatnonzero(column.isna())
    if len(empty):
        raise UserError(
            f"{path} has {len(empty)} empty cells in target column '{column.name}', the first in "
            f"row {_row(path, empty[0])}; fill them or drop the rows"
        )
