"""Cells: parse strings to numbers, check shares; errors name the row.

Shapes: K classes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from poolblend.competition.ids import INTEGER, NUMBER, row_number
from poolblend.errors import UserError, quoted

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 1e30  # in size; heads compute in single precision, which ends at 3e38
LEADING_ZERO = r"[+-]?0[0-9]+"
ROUNDING = 0.005  # of each share of a row: files may hold two digits
TOLERANCE = 1e-3  # of the sum of a row's shares, beside that
DECIMAL = rf"{NUMBER}|[+-]?(?i:inf|infinity|nan)"


def parse_column(column: pd.Series) -> pd.Series:
    """Strings to int64 where all are integers, else to float64 where all are numbers, else as is.

    Only the spaces around a number and its notation are lost. With a leading zero ("007"), which
    marks a name, an empty cell, or a number beyond the type's range, the column is unchanged.
    """
    import pandas as pd

    if column.isna().any():
        return column
    cells = {cell: cell.strip() for cell in set(column)}  # often few cells are distinct
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


def stripped(column: pd.Series) -> list[str]:
    """The cells as texts without surrounding spaces; "" for a missing one."""
    import pandas as pd

    return ["" if pd.isna(cell) else str(cell).strip() for cell in column.tolist()]


def numbers(column: pd.Series, path: Path | None = None) -> np.ndarray:
    """The cells as float64 (N,), an empty one as NaN; UserError for other non-finite cells.

    `path` is the file that messages name, with the row as a spreadsheet shows it.
    """
    values_N = np.array([_number(cell) for cell in stripped(column)], dtype=np.float64)
    bad = np.flatnonzero(np.isinf(values_N))
    if len(bad):
        row = f"row {bad[0] + 1}" if path is None else f"{path} row {row_number(path, bad[0])}"
        raise UserError(
            f"{row} holds {quoted(column.iloc[bad[0]])} in numeric column '{column.name}' "
            f"({len(bad)} such rows), expected a finite number or an empty cell; correct the "
            "cell, or name the column in data.categorical"
        )
    return values_N


def _number(cell: str) -> float:
    """NaN for an empty cell, infinity for anything else that is not a number."""
    if not cell:
        return math.nan
    value = float(cell) if re.fullmatch(NUMBER, cell) else math.inf
    return value if abs(value) <= LARGEST else math.inf


def bounded(path: Path, column: pd.Series, most: float, *, expected: str, key: str) -> np.ndarray:
    """The cells as float64 (N,) from 0 to `most`.

    Raises UserError, naming the first row and the config's `key`, for other and for empty cells.
    """
    values_N = numbers(column, path)
    bad = np.flatnonzero(~((values_N >= 0) & (values_N <= most)))
    if len(bad):
        cell = stripped(column)[bad[0]]
        raise UserError(
            f"{path} row {row_number(path, bad[0])} holds "
            f"{quoted(column.iloc[bad[0]]) if cell else 'nothing'} in column '{column.name}' of "
            f"{key} ({len(bad)} such rows), expected {expected}; correct the cell"
        )
    return values_N


def check_filled(path: Path, column: pd.Series) -> None:
    """Raise UserError for a column of `path` that has no value in any row."""
    if not any(stripped(column)):
        raise UserError(
            f"column '{column.name}' of {path} is empty in all {len(column)} rows, expected a "
            "value in some; leave it out of data.numeric and data.categorical"
        )


def normalise_shares(
    share_NK: np.ndarray, rows: Sequence[object], place: str, remedy: str = "correct the row"
) -> np.ndarray:
    """The shares (N, K), each row divided by its sum, which is 1 but for rounding.

    Raises UserError for a row with another sum, by its name in `rows`; it begins with `place` and
    ends with `remedy`.
    """
    sum_N = share_NK.sum(axis=1)
    bad = np.flatnonzero(~(np.abs(sum_N - 1) <= ROUNDING * share_NK.shape[1] + TOLERANCE))
    if len(bad):
        raise UserError(
            f"{place} {quoted(rows[bad[0]])} sums to {sum_N[bad[0]]:.4g} ({len(bad)} such rows), "
            f"expected 1; {remedy}"
        )
    return share_NK / sum_N[:, None]
