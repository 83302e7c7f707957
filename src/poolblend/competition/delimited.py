"""A CSV file to a table of strings: nothing is guessed, dropped or filled in.

pandas parses it and fills rows that are too short in silence, so their cells are counted here.
pyarrow would see them, but before version 20 it writes beyond its memory where a row is too long
(apache/arrow#45497).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from poolblend.competition.content import check_utf8
from poolblend.competition.escapes import with_doubled_quotes
from poolblend.errors import UserError, quoted

MOST_COLUMNS = 50_000  # more are a table on its side, or a file without line breaks
BLANK_LINES = re.compile(rb"(?:[ \t]*(?:\r\n|\r|\n))*")
QUOTES = "double quotes around a text that holds commas or line breaks"


def read_csv(path: Path, content: bytes) -> pd.DataFrame:
    """The rows below the header under its names, as they stand; UserError for a broken file.

    All cells are strings, an empty one is missing.
    """
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise UserError(f"{path} holds a NUL byte in line {line}, expected text; save it as UTF-8")
    check_utf8(path, content)
    text = content.removeprefix(b"\xef\xbb\xbf")
    blank = BLANK_LINES.match(text)
    text = with_doubled_quotes(path, text[blank.end() :] if blank else text)
    names = _header(path, text)
    if not names:
        return pd.DataFrame()
    try:
        # The header is read as a row, because pandas would rename columns of one name.
        rows = pd.read_csv(
            io.BytesIO(text), header=None, dtype=str, keep_default_na=False, na_values=[""]
        )
    except (pd.errors.ParserError, ValueError, MemoryError) as error:
        open_quote = re.search(r"EOF inside string starting at row (\d+)", str(error))
        if open_quote:
            row = int(open_quote[1]) + 1
            raise _broken(path, f"a quote that opens in row {row} is never closed") from None
        _check_widths(path, text, len(names))
        raise _broken(path, quoted(error)) from None
    if rows.iloc[:, -1].isna().any() or rows.shape[1] != len(names):
        _check_widths(path, text, len(names))
    return rows.iloc[1:].reset_index(drop=True).set_axis(names, axis=1)


def _header(path: Path, text: bytes) -> list[str]:
    """The names in the first row; none where the file has no text."""
    try:
        names = next(_cells(text), [])
    except csv.Error as error:
        raise _broken(path, f"in its header, {error}") from None
    if len(names) == 1 and (separator := re.search(r"[;\t|]", names[0])):
        raise UserError(
            f"{path} seems to have {quoted(separator[0])} between its cells (its header is "
            f"{quoted(names[0])}), expected commas; save it with commas"
        )
    if len(names) > MOST_COLUMNS:
        raise UserError(
            f"{path} has {len(names)} columns in its header, expected {MOST_COLUMNS} at most; "
            "check that each row stands on a line of its own"
        )
    return names


def _check_widths(path: Path, text: bytes, width: int) -> None:
    """Raise UserError for the first row that has not `width` cells; the header is row 1."""
    with _cells_of_any_size():
        for number, cells in enumerate(_cells(text), start=1):
            if len(cells) != width and (len(cells) > 1 or "".join(cells).strip()):
                held = f"row {number} has {len(cells)} cells, the header {width}"
                raise _broken(path, f"{held} ({quoted(','.join(cells[:20]))})")


def _cells(text: bytes) -> Iterator[list[str]]:
    return csv.reader(io.TextIOWrapper(io.BytesIO(text), "utf-8", newline=""))


@contextmanager
def _cells_of_any_size() -> Iterator[None]:
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _broken(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} cannot be read as CSV: {reason}; expected commas between the cells, and {QUOTES}"
    )
