"""What folds, groups and classes must be for one another; each refusal says what to change.

Legend: N rows.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from poolblend.competition.duplicates import merge_groups
from poolblend.competition.tasks import Task
from poolblend.errors import UserError, quoted

log = logging.getLogger(__name__)


def check_groups(fold_N: np.ndarray, groups: pd.Series) -> None:
    """Raise UserError where rows of one group, such as a prompt's, are in several folds."""
    folds = pd.Series(fold_N).groupby(groups.to_numpy()).nunique()
    parted = folds.index[folds > 1]
    if len(parted):
        held = sorted(set(fold_N[(groups == parted[0]).to_numpy()].tolist()))
        raise UserError(
            f"group {quoted(parted[0])} of column '{groups.name}' (folds.groups) is in folds "
            f"{', '.join(map(str, held))} ({len(parted)} such groups), expected each in one"
        )


def whole_groups(group_N: np.ndarray, set_N: np.ndarray, n: int) -> np.ndarray:
    """The groups, those with a text in common as one; UserError where they are fewer than folds."""
    found = len(np.unique(group_N))
    if found < 2:
        raise UserError(
            "folds.groups: the column holds one value in all rows, expected a group for each "
            "prompt, author or the like; name another column, or leave it out"
        )
    merged_N = merge_groups(group_N, set_N)
    left = int(merged_N.max()) + 1
    joined = f", which equal texts join to {left} (folds.keep_together)" if left < found else ""
    if left < n:
        raise UserError(
            f"folds.groups: the column holds {found} groups{joined}, fewer than the {n} folds; use "
            "fewer folds, or another column"
        )
    if joined:
        log.info("folds keep %d groups whole%s", found, joined)
    return merged_N


def check_enough(task: Task, y: np.ndarray, n: int, n_rows: int, *, every_class: bool) -> None:
    """Raise UserError for more folds than rows of different texts, which `y` are, out of `n_rows`.

    With `every_class` also for more than such rows of a class that occurs.
    """
    rows = "rows" if len(y) == n_rows else "rows of different texts"
    if n > len(y):
        raise UserError(f"{n} folds of {len(y)} {rows} leave some empty; use {len(y)} at most")
    if not every_class:
        return
    counts = np.bincount(y, minlength=len(task.classes))
    rare = int(np.where(counts > 0, counts, len(y) + 1).argmin())
    if counts[rare] < n:
        raise UserError(
            f"class '{task.classes[rare]}' {_of_column(task)}has {counts[rare]} "
            f"{rows}, fewer than the {n} folds; lower folds.n, or set folds.rare=spread"
        )


def check_every_class(task: Task, y: np.ndarray, fold_N: np.ndarray) -> None:
    """Raise UserError for a fold without a class that occurs, which a group may hold alone."""
    for fold in range(int(fold_N.max()) + 1):
        lacking = np.setdiff1d(y, y[fold_N == fold])
        if len(lacking):
            raise UserError(
                f"class '{task.classes[lacking[0]]}' {_of_column(task)}is in no row of "
                f"fold {fold}, because groups or equal texts stay whole; lower folds.n, or set "
                "folds.rare=spread"
            )


def _of_column(task: Task) -> str:
    """Where its class stands, if not in a column of its own."""
    return "" if task.one_hot else f"of column '{task.targets[0]}' "


def tell_rare(task: Task, y: np.ndarray, fold_N: np.ndarray) -> None:
    """Warn, in one line, of classes that are not in every fold, and of those in one fold only."""
    n, counts_C = int(fold_N.max()) + 1, np.bincount(y)
    pairs = np.unique(np.stack([y, fold_N], axis=1), axis=0)  # each class with each of its folds
    folds_C = np.bincount(pairs[:, 0], minlength=len(counts_C))
    rare = np.flatnonzero((folds_C > 0) & (folds_C < n))
    if not len(rare):
        return
    alone = np.count_nonzero(folds_C == 1)
    log.warning(
        "classes with too few rows or groups to be in all %d folds, such as %s: %d of %d; they are "
        "spread%s",
        n,
        quoted(task.classes[rare[counts_C[rare].argmin()]]),
        len(rare),
        np.count_nonzero(counts_C),
        f"; {alone} of them are in one fold only, whose models never see them" if alone else "",
    )
