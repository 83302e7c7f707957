"""Read a CSV file as a table of strings: nothing is guessed, dropped or filled in.

pandas silently fills rows that are too short, so their cells are counted here.
pyarrow would see them, but before version 20 it writes beyond its memory where a row is too long
(apache/arrow#45497).

A CSV whose quotes are escaped by a backslash, as Spark writes it, is rewritten with doubled quotes.
This is done only if the file breaks RFC 4180 (a quote inside a cell is doubled) and the whole file
is valid in the other dialect. A file with doubled quotes stays unchanged, whatever backslashes its
texts hold.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from poolblend.competition.content import check_utf8
from poolblend.errors import UserError, quoted

log = logging.getLogger(__name__)

MOST_COLUMNS = 50_000  # more mean a transposed table, or a file without line breaks
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
            "check that each row is on a separate line"
        )
    return names


def _check_widths(path: Path, text: bytes, width: int) -> None:
    """Raise UserError for the first row that has not `width` cells; the header is row 1."""
    with _cells_of_any_size():
        for number, cells in enumerate(_cells(text), start=1):
            if len(cells) != width and (len(cells) > 1 or "".join(cells).strip()):
                found = f"row {number} has {len(cells)} cells, the header {width}"
                raise _broken(path, f"{found} ({quoted(','.join(cells[:20]))})")


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


END = rb"(?:,|\r\n?|\n)"
BARE = rb'[^",\r\n]++'
DOUBLED = rb'"[^"]*+(?:""[^"]*+)*+"'
# Python's csv module escapes a quote in a cell without quotes around it, too.
BARE_ESCAPED = rb'[^",\r\n]++(?:(?<=\\)"[^",\r\n]*+)*+'
ESCAPED = rb'"[^"\\]*+(?:(?:\\.|"")[^"\\]*+)*+"'


def _table_of(cell: bytes) -> re.Pattern[bytes]:
    """Matches a whole file of such cells; possessive, so that it never backtracks."""
    return re.compile(rb"(?:(?:%b)?%b)*+(?:%b)?" % (cell, END, cell), re.DOTALL)


ESCAPED_CELL = rb"%b|%b" % (ESCAPED, BARE_ESCAPED)
RFC4180 = _table_of(rb"%b|%b" % (DOUBLED, BARE))
BACKSLASHES = _table_of(ESCAPED_CELL)


def with_doubled_quotes(path: Path, text: bytes) -> bytes:
    """The CSV with its quotes doubled where it escapes them by a backslash, else as it is.

    Raises UserError for a file that does so in one cell, but breaks the dialect elsewhere.
    """
    if b'\\"' not in text or (broken := _end(RFC4180, text)) == len(text):
        return text
    last = _end(BACKSLASHES, text)
    if last == len(text):
        rewritten, count = _rewritten(text)
        if count:
            log.info("%s: quotes after a backslash are read as quotes, in %d cells", path, count)
        return rewritten
    if text[:broken].endswith(b'\\"'):
        where = text[max(0, last - 20) : last + 20].decode("utf-8", "replace")
        raise UserError(
            f"{path} has quotes after a backslash in row {_row(DOUBLED, text, broken)}, but reads "
            f"neither so nor with doubled quotes: row {_row(ESCAPED, text, last)} has a quote out "
            f"of place ({quoted(where)}); write it again with each quote inside a cell doubled"
        )
    return text


def _end(table: re.Pattern[bytes], text: bytes) -> int:
    """The position after the last cell that matches."""
    found = table.match(text)
    assert found is not None  # zero cells always match
    return found.end()


def _row(cell: bytes, text: bytes, place: int) -> int:
    """The row of a place, counting the header as row 1 and no line breaks inside quotes."""
    pieces = re.finditer(rb"%b|\r\n?|\n" % cell, text[:place], re.DOTALL)
    return 1 + sum(not piece[0].startswith(b'"') for piece in pieces)


def _rewritten(text: bytes) -> tuple[bytes, int]:
    """The text with doubled quotes, and how many of its quoted cells had escaped ones."""
    cell = re.compile(ESCAPED_CELL, re.DOTALL)
    with_quotes = [held[0] for held in cell.finditer(text) if b'\\"' in held[0]]
    quoted_cells = [held for held in with_quotes if _in_quotes(held)]
    # Spark leaves backslashes alone in a cell without quotes around it, Python doubles them.
    everywhere = len(quoted_cells) < len(with_quotes)

    def rewrite(found: re.Match[bytes]) -> bytes:
        held = found[0]
        if b"\\" not in held or not (everywhere or _in_quotes(held)):
            return held
        inner = held[1:-1] if _in_quotes(held) else held
        plain = re.sub(rb'\\(["\\])|""', lambda escape: escape[1] or b'"', inner)
        return b'"%b"' % plain.replace(b'"', b'""')

    return (cell.sub(rewrite, text), len(quoted_cells)) if quoted_cells else (text, 0)


def _in_quotes(cell: bytes) -> bool:
    return cell.startswith(b'"')
