"""K-fold strategies by name: which fold each train row belongs to.

A strategy is a function (rows, n, seed) -> fold_N under `@register`; every row lands in exactly one
of the folds 0 to n-1, and under a strategy that is `grouped`, so do all rows of a group.

Shapes: K targets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from scipy.stats import rankdata
from sklearn.model_selection import KFold, StratifiedKFold

from poolblend.competition.groups import assign_groups
from poolblend.competition.tasks import KINDS, SINGLE
from poolblend.registry import Registry


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

    A `grouped` one keeps groups whole, and needs them. A `binned` one cuts values into `bins`.
    """

    name: str
    function: Function
    tasks: tuple[str, ...]
    every_class: bool
    grouped: bool
    binned: bool


STRATEGIES: Registry[Strategy] = Registry("fold strategy")


def register(
    name: str,
    *,
    tasks: tuple[str, ...],
    every_class: bool = False,
    grouped: bool = False,
    binned: bool = False,
) -> Callable[[Function], Function]:
    """Decorator that registers a function (rows, n, seed) -> fold_N under `name`."""

    def enter(function: Function) -> Function:
        STRATEGIES.add(name, Strategy(name, function, tasks, every_class, grouped, binned))
        return function

    return enter


@register("stratified", tasks=SINGLE, every_class=True)
def stratified(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Every fold has the same share of each class."""
    return _of_each_class(rows.y, n, seed)


@register("multilabel_stratified", tasks=("multilabel",))
def multilabel_stratified(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Every fold has about the same share of each label (Sechidis et al. 2011)."""
    return _folds(MultilabelStratifiedKFold(n, shuffle=True, random_state=seed), rows.y)


@register("regression_stratified", tasks=("regression",), binned=True)
def regression_stratified(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Every fold has the same share of each target's quantile bins."""
    in_bin = _in_bin(rows, n)
    if rows.y.shape[1] == 1:
        return _of_each_class(in_bin.argmax(axis=1), n, seed)
    return _folds(MultilabelStratifiedKFold(n, shuffle=True, random_state=seed), in_bin)


@register("plain", tasks=KINDS)
def plain(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Rows are assigned at random, whatever their targets."""
    return _folds(KFold(n, shuffle=True, random_state=seed), rows.y)


@register("stratified_group", tasks=SINGLE, every_class=True, grouped=True)
def stratified_group(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Whole groups, so that folds are alike in size and in shares of each class."""
    return assign_groups(rows.group_N, rows.y[:, None] == np.unique(rows.y), n, seed)


@register("multilabel_group", tasks=("multilabel",), grouped=True)
def multilabel_group(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Whole groups, so that folds are alike in size and in shares of each label."""
    return assign_groups(rows.group_N, rows.y, n, seed)


@register("regression_group", tasks=("regression",), grouped=True, binned=True)
def regression_group(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Whole groups, so that folds are alike in size and in each target's quantile bins."""
    return assign_groups(rows.group_N, _in_bin(rows, n), n, seed)


@register("group", tasks=KINDS, grouped=True)
def group(rows: Rows, n: int, seed: int) -> np.ndarray:
    """Whole groups, so that folds are alike in size, whatever the targets."""
    return assign_groups(rows.group_N, np.zeros((len(rows.y), 0)), n, seed)


def _of_each_class(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Each class spread evenly; the rows of a class with fewer than n are in different folds.

    Scikit-learn refuses if all classes are that rare. So n rows of an additional class are added,
    which change nothing for the others, and removed again.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that classes are rare, or many for the rows
        padded = np.append(y, np.full(n, y.max() + 1))
        return _folds(StratifiedKFold(n, shuffle=True, random_state=seed), padded)[: len(y)]


def _in_bin(rows: Rows, n: int) -> np.ndarray:
    """Whether each row is in each quantile bin of each target, (N, targets * bins).

    Rows are binned by middle ranks: with quantiles, one frequent value would collect all rows.
    """
    bins = max(1, min(rows.bins, len(rows.y) // n))
    middle_NK = rankdata(rows.y, axis=0) - 0.5
    bin_NK = (middle_NK * bins / len(rows.y)).astype(np.int64)
    return (bin_NK[:, :, None] == np.arange(bins)).reshape(len(rows.y), -1)


def _folds(splitter: Any, y: np.ndarray) -> np.ndarray:
    fold_N = np.empty(len(y), dtype=np.int64)
    for fold, (_, rows) in enumerate(splitter.split(np.zeros(len(y)), y)):
        fold_N[rows] = fold
    return fold_N
