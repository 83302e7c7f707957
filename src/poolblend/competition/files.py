"""Read one file, or a folder of parquet files, as a table of strings, or refuse it in one line.

Everything is read as strings, so that an id "0001" keeps its zeros and a text "NA" stays a text.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from pandas.api.types import is_list_like

from poolblend.competition.content import check_content
from poolblend.competition.delimited import read_csv
from poolblend.errors import UserError, quoted

# A parquet file may be small and unpack to more than fits into memory, so these limits are compared
# with its footer. A cell takes about 60 bytes as a string: the most cells are 16 GB.
MOST_CELLS = 2**28
MOST_BYTES = 2**33
HEAD = 4096  # the first bytes, by which other kinds of files are recognised


def read_table(path: Path, *, needed: Collection[str] = ()) -> pd.DataFrame:
    """Read a CSV (UTF-8, with or without BOM), parquet file or folder, every cell a string.

    The parquet files of a folder are read one after another, sorted by name, as one table. Only an
    empty cell is missing. Columns `needed` may not hold lists or the like. Raises UserError
    for a file that is absent, empty or unreadable, and for columns of one name.
    """
    return _named(path, _read(path, needed))


def parts(folder: Path) -> list[Path]:
    """The parquet files of a folder that is read as one table, sorted by name.

    Names that begin with a dot or an underscore, as _SUCCESS does, are no part of it. UserError
    where the folder holds anything else, or no file.
    """
    try:
        found = sorted(path for path in folder.iterdir() if path.name[0] not in "._")
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}; check its rights") from None
    others = [path for path in found if path.suffix.lower() != ".parquet" or not path.is_file()]
    if others or not found:
        held = quoted(others[0].name) if others else "no file"
        raise UserError(
            f"{folder} is a folder that holds {held}, expected parquet files alone, which are read "
            "as one table; name a file in it, or a folder of such files"
        )
    return found


def table_of(frame: pd.DataFrame, name: Path, *, needed: Collection[str] = ()) -> pd.DataFrame:
    """The DataFrame as `read_table` reads it from a parquet file; messages call it `name`."""
    flat = with_index_as_columns(frame)
    for column in flat.columns[[str(column) in needed for column in flat.columns]]:
        nested = [cell for cell in flat[column] if is_list_like(cell)]
        if nested:
            raise UserError(
                f"{name} holds {quoted(nested[0])} in column {quoted(column)}, expected one text "
                "or number per row"
            )
    return _named(name, _as_strings(flat))


def with_index_as_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The DataFrame with those levels of its index as columns that have a name of their own."""
    names = [name for name in frame.index.names if name is not None and name not in frame.columns]
    return (frame.reset_index(level=names) if names else frame).reset_index(drop=True)


def header(path: Path) -> list[str]:
    """The columns' names as in the file; "" for a column without one."""
    return [str(name) for name in _read(path, ()).columns]


def _read(path: Path, needed: Collection[str]) -> pd.DataFrame:
    if path.is_dir():
        return _read_parts(path, needed)
    content = _read_bytes(path)
    return read_csv(path, content) if _is_csv(path) else _read_parquet(path, content, needed)


def _read_parts(folder: Path, needed: Collection[str]) -> pd.DataFrame:
    """The rows of all parts; UserError where their columns differ."""
    paths = parts(folder)
    tables = [_unique(path, _read_parquet(path, _read_bytes(path), needed)) for path in paths]
    columns = tables[0].columns
    for path, table in zip(paths, tables, strict=True):
        differing = list(table.columns.symmetric_difference(columns))
        if differing:
            raise UserError(
                f"{path} has other columns than {paths[0]}, such as {quoted(differing[0])}; "
                "expected the same in all files of the folder: write them again, or move the file "
                "out of it"
            )
    return pd.concat([table[columns] for table in tables], ignore_index=True)


