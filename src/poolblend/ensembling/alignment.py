"""Check one member's table against the expected rows and columns, and put it in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from poolblend.errors import quoted

# Half-precision softmaxes may exceed 1 by rounding, which is clipped.
ROUNDING = 1e-6
# The rounding error of a probability written with three decimals.
SUM_ROUNDING = 5e-4
MOST_LOST = 0.5  # of a row's probability, by rounding any number of classes
LARGEST = 1e100  # sums of squares of such values are finite


class TableError(Exception):
    """What is wrong with a table, and what to do about it where the run itself made the table."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


@dataclass(frozen=True, eq=False)
class Expected:
    """What every table must hold; `fold_N` is None where the rows have no folds.

    `possible_NK` are the labels that the rows can have, None for all.
    `last` has the ids of the last table that was right, and the rows where the expected ones are.
    """

    ids: pd.Index
    outputs: tuple[str, ...] = ()
    probabilities: bool = False
    simplex: bool = False
    fold_N: np.ndarray | None = None
    kind: str = "training"
    possible_NK: np.ndarray | None = None
    last: list[tuple[pd.Series, np.ndarray]] = field(default_factory=list, repr=False)

    def row(self, n: int) -> str:
        """The n-th row as messages name it."""
        fold = "" if self.fold_N is None else f" of fold {self.fold_N[n]}"
        return f"{quoted(self.ids[n])}{fold}"


def align(table: pd.DataFrame, expected: Expected, *, elsewhere: bool) -> np.ndarray:
    """One member's predictions (N, K) in the order of the ids expected.

    A table from `elsewhere` may count folds from any number, or have none. Raises TableError.
    """
    folded = expected.fold_N is not None and not (elsewhere and "fold" not in table.columns)
    columns = _prediction_columns(table, expected.outputs, ["id", "fold"] if folded else ["id"])
    row_N = find_rows(table, expected)
    if folded:
        _check_folds(table, row_N, expected, elsewhere)
    pred_NK = _numbers(table, columns)[row_N]
    _check_values(pred_NK, columns, expected)
    return pred_NK


def find_rows(table: pd.DataFrame, expected: Expected) -> np.ndarray:
    """The table's row of each expected id (N,); TableError unless it has exactly these, once."""
    for ids, row_N in expected.last:
        if ids.equals(table["id"]):  # most tables have the same order
            return row_N
    own = pd.Index(table["id"].astype(str))
    if own.has_duplicates:
        raise TableError(
            f"id {first_repeated(own)} is predicted more than once, expected once", "train it again"
        )
    row_N = own.get_indexer(expected.ids)
    absent = np.flatnonzero(row_N < 0)
    extra = own[~own.isin(expected.ids)] if len(absent) or len(own) > len(row_N) else own[:0]
    if len(absent):
        instead = f" (it has others, such as {quoted(extra[0])})" if len(extra) else ""
        raise TableError(
            f"{len(absent)} of {len(row_N)} ids have no prediction, the first is "
            f"{expected.row(absent[0])}{instead}",
            "train the folds it lacks",
        )
    if len(extra):
        raise TableError(
            f"{len(extra)} ids are not among the {expected.kind} rows, the first is "
            f"{quoted(extra[0])}",
            "it was made from other data",
        )
    expected.last[:] = [(table["id"], row_N)]
    return row_N


def renumbered(fold_N: np.ndarray) -> np.ndarray:
    """Folds renumbered 0, 1, 2… in rising order; NaN stays NaN."""
    counted_N = np.unique(fold_N, return_inverse=True)[1].astype(np.float64)
    return np.where(np.isnan(fold_N), np.nan, counted_N)


