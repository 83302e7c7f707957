"""Join the members' OOF tables into one aligned matrix, or name the tables that disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.competition.possible import only_possible
from poolblend.ensembling.alignment import (
    Expected,
    TableError,
    align,
    find_rows,
    first_repeated,
    renumbered,
)
from poolblend.ensembling.costs import Budget
from poolblend.errors import UserError, unknown

Files = Mapping[str, Path]
# Puts members' predictions (N, K), given one after another, into one array of the shape (M, N, K).
Keep = Callable[[Iterable[np.ndarray], tuple[int, int, int]], np.ndarray]


def in_memory(predictions: Iterable[np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
    """The members' predictions as one array of float64."""
    pred_MNK = np.empty(shape)
    for m, pred_NK in enumerate(predictions):
        pred_MNK[m] = pred_NK
    return pred_MNK


@dataclass(frozen=True, eq=False)
class OofMatrix:
    """What a blend is fitted on: every row predicted once by every member, nothing filled in.

    `ids_N` are strings, `fold_N` integers, `y` is shaped as the task encodes it, `oof_MNK` holds
    finite floats, `group_N` says which rows belong together where folds keep groups whole.
    Blends of a matrix with a `budget` give weight to members that it allows alone.
    """

    ids_N: np.ndarray
    fold_N: np.ndarray
    y: np.ndarray
    oof_MNK: np.ndarray
    members: tuple[str, ...]
    outputs: tuple[str, ...]
    group_N: np.ndarray | None = None
    budget: Budget | None = None

    def rows(self, mask_N: np.ndarray) -> OofMatrix:
        """The rows of a boolean mask, or those at integer positions, which may repeat."""
        return replace(
            self,
            ids_N=self.ids_N[mask_N],
            fold_N=self.fold_N[mask_N],
            y=self.y[mask_N],
            oof_MNK=self.oof_MNK[:, mask_N],
            group_N=None if self.group_N is None else self.group_N[mask_N],
        )

    def subset(self, members: Iterable[str], keep: Keep = in_memory) -> OofMatrix:
        """The named members alone, in the order named; UserError for a name that is not here."""
        names = tuple(members)
        for name in names:
            if name not in self.members:
                raise unknown("member", name, self.members)
        places = [self.members.index(name) for name in names]
        _, N, K = self.oof_MNK.shape
        oof_MNK = keep((self.oof_MNK[place] for place in places), (len(names), N, K))
        budget = None if self.budget is None else self.budget.subset(places)
        return replace(self, members=names, oof_MNK=oof_MNK, budget=budget)


def build_matrix(
    tables: Mapping[str, pd.DataFrame],
    folds: pd.DataFrame,
    y: np.ndarray,
    outputs: Sequence[str],
    *,
    probabilities: bool,
    simplex: bool = False,
    files: Files | None = None,
    possible_NK: np.ndarray | None = None,
    group_N: np.ndarray | None = None,
    keep: Keep = in_memory,
) -> OofMatrix:
    """Join the members' OOF tables (id, fold, pred_<output>…) by id, in the order of `folds`.

    `y`, `possible_NK` and `group_N` follow the rows of `folds`; `probabilities` demands predictions
    from 0 to 1, `simplex` that those of a row sum to 1. Probabilities of labels that are not
    possible become 0. Members in `files` come from elsewhere: errors name
    their file, and their folds may be counted from any number, or be absent. Tables are looked up
    one after another, and `keep` decides where their predictions are kept. Raises UserError for
    missing, extra or repeated ids, folds other than those of `folds`, NaN, infinite or non-numeric
    predictions, and other output columns, naming every such member.
    """
    if not tables:
        raise UserError("no member to blend; train at least one on every fold first")
    ids = pd.Index(folds["id"].astype(str))
    if ids.has_duplicates:
        raise UserError(
            f"id {first_repeated(ids)} is more than once in the folds table, expected "
            "each id once; restore the file that the members were trained with"
        )
    if len(y) != len(ids):
        raise UserError(
            f"{len(y)} rows have labels but {len(ids)} have folds, expected the same rows; "
            "give the training table that the folds were made for"
        )
    fold_N = folds["fold"].to_numpy(dtype=np.int64)
    expected = Expected(
        ids, tuple(outputs), probabilities, simplex, fold_N, possible_NK=possible_NK
    )
    return OofMatrix(
        ids.to_numpy(dtype=str),
        fold_N,
        np.asarray(y),
        _join(tables, expected, files or {}, keep),
        tuple(tables),
        expected.outputs,
        group_N,
    )


