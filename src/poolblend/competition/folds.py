"""K-fold strategies by name: which fold each train row belongs to.

A strategy is a function (y, n, seed, bins) -> fold_N under `@register`; y is as `Task.encode`
writes it, and every row lands in exactly one of the folds 0 to n-1.

Legend: N rows, K targets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from scipy.stats import rankdata
from sklearn.model_selection import KFold, StratifiedKFold

from poolblend.competition.tasks import KINDS, Task
from poolblend.errors import UserError, unknown
from poolblend.registry import Registry

Function = Callable[[np.ndarray, int, int, int], np.ndarray]

DEFAULTS = {
    "binary": "stratified",
    "multiclass": "stratified",
    "multilabel": "multilabel_stratified",
    "regression": "regression_stratified",
    "ordinal": "stratified",
}


@dataclass(frozen=True)
class Strategy:
    """A registered strategy, the tasks it fits, and whether every fold gets rows of every class."""

    name: str
    function: Function
    tasks: tuple[str, ...]
    every_class: bool


STRATEGIES: Registry[Strategy] = Registry("fold strategy")


def register(
    name: str, *, tasks: tuple[str, ...], every_class: bool = False
) -> Callable[[Function], Function]:
    """Decorator that enters a function (y, n, seed, bins) -> fold_N under `name`."""

    def enter(function: Function) -> Function:
        STRATEGIES.add(name, Strategy(name, function, tasks, every_class))
        return function

    return enter


def resolve_strategy(strategy: str, task: Task) -> str:
    """The strategy's own name, or for "auto" the one for the task's kind.

    Raises UserError for a name that is unknown or does not fit the task.
    """
    if strategy == "auto":
        return DEFAULTS[task.kind]
    if strategy not in STRATEGIES:
        raise unknown("fold strategy", strategy, ["auto", *STRATEGIES])
    if task.kind not in STRATEGIES[strategy].tasks:
        fitting = ", ".join(name for name in STRATEGIES if task.kind in STRATEGIES[name].tasks)
        raise UserError(
            f"fold strategy '{strategy}' does not fit a {task.kind} task; "
            f"choose one of: auto, {fitting}"
        )
    return strategy


def assign_folds(
    strategy: str, task: Task, y: np.ndarray, n: int, seed: int, *, bins: int = 10
) -> np.ndarray:
    """The fold of each row, int64 (N,) in 0 to n-1, shuffled by `seed`.

    `bins` is how many bins a regression target is cut into, fewer where rows are few. Raises
    UserError where n does not fit the rows, or the strategy the task.
    """
    entry = STRATEGIES[resolve_strategy(strategy, task)]
    if n < 2:
        raise UserError(f"{n} folds cannot be: expected at least 2")
    if n > len(y):
        raise UserError(f"{n} folds of {len(y)} rows leave some empty; use {len(y)} at most")
    if entry.every_class:
        counts = np.bincount(y, minlength=len(task.classes))
        rare = int(counts.argmin())
        if counts[rare] < n:
            raise UserError(
                f"class '{task.classes[rare]}' of column '{task.targets[0]}' has {counts[rare]} "
                f"rows, fewer than the {n} folds; use fewer folds, more rows or strategy 'plain'"
            )
    return entry.function(y, n, seed, bins)


@register("stratified", tasks=("binary", "multiclass", "ordinal"), every_class=True)
def stratified(y: np.ndarray, n: int, seed: int, bins: int) -> np.ndarray:
    """Every fold has the same share of each class."""
    return _folds(StratifiedKFold(n, shuffle=True, random_state=seed), y)


@register("multilabel_stratified", tasks=("multilabel",))
def multilabel_stratified(y: np.ndarray, n: int, seed: int, bins: int) -> np.ndarray:
    """Every fold has about the same share of each label (Sechidis et al. 2011)."""
    return _folds(MultilabelStratifiedKFold(n, shuffle=True, random_state=seed), y)


@register("regression_stratified", tasks=("regression",))
def regression_stratified(y: np.ndarray, n: int, seed: int, bins: int) -> np.ndarray:
    """Every fold has the same share of each target's quantile bins."""
    bins = max(1, min(bins, len(y) // n))
    bin_NK = _quantile_bins(y, bins)
    if y.shape[1] == 1:
        with warnings.catch_warnings():
            # A bin of few rows is no fault of the user's: the rows are dealt out all the same.
            warnings.filterwarnings("ignore", "The least populated class")
            return _folds(StratifiedKFold(n, shuffle=True, random_state=seed), bin_NK[:, 0])
    in_bin = (bin_NK[:, :, None] == np.arange(bins)).reshape(len(y), -1)
    return _folds(MultilabelStratifiedKFold(n, shuffle=True, random_state=seed), in_bin)


@register("plain", tasks=KINDS)
def plain(y: np.ndarray, n: int, seed: int, bins: int) -> np.ndarray:
    """Rows are dealt out at random, whatever their targets."""
    return _folds(KFold(n, shuffle=True, random_state=seed), y)


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
