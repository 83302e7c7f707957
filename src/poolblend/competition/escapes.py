"""CSV whose quotes are escaped by a backslash, as Spark writes it, rewritten with doubled quotes.

A file is taken for one of these only if it breaks the rules of RFC 4180, by which a quote inside a
cell is doubled, and keeps those of the other dialect from its first byte to its last. A file of
doubled quotes therefore stays as it is, whatever backslashes its texts hold.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from poolblend.errors import UserError, quoted

log = logging.getLogger(__name__)

END = rb"(?:,|\r\n?|\n)"
BARE = rb'[^",\r\n]++'
DOUBLED = rb'"[^"]*+(?:""[^"]*+)*+"'
# Python's csv module escapes a quote in a cell without quotes around it, too.
BARE_ESCAPED = rb'[^",\r\n]++(?:(?<=\\)"[^",\r\n]*+)*+'
ESCAPED = rb'"[^"\\]*+(?:(?:\\.|"")[^"\\]*+)*+"'


def _table_of(cell: bytes) -> re.Pattern[bytes]:
    """A whole file of such cells; possessive, so that it takes neither memory nor a second try."""
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
    """Where the text ceases to be such a table: behind the last cell that may be one."""
    found = table.match(text)
    assert found is not None  # of any text, no cells at all are one
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
        plain = re.sub(rb'\\(["\\])|""', _unescaped, held[1:-1] if _in_quotes(held) else held)
        return b'"%b"' % plain.replace(b'"', b'""')

    return (cell.sub(rewrite, text), len(quoted_cells)) if quoted_cells else (text, 0)


def _in_quotes(cell: bytes) -> bool:
    return cell.startswith(b'"')


def _unescaped(escape: re.Match[bytes]) -> bytes:
    return escape[1] or b'"'
