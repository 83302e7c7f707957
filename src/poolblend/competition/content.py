"""Recognise files that are not tables by their first bytes, and refuse them."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from poolblend.errors import UserError, quoted

BLOCK = 1 << 20
CONVERT = "save it as CSV in UTF-8"
PICKLE = "a pickle, which is never opened because it can run code"

# First bytes, what they mean, and what to do.
KINDS = (
    (rb"PAR1[\0-\x1f]", "parquet data", "let its name end in .parquet"),
    (rb"\x1f\x8b", "gzip data", "unpack it"),
    (rb"PK(\x03\x04|\x05\x06)", "a zip archive or an Excel workbook", "unpack or save it as CSV"),
    (rb"\xd0\xcf\x11\xe0", "an old Excel workbook", CONVERT),
    (rb"\x80[\2-\5]", PICKLE, "let whoever wrote it write CSV or parquet"),
    (rb"version https://git-lfs", "a pointer to a Git LFS file", "run git lfs pull"),
    (rb"(?i)\s*<(!doctype|html|\?xml|!--)", "a web page", "download the file itself, logged in"),
    (rb"\s*(\{\s*[\"}]|\[\s*[\[{\"\]0-9])", "JSON", CONVERT),
)
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def check_content(path: Path, head: bytes, kind: str) -> None:
    """Raise UserError where the first bytes are not those of a file of `kind`, CSV or parquet."""
    if not head:
        return
    if head.startswith(b"PAR1") and kind == "parquet":
        return
    if head.startswith(UTF_16_MARKS):
        raise UserError(
            f"{path} is not UTF-8 but UTF-16: it begins with that encoding's byte-order mark; save "
            "the file as UTF-8 (in Excel: 'CSV UTF-8')"
        )
    if not head.strip(b"\0"):
        raise UserError(f"{path} begins with NUL bytes; it is damaged: copy or download it again")
    for pattern, what, remedy in KINDS:
        if re.match(pattern, head.removeprefix(b"\xef\xbb\xbf")):
            raise UserError(f"{path} cannot be read as {kind}: it holds {what}; {remedy}")
    if kind == "parquet":
        raise UserError(
            f"{path} cannot be read as parquet: it begins with "
            f"{quoted(head[:20].decode('utf-8', 'replace'))}; write it again, or let its name end "
            "in .csv if it is that"
        )


def check_utf8(path: Path, content: bytes) -> None:
    """Raise UserError for the first byte that is not UTF-8, and show it as Windows-1252."""
    decoder, start = codecs.getincrementaldecoder("utf-8")(), 0
    try:
        # Decoded as a whole, it could take four times the memory.
        for start in range(0, len(content), BLOCK):
            decoder.decode(content[start : start + BLOCK])
        start = len(content)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        place = start - len(decoder.getstate()[0]) + error.start
        line = content.count(b"\n", 0, place) + 1
        around = content[max(0, place - 10) : place + 10].decode("cp1252", "replace")
        raise UserError(
            f"{path} is not UTF-8: byte 0x{content[place]:02x} at offset {place} (line {line}), "
            f"in Windows-1252 {quoted(around)}; save the file as UTF-8"
        ) from None
