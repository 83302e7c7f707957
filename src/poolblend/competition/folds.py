"""K-fold strategies by name: which fold each train row belongs to.

A strategy is a function (rows, n, seed) -> fold_N under `@register`; every row lands in exactly one
of the folds 0 to n-1, and under a strategy that is `grouped`, so do all rows of a group.

Legend: N rows, K targets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from scipy.stats import rankdata
from sklearn.model_selection import KFold, StratifiedKFold

from poolblend.competition.foldchecks import (
    check_enough,
    check_every_class,
    tell_rare,
    whole_groups,
)
from poolblend.competition.grouping import deal_groups
from poolblend.competition.tasks import KINDS, SINGLE, Task
from poolblend.errors import UserError, unknown
from poolblend.registry import Registry

DEFAULTS = {
    "binary": "stratified",
    "multiclass": "stratified",
    "multilabel": "multilabel_stratified",
    "regression": "regression_stratified",
    "ordinal": "stratified",
}
GROUPED_DEFAULTS = {
    "binary": "stratified_group",
    "multiclass": "stratified_group",
    "multilabel": "multilabel_group",
    "regression": "regression_group",
    "ordinal": "stratified_group",
}


class Rows(NamedTuple):
    """What a strategy knows of the rows: `y` as `Task.encode` writes it, and their groups.

    `bins` is how many bins a regression target is cut into, at most.
    """

    y: np.ndarray
    bins: int
    group_N: np.ndarray


Function = Callable[[Rows, int, int], np.ndarray]


class Strategy(NamedTuple):
    """A registered strategy, the tasks it fits, and whether each class is to be in every fold.

    A `grouped` one keeps groups whole, and needs them.
    """

    name: str
    function: Function
    tasks: tuple[str, ...]
    every_class: bool
    grouped: bool


STRATEGIES: Registry[Strategy] = Registry("fold strategy")


def register(
    name: str, *, tasks: tuple[str, ...], every_class: bool = False, grouped: bool = False
) -> Callable[[Function], Function]:
    """Decorator that enters a function (rows, n, seed) -> fold_N under `name`."""

    def enter(function: Function) -> Function:
        STRATEGIES.add(name, Strategy(name, function, tasks, every_class, grouped))
        return function

    return enter


def resolve_strategy(strategy: str, task: Task, *, grouped: bool = False) -> str:
    """The strategy's own name, or for "auto" the one for the task's kind.

    `grouped` says whether there are groups to keep whole. Raises UserError for a name that is
    unknown or does not fit the task, or the groups.
    """
    if strategy == "auto":
        return (GROUPED_DEFAULTS if grouped else DEFAULTS)[task.kind]
    if strategy not in STRATEGIES:
        raise unknown("fold strategy", strategy, ["auto", *STRATEGIES])
    of_task = [name for name in STRATEGIES if task.kind in STRATEGIES[name].tasks]
    if strategy not in of_task:
        raise UserError(
            f"fold strategy '{strategy}' does not fit a {task.kind} task; "
            f"choose one of: auto, {', '.join(of_task)}"
        )
    if STRATEGIES[strategy].grouped and not grouped:
        raise UserError(
            f"fold strategy '{strategy}' keeps groups whole, and folds.groups names none; set it "
            "to a train column, or take another strategy"
        )
    if grouped and not STRATEGIES[strategy].grouped:
        fitting = ", ".join(name for name in of_task if STRATEGIES[name].grouped)
        raise UserError(
            f"fold strategy '{strategy}' parts the groups of folds.groups; choose one of: auto, "
            f"{fitting}, or leave folds.groups out"
        )
    return strategy


def assign_folds(
    strategy: str,
    task: Task,
    y: np.ndarray,
    n: int,
    seed: int,
    *,
    bins: int = 10,
    group_N: np.ndarray | None = None,
    set_N: np.ndarray | None = None,
    rare: Literal["spread", "refuse"] = "spread",
) -> np.ndarray:
    """The fold of each row, int64 (N,) in 0 to n-1, shuffled by `seed`.

    `bins` is how many bins a regression target is cut into, fewer where rows are few. Rows of one
    group, and rows of one set (of equal texts), share a fold: sets are assigned as their first rows
    are, or join the groups they are in. A class of too few rows or groups for every fold is spread
    over as many as it can be, with a warning, or refused. Raises UserError where n does not fit the
    rows or groups, or the strategy the task.
    """
    entry = STRATEGIES[resolve_strategy(strategy, task, grouped=group_N is not None)]
    if n < 2:
        raise UserError(f"{n} folds cannot be: expected at least 2")
    row_N = np.arange(len(y))
    set_N = row_N if set_N is None else set_N
    refused = entry.every_class and rare == "refuse"
    if group_N is not None:
        group_N = whole_groups(group_N, set_N, n)
        fold_N = entry.function(Rows(y, bins, group_N), n, seed)
    else:
        _, first_S, set_N = np.unique(set_N, return_index=True, return_inverse=True)
        # Numbered by their first rows, so that without equal texts every row is its own set.
        order_S = first_S.argsort()
        set_N, first_S = order_S.argsort()[set_N], first_S[order_S]
        check_enough(task, y[first_S], n, len(y), every_class=refused)
        fold_N = entry.function(Rows(y[first_S], bins, set_N[first_S]), n, seed)[set_N]
    if refused:
        check_every_class(task, y, fold_N)
    elif entry.every_class:
        tell_rare(task, y, fold_N)
    return fold_N


@register("stratified", tasks=SINGLE, every_class=True)
def stratified(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Every fold has the same share of each class."""
    return _of_each_class(rows.y, n, seed)


