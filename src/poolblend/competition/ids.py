"""What ids and keys must be: present, unique and plain; and what may tell two unlike ones apart.

In messages, rows count as a spreadsheet shows them: a CSV's header is row 1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.errors import UserError, quoted

INTEGER = r"[+-]?[0-9]+"
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
# Where an id ends in a line break, a quote was left open; others spoil every file they stand in.
CONTROL = r"[\x00-\x1f\x7f]"


def row_number(path: Path, position: int) -> int:
    """The row's number as a reader of the file counts it."""
    return int(position) + (2 if path.suffix.lower() == ".csv" else 1)


def check_unique(path: Path, ids: pd.Series, noun: str = "id") -> None:
    """Raise UserError for an id (in messages, a `noun`) that is missing, spoilt or doubled."""
    missing = np.flatnonzero(ids.isna() | (ids.str.strip() == ""))
    if len(missing):
        article = "an" if noun[0] in "aeiou" else "a"
        raise UserError(
            f"{path} row {row_number(path, missing[0])} has no {noun} in column '{ids.name}' "
            f"({len(missing)} such rows); give every row {article} {noun} of its own"
        )
    spoilt = np.flatnonzero(ids.str.contains(CONTROL))
    if len(spoilt):
        raise UserError(
            f"{path} row {row_number(path, spoilt[0])} has {noun} {quoted(ids.iloc[spoilt[0]])} in "
            f"column '{ids.name}', expected no line break or control character ({len(spoilt)} such "
            f"rows); look for a quote that is left open, or write the {noun}s without"
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


def alike(id: str, others: pd.Series) -> str:
    """In brackets, an id that a reader may take for the same one, and what sets the two apart."""
    for what, form in ALIKE:
        for other in others:
            if form(other) == form(id):
                return f" ({quoted(other)} there differs only in {what})"
    return ""


def _last_number(id: str) -> str:
    found = re.fullmatch(r"[^0-9]*([0-9]{1,40})", id)
    return found[1] if found else id


def _decimal(id: str) -> Decimal | str:
    return Decimal(id) if len(id) < 100 and re.fullmatch(NUMBER, id) else id


ALIKE: tuple[tuple[str, Callable[[str], Decimal | str]], ...] = (
    ("spaces around it", str.strip),
    ("upper and lower case", str.casefold),
    ("how the number is written", _decimal),
    ("how Unicode composes it (NFC, NFD)", lambda id: unicodedata.normalize("NFC", id)),
    ("what stands before its number", _last_number),
)
