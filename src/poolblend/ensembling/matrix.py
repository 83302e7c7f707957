"""From one OOF table per member to one aligned matrix, or a refusal that names who disagrees.

Legend: M members, N rows (in the order of the folds table), K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from poolblend.errors import UserError

# Half-precision softmaxes end a hair above 1; that is rounding, and is clipped away.
ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class OofMatrix:
    """What a blend is fitted on: every row predicted once by every member, never by a guess.

    `ids_N` are strings, `fold_N` integers, `y` is shaped as the task encodes it, `oof_MNK` holds
    finite floats.
    """

    ids_N: np.ndarray
    fold_N: np.ndarray
    y: np.ndarray
    oof_MNK: np.ndarray
    members: tuple[str, ...]
    outputs: tuple[str, ...]


def build_matrix(
    tables: Mapping[str, pd.DataFrame],
    folds: pd.DataFrame,
    y: np.ndarray,
    outputs: Sequence[str],
    *,
    probabilities: bool,
) -> OofMatrix:
    """Join the members' OOF tables (id, fold, pred_<output>…) by id, in the order of `folds`.

    `y` follows the rows of `folds`; `probabilities` demands predictions from 0 to 1. Raises
    UserError for missing, extra or repeated ids, folds other than those of `folds`, NaN, infinite
    or non-numeric predictions, and other output columns, naming every member at fault.
    """
    if not tables:
        raise UserError("no member to blend; train at least one on every fold first")
    ids = pd.Index(folds["id"].astype(str))
    if ids.has_duplicates:
        raise UserError(
            f"id '{_first_repeated(ids)}' stands more than once in the folds table, expected "
            "each id once; restore the file that the members were trained with"
        )
    if len(y) != len(ids):
        raise UserError(
            f"{len(y)} rows have labels but {len(ids)} have folds, expected the same rows; "
            "give the training table that the folds were made for"
        )
    fold_N = folds["fold"].to_numpy(dtype=np.int64)
    oof_MNK = np.empty((len(tables), len(ids), len(outputs)))
    faults: dict[str, str] = {}
    for m, (member, table) in enumerate(tables.items()):
        try:
            oof_MNK[m] = _aligned(table, ids, fold_N, outputs, probabilities)
        except UserError as fault:
            faults[member] = str(fault)
    if faults:
        raise UserError(_refusal(faults))
    return OofMatrix(
        ids.to_numpy(dtype=str), fold_N, np.asarray(y), oof_MNK, tuple(tables), tuple(outputs)
    )


def _aligned(
    table: pd.DataFrame,
    ids: pd.Index,
    fold_N: np.ndarray,
    outputs: Sequence[str],
    probabilities: bool,
) -> np.ndarray:
    """One member's predictions (N, K) in the order of `ids`; a fault comes without its name."""
    columns = _prediction_columns(table, outputs)
    own = pd.Index(table["id"].astype(str))
    if own.has_duplicates:
        raise UserError(f"id '{_first_repeated(own)}' is predicted more than once, expected once")
    row_N = own.get_indexer(ids)
    if (row_N < 0).any():
        absent = np.flatnonzero(row_N < 0)
        raise UserError(
            f"{len(absent)} of {len(ids)} ids have no prediction, the first is "
            f"'{ids[absent[0]]}' of fold {fold_N[absent[0]]}; train the folds it lacks"
        )
    if len(own) > len(ids):
        extra = own[~own.isin(ids)]
        raise UserError(
            f"{len(extra)} ids are not among the training rows, the first is '{extra[0]}'; "
            "it was made from other data"
        )
    own_fold_N = pd.to_numeric(table["fold"], errors="coerce").to_numpy(dtype=float)[row_N]
    moved = np.flatnonzero(own_fold_N != fold_N)
    if len(moved):
        n = moved[0]
        raise UserError(
            f"it was trained on other folds: id '{ids[n]}' is in fold {own_fold_N[n]:g} there, "
            f"in fold {fold_N[n]} of the folds table ({len(moved)} ids differ); train it again"
        )
    pred_NK = _numbers(table, columns)[row_N]
    _check_values(pred_NK, ids, fold_N, columns, probabilities)
    return np.clip(pred_NK, 0, 1) if probabilities else pred_NK


def _prediction_columns(table: pd.DataFrame, outputs: Sequence[str]) -> list[str]:
    wanted = [f"pred_{output}" for output in outputs]
    found = [str(column) for column in table.columns if str(column).startswith("pred_")]
    lacking = [column for column in ("id", "fold", *wanted) if column not in table.columns]
    if lacking or len(found) != len(wanted):
        raise UserError(
            f"its columns are {', '.join(map(str, table.columns))}, expected id, fold, "
            f"{', '.join(wanted)}; it belongs to another task"
        )
    return wanted


def _numbers(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    for column in columns:
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise UserError(
                f"column {column} holds {table[column].iloc[0]!r} and the like, expected numbers"
            )
    return table[list(columns)].to_numpy(dtype=np.float64, na_value=np.nan)


def _check_values(
    pred_NK: np.ndarray,
    ids: pd.Index,
    fold_N: np.ndarray,
    columns: Sequence[str],
    probabilities: bool,
) -> None:
    bad_NK, expected = ~np.isfinite(pred_NK), "a finite number"
    if not bad_NK.any() and probabilities:
        bad_NK = (pred_NK < -ROUNDING) | (pred_NK > 1 + ROUNDING)
        expected = "a probability from 0 to 1"
    if bad_NK.any():
        n, k = np.argwhere(bad_NK)[0]
        raise UserError(
            f"{columns[k]} is {pred_NK[n, k]:g} for id '{ids[n]}' of fold {fold_N[n]}, expected "
            f"{expected} ({bad_NK.sum()} such values); predict that fold again"
        )


def _first_repeated(ids: pd.Index) -> str:
    return str(ids[ids.duplicated()][0])


def _refusal(faults: Mapping[str, str]) -> str:
    first, *others = faults
    also = f" (also refused: {', '.join(others)})" if others else ""
    return f"member '{first}' cannot be blended: {faults[first]}{also}"