def build_test(
    tables: Mapping[str, pd.DataFrame],
    ids: Iterable[str],
    outputs: Sequence[str],
    *,
    probabilities: bool,
    simplex: bool = False,
    files: Files | None = None,
    possible_NK: np.ndarray | None = None,
) -> np.ndarray:
    """The members' predictions (M, N, K) of the test rows `ids`, checked as `build_matrix` does."""
    index = pd.Index(map(str, ids))
    expected = Expected(
        index, tuple(outputs), probabilities, simplex, kind="test", possible_NK=possible_NK
    )
    return _join(tables, expected, files or {}, in_memory)


def shared_folds(
    tables: Mapping[str, pd.DataFrame], ids: Iterable[str], *, files: Files | None = None
) -> np.ndarray | None:
    """The folds (N,) of the training rows `ids` that all tables with folds agree on, from 0 up.

    None where no table has folds. Each table's folds, whole numbers, are renumbered in rising
    order first. Raises UserError for tables that disagree, that lack, add or repeat ids, or hold
    a single fold.
    """
    files, expected = files or {}, Expected(pd.Index(map(str, ids)))
    first, first_fold_N = "", None
    for member, table in tables.items():
        if "fold" not in table.columns:
            continue
        try:
            fold_N = renumbered(table["fold"].to_numpy()[find_rows(table, expected)])
            fold_N = fold_N.astype(np.int64)
            if first_fold_N is None:
                first, first_fold_N = _source(member, files), fold_N
            _check_same_folds(fold_N, first_fold_N, first, expected)
        except TableError as error:
            raise _refused({member: error}, files) from None
    return first_fold_N


def _check_same_folds(
    fold_N: np.ndarray, first_fold_N: np.ndarray, first: str, expected: Expected
) -> None:
    if fold_N.max() == 0:
        raise TableError(
            "its rows are all in one fold, expected two folds or more", "train it again"
        )
    differing = np.flatnonzero(fold_N != first_fold_N)
    if len(differing):
        n = differing[0]
        raise TableError(
            f"its folds are not those of {first}: counted from 0, id {expected.row(n)} is in fold "
            f"{fold_N[n]} here, in fold {first_fold_N[n]} there ({len(differing)} ids differ)",
            "train it again",
        )


def _join(
    tables: Mapping[str, pd.DataFrame], expected: Expected, files: Files, keep: Keep
) -> np.ndarray:
    shape = (len(tables), len(expected.ids), len(expected.outputs))
    errors: dict[str, TableError] = {}

    def aligned() -> Iterator[np.ndarray]:
        for member, table in tables.items():
            try:
                pred_NK = align(table, expected, elsewhere=member in files)
            except TableError as error:
                errors[member] = error
                pred_NK = np.zeros(shape[1:])
            if expected.probabilities:
                pred_NK = only_possible(np.clip(pred_NK, 0, 1), expected.possible_NK)
            yield pred_NK

    pred_MNK = keep(aligned(), shape)
    if errors:
        raise _refused(errors, files)
    return pred_MNK


def _source(member: str, files: Files) -> str:
    return str(files[member]) if member in files else f"member '{member}'"


def _refused(errors: Mapping[str, TableError], files: Files) -> UserError:
    first, *others = errors
    error = errors[first]
    remedy = "correct the file or remove it from its folder" if first in files else error.remedy
    also = f" (also refused: {', '.join(others)})" if others else ""
    return UserError(f"{_source(first, files)} cannot be blended: {error.reason}; {remedy}{also}")