def off_simplex(pred_NK: np.ndarray) -> np.ndarray:
    """The rows whose predictions do not sum to 1 within what rounding can explain.

    Where all have at most one or two decimals, they may have been rounded or cut off there: K
    numbers can then lack K units of the last decimal, or exceed 1 by half a unit for each that is
    not 0.
    """
    n_outputs, gap_N = pred_NK.shape[1], pred_NK.sum(axis=1) - 1
    less, more = np.full(len(pred_NK), SUM_ROUNDING * n_outputs), SUM_ROUNDING * n_outputs
    unit = next((u for u in (0.1, 0.01) if _whole(pred_NK / u)), None)
    if unit is not None:
        less = np.maximum(less, unit * n_outputs)
        more = np.maximum(more, unit / 2 * np.count_nonzero(pred_NK, axis=1))
    slack = 1e-9
    low_N, high_N = np.minimum(less, MOST_LOST) + slack, np.minimum(more, MOST_LOST) + slack
    return np.flatnonzero((gap_N < -low_N) | (gap_N > high_N))


def _whole(values_NK: np.ndarray) -> bool:
    """Whether all are whole numbers, within the precision of a float32."""
    return bool((np.abs(values_NK - np.round(values_NK)) < 1e-5).all())


def first_repeated(ids: pd.Index) -> str:
    """The first id that occurs in `ids` a second time, quoted."""
    return quoted(ids[ids.duplicated()][0])


def _prediction_columns(
    table: pd.DataFrame, outputs: Sequence[str], keys: Sequence[str]
) -> list[str]:
    columns = [f"pred_{output}" for output in outputs]
    found = [str(column) for column in table.columns if str(column).startswith("pred_")]
    lacking = [column for column in (*keys, *columns) if column not in table.columns]
    if lacking or len(found) != len(columns):
        raise TableError(
            f"its columns are {', '.join(map(str, table.columns))}, expected "
            f"{', '.join([*keys, *columns])}",
            "it belongs to another task",
        )
    return columns


def _check_folds(
    table: pd.DataFrame, row_N: np.ndarray, expected: Expected, elsewhere: bool
) -> None:
    assert expected.fold_N is not None
    own_N = pd.to_numeric(table["fold"], errors="coerce").to_numpy(dtype=np.float64)[row_N]
    counted_N = renumbered(own_N) if elsewhere else own_N
    moved = np.flatnonzero(counted_N != expected.fold_N)
    if len(moved):
        n = moved[0]
        counted = "" if counted_N[n] == own_N[n] else f" ({counted_N[n]:g} when counted from 0)"
        raise TableError(
            f"it was trained on other folds: id {quoted(expected.ids[n])} is in fold {own_N[n]:g} "
            f"there{counted}, in fold {expected.fold_N[n]} of the folds table "
            f"({len(moved)} ids differ)",
            "train it again",
        )


def _numbers(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    for column in columns:
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise TableError(
                f"column {column} holds {table[column].iloc[0]!r} and the like, expected numbers",
                "train it again",
            )
    return table[list(columns)].to_numpy(dtype=np.float64, na_value=np.nan)


def _check_values(pred_NK: np.ndarray, columns: Sequence[str], expected: Expected) -> None:
    remedy = "predict that fold again"
    bad_NK, what = ~(np.abs(pred_NK) < LARGEST), "a finite number"
    if not bad_NK.any() and expected.probabilities:
        bad_NK = (pred_NK < -ROUNDING) | (pred_NK > 1 + ROUNDING)
        what = "a probability from 0 to 1"
    if bad_NK.any():
        n, k = np.argwhere(bad_NK)[0]
        raise TableError(
            f"{columns[k]} is {pred_NK[n, k]:g} for id {expected.row(n)}, expected "
            f"{what} ({bad_NK.sum()} such values)",
            remedy,
        )
    off_N = off_simplex(pred_NK) if expected.simplex else np.empty(0, dtype=np.int64)
    if len(off_N):
        raise TableError(
            f"{columns[0]} to {columns[-1]} sum to {pred_NK[off_N[0]].sum():.6g} for id "
            f"{expected.row(off_N[0])}, expected 1 ({len(off_N)} such rows)",
            remedy,
        )