@register("multilabel_stratified", tasks=("multilabel",))
def multilabel_stratified(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Every fold has about the same share of each label (Sechidis et al. 2011)."""
    return _folds(MultilabelStratifiedKFold(n, shuffle=True, random_state=seed), rows.y)


@register("regression_stratified", tasks=("regression",))
def regression_stratified(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Every fold has the same share of each target's quantile bins."""
    in_bin = _in_bin(rows, n)
    if rows.y.shape[1] == 1:
        return _of_each_class(in_bin.argmax(axis=1), n, seed)
    return _folds(MultilabelStratifiedKFold(n, shuffle=True, random_state=seed), in_bin)


@register("plain", tasks=KINDS)
def plain(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Rows are dealt out at random, whatever their targets."""
    return _folds(KFold(n, shuffle=True, random_state=seed), rows.y)


@register("stratified_group", tasks=SINGLE, every_class=True, grouped=True)
def stratified_group(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Whole groups, so that folds are alike in size and in shares of each class."""
    return deal_groups(rows.group_N, rows.y[:, None] == np.unique(rows.y), n, seed)


@register("multilabel_group", tasks=("multilabel",), grouped=True)
def multilabel_group(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Whole groups, so that folds are alike in size and in shares of each label."""
    return deal_groups(rows.group_N, rows.y, n, seed)


@register("regression_group", tasks=("regression",), grouped=True)
def regression_group(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Whole groups, so that folds are alike in size and in each target's quantile bins."""
    return deal_groups(rows.group_N, _in_bin(rows, n), n, seed)


@register("group", tasks=KINDS, grouped=True)
def group(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Whole groups, so that folds are alike in size, whatever the targets."""
    return deal_groups(rows.group_N, np.zeros((len(rows.y), 0)), n, seed)


def _of_each_class(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Each class dealt out evenly; the rows of one that has fewer than n, to different folds.

    Scikit-learn does so as well, but refuses where all classes are that rare: rows of a further
    class, which change nothing for the others, are added and left out again.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that classes are rare, or many for the rows
        padded = np.append(y, np.full(n, y.max() + 1))
        return _folds(StratifiedKFold(n, shuffle=True, random_state=seed), padded)[: len(y)]


def _in_bin(rows: Rows, n: int) -> np.ndarray:
    """Whether each row is in each quantile bin of each target, (N, targets * bins)."""
    bins = max(1, min(rows.bins, len(rows.y) // n))
    bin_NK = _quantile_bins(rows.y, bins)
    return (bin_NK[:, :, None] == np.arange(bins)).reshape(len(rows.y), -1)


def _quantile_bins(y_NK: np.ndarray, bins: int) -> np.ndarray:
    """Each column cut into bins of about equal size, equal values together, by their middle rank.

    Cutting at quantile values instead puts all rows into one bin where one value is frequent.
    """
    middle_NK = rankdata(y_NK, axis=0) - 0.5
    return (middle_NK * bins / len(y_NK)).astype(np.int64)


def _folds(splitter: Any, y: np.ndarray) -> np.ndarray:
    fold_N = np.empty(len(y), dtype=np.int64)
    for fold, (_, rows) in enumerate(splitter.split(np.zeros(len(y)), y)):
        fold_N[rows] = fold
    return fold_N
