"""Assign train rows to folds as the config's `folds` section says.

Shapes: S sets of rows with equal texts.
"""

from __future__ import annotations

import logging

import numpy as np

from poolblend.competition.folds import STRATEGIES, Rows
from poolblend.competition.groups import merge_groups
from poolblend.competition.options import Folds
from poolblend.competition.tasks import Task
from poolblend.errors import UserError, quoted

log = logging.getLogger(__name__)

# What folds.strategy=auto means: without groups, with groups.
DEFAULTS = {
    "binary": ("stratified", "stratified_group"),
    "multiclass": ("stratified", "stratified_group"),
    "multilabel": ("multilabel_stratified", "multilabel_group"),
    "regression": ("regression_stratified", "regression_group"),
    "ordinal": ("stratified", "stratified_group"),
}


def resolve_strategy(folds: Folds, task: Task) -> str:
    """The strategy's name; for "auto" the one for the task's kind.

    Raises UserError for a strategy that does not fit the task, or folds.groups.
    """
    strategy, grouped = folds.strategy, folds.groups is not None
    if strategy == "auto":
        return DEFAULTS[task.kind][grouped]
    of_task = [name for name in STRATEGIES if task.kind in STRATEGIES[name].tasks]
    if strategy not in of_task:
        raise UserError(
            f"fold strategy '{strategy}' does not fit a {task.kind} task; "
            f"choose one of: auto, {', '.join(of_task)}"
        )
    if STRATEGIES[strategy].grouped and not grouped:
        raise UserError(
            f"fold strategy '{strategy}' keeps groups whole, and folds.groups names none; set it "
            "to a train column, or choose another strategy"
        )
    if grouped and not STRATEGIES[strategy].grouped:
        fitting = ", ".join(name for name in of_task if STRATEGIES[name].grouped)
        raise UserError(
            f"fold strategy '{strategy}' splits the groups of folds.groups; choose one of: auto, "
            f"{fitting}, or leave folds.groups out"
        )
    return strategy


def assign_folds(
    folds: Folds,
    task: Task,
    y: np.ndarray,
    *,
    group_N: np.ndarray | None = None,
    set_N: np.ndarray | None = None,
) -> np.ndarray:
    """The fold of each row, int64 (N,) in 0 to n-1, shuffled by the seed.

    `group_N` are the values of folds.groups where that is set. Rows of one group share a fold, and
    so do rows of one set (of equal texts): a set is assigned as its first row is, or joins the
    groups that it is in. Raises UserError where n does not fit the rows or groups, or the strategy
    the task.
    """
    entry, n = STRATEGIES[resolve_strategy(folds, task)], folds.n
    set_N = np.arange(len(y)) if set_N is None else set_N
    refused = entry.every_class and folds.rare == "refuse"
    if group_N is not None:
        group_N = merge_groups(group_N, set_N, n)
        fold_N = entry.function(Rows(y, folds.bins, group_N), n, folds.seed)
    else:
        _, first_S, set_N = np.unique(set_N, return_index=True, return_inverse=True)
        # Numbered by their first rows, so that without equal texts every row is its own set.
        order_S = first_S.argsort()
        set_N, first_S = order_S.argsort()[set_N], first_S[order_S]
        _check_enough(task, y[first_S], n, len(y), every_class=refused)
        rows = Rows(y[first_S], folds.bins, set_N[first_S])
        fold_N = entry.function(rows, n, folds.seed)[set_N]
    if refused:
        _check_every_class(task, y, fold_N)
    elif entry.every_class:
        _warn_of_rare(task, y, fold_N)
    return fold_N


def _check_enough(task: Task, y: np.ndarray, n: int, n_rows: int, *, every_class: bool) -> None:
    """Raise UserError where there are more folds than rows of different texts.

    `y` are the targets of these rows, out of `n_rows` in all. With `every_class`, also where there
    are more folds than such rows of a class that occurs.
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


def _check_every_class(task: Task, y: np.ndarray, fold_N: np.ndarray) -> None:
    """Raise UserError for a fold without a class that occurs: one group may hold all its rows."""
    for fold in range(int(fold_N.max()) + 1):
        lacking = np.setdiff1d(y, y[fold_N == fold])
        if len(lacking):
            raise UserError(
                f"class '{task.classes[lacking[0]]}' {_of_column(task)}is in no row of "
                f"fold {fold}, because groups or equal texts stay whole; lower folds.n, or set "
                "folds.rare=spread"
            )


def _of_column(task: Task) -> str:
    """The column of the task's classes, for messages; "" where each class has its own."""
    return "" if task.one_hot else f"of column '{task.targets[0]}' "


def _warn_of_rare(task: Task, y: np.ndarray, fold_N: np.ndarray) -> None:
    """Warn, in one line, of classes that are not in every fold, or in one fold only."""
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