def _named(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The table with names of columns that differ; UserError where it has no rows."""
    if table.empty:
        raise UserError(f"{path} has no rows; expected a header and at least one row below it")
    return _unique(path, table)


def nearest(wanted: str, columns: Collection[str]) -> str | None:
    """The column whose name is most like the one wanted, in upper or lower case."""
    known = {column.casefold(): column for column in columns}
    near = difflib.get_close_matches(wanted.casefold(), known, n=1)
    return known[near[0]] if near else None


def is_table(path: Path) -> bool:
    """Whether the file's name is that of a table that can be read."""
    return path.suffix.lower() in (".csv", ".parquet")


def is_readable(path: Path) -> bool:
    """Whether `path` is there as a table: a file by its name, a folder by what it holds."""
    if not path.is_dir():
        return is_table(path)
    try:
        return bool(parts(path))
    except UserError:
        return False


def _is_csv(path: Path) -> bool:
    if not is_table(path):
        raise UserError(f"{path} ends in '{path.suffix}'; expected a .csv or .parquet file")
    return path.suffix.lower() == ".csv"


def _read_bytes(path: Path) -> bytes:
    """The bytes of a plain file that can be a table; pipes and devices are not even opened."""
    try:
        if not path.is_file():
            raise _no_file(path)
        kind = "CSV" if _is_csv(path) else "parquet"
        with path.open("rb") as file:
            check_content(path, file.read(HEAD), kind)
            file.seek(0)
            return file.read()
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "it is larger than the free memory"
        raise UserError(f"{path} cannot be read: {reason}; check the file and its rights") from None


def _no_file(path: Path) -> UserError:
    if path.exists() or path.is_symlink():
        return UserError(
            f"{path} is a device or a broken link; expected a .csv or .parquet file, or a folder "
            "of parquet files"
        )
    if not path.parent.is_dir():
        return UserError(f"no file {path}: there is no folder {path.parent}; check the path")
    names = sorted(p.name for p in path.parent.iterdir() if not p.name.startswith("."))
    near = difflib.get_close_matches(path.name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "check the path:"
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return UserError(f"no file {path}; {hint} the folder holds: {shown or 'nothing'}")


def _unique(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The table, its columns without a name named as pandas does; UserError for repeated names."""
    names = list(table.columns)
    named = pd.Index([name for name in names if name])
    if named.has_duplicates:
        twice = quoted(named[named.duplicated()][0])
        raise UserError(
            f"{path} has two columns {twice}, expected one of each name; "
            "rename one, or put a header where there is none"
        )
    filled = []
    for k, name in enumerate(names):
        made = name or f"Unnamed: {k}"
        while not name and made in named:
            made += ".1"
        filled.append(made)
    return table.set_axis(filled, axis=1)


def _read_parquet(path: Path, content: bytes, needed: Collection[str]) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a column whose type is a pickle: it is not opened
        return _as_strings(_frame(path, content, needed))


def _as_strings(frame: pd.DataFrame) -> pd.DataFrame:
    names = [str(name) for name in frame.columns]
    cells = {k: map(_cell, frame.iloc[:, k]) for k in range(len(names))}
    return pd.DataFrame(cells, dtype=str).set_axis(names, axis=1)


def _frame(path: Path, content: bytes, needed: Collection[str]) -> pd.DataFrame:
    """The table with its own types; an index that has a name is a column."""
    try:
        file = pa.parquet.ParquetFile(pa.BufferReader(content))
        _check_size(path, file.metadata)
        arrow = file.read()
        arrow.validate(full=True)
        frame = arrow.to_pandas(integer_object_nulls=True)
        if any(name is not None for name in frame.index.names):
            frame = frame.reset_index()
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise anything in pyarrow or pandas
        raise UserError(
            f"{path} cannot be read as parquet: {_line(error)}; copy or write it again"
        ) from None
    for name, column in zip(arrow.schema.names, arrow.columns, strict=True):
        if name in needed and (held := _unfit(column)):
            raise UserError(
                f"{path} holds {held} in column {quoted(name)}, expected one text or number per "
                "row; write the column again"
            )
    return frame


def _check_size(path: Path, footer: pa.parquet.FileMetaData) -> None:
    """Raise UserError for a table that would not fit into memory, by what its footer says."""
    groups = [footer.row_group(k) for k in range(footer.num_row_groups)]
    rows = max(footer.num_rows, sum(group.num_rows for group in groups))
    size = sum(group.total_byte_size for group in groups)
    if rows * footer.num_columns > MOST_CELLS or size > MOST_BYTES:
        raise UserError(
            f"{path} holds {rows:,} rows of {footer.num_columns:,} columns, {size / 1e9:.1f} GB "
            f"unpacked, expected at most {MOST_CELLS:,} cells and {MOST_BYTES / 1e9:.1f} GB; write "
            "only the rows and columns that are needed"
        )


def _unfit(column: pa.ChunkedArray) -> str | None:
    """What the column holds, if that is not one text or number per row."""
    if pa.types.is_nested(column.type):
        return _line(column.type)
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        try:
            column.cast(pa.large_string())
        except pa.ArrowInvalid:
            return "bytes that are not UTF-8"
    return None


def _cell(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace") or None
    # `is True`, because for a list isna answers element by element.
    return None if pd.isna(value) is True else str(value) or None  # type: ignore[call-overload]


def _line(reason: object) -> str:
    words = " ".join(str(reason).split())
    return "".join(letter if letter.isprintable() else "?" for letter in words)[:300]
