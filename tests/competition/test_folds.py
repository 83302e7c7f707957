"""Laws of fold strategies, over the whole registry where they are general."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused

from poolblend.competition.folds import DEFAULTS, STRATEGIES, assign_folds, resolve_strategy
from poolblend.competition.tasks import KINDS, Task
from poolblend.registry import declared

TASKS = {
    "binary": Task("binary", ("target",), ("ham", "spam")),
    "multiclass": Task("multiclass", ("label",), ("a", "b", "c")),
    "multilabel": Task("multilabel", ("p", "q", "r")),
    "regression": Task("regression", ("u", "v")),
    "ordinal": Task("ordinal", ("grade",), (1, 2, 3, 4)),
}
PAIRS = [(name, kind) for name in STRATEGIES for kind in STRATEGIES[name].tasks]


def draw(kind: str, seed: int, N: int, n: int = 1) -> np.ndarray:
    """Targets at random, with at least n rows of each class."""
    rng = np.random.default_rng(seed)
    if kind in ("binary", "multiclass", "ordinal"):
        K = len(TASKS[kind].classes)
        return rng.permutation(np.r_[np.repeat(np.arange(K), n), rng.integers(0, K, N - K * n)])
    if kind == "multilabel":
        return (rng.random((N, 3)) < rng.random(3)).astype(np.int64)
    return rng.integers(0, rng.integers(1, 20), (N, rng.integers(1, 3))) / 2


def spread(fold_N: np.ndarray, chosen_N: np.ndarray, n: int) -> int:
    """By how many of the chosen rows the folds differ at most."""
    return int(np.ptp(np.bincount(fold_N[chosen_N], minlength=n)))


def test_declared_strategies_are_the_registered_ones() -> None:
    assert list(declared("fold strategy")) == list(STRATEGIES)
    assert all(declared("fold strategy").values())


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_each_row_is_in_one_fold_and_no_fold_is_empty(
    name: str, kind: str, data: st.DataObject
) -> None:
    n = data.draw(st.integers(2, 6), "n")
    N = data.draw(st.integers(4 * n, 60), "N")
    y = draw(kind, data.draw(st.integers(0, 10**6), "seed"), N, n)
    fold_N = assign_folds(name, TASKS[kind], y, n, seed=1, bins=data.draw(st.integers(1, 20)))
    assert fold_N.shape == (N,)
    assert fold_N.dtype == np.int64
    assert set(fold_N.tolist()) == set(range(n))


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_folds_follow_the_seed_and_nothing_else(name: str, kind: str) -> None:
    y = draw(kind, 0, 60, 5)
    kept = y.copy()

    def folds(seed: int) -> list[int]:
        return assign_folds(name, TASKS[kind], y, 5, seed).tolist()

    assert folds(1) == folds(1)
    assert folds(1) != folds(2)
    assert folds(1) != sorted(folds(1))
    np.testing.assert_array_equal(y, kept)


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 6), N=st.integers(24, 100))
def test_stratified_deals_every_class_out_evenly(kind: str, seed: int, n: int, N: int) -> None:
    y = draw(kind, seed, N, n)
    fold_N = assign_folds("stratified", TASKS[kind], y, n, seed)
    assert all(spread(fold_N, y == k, n) <= 1 for k in range(len(TASKS[kind].classes)))
    assert spread(fold_N, y >= 0, n) <= 1


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 6), N=st.integers(20, 100))
def test_plain_folds_are_of_equal_size(seed: int, n: int, N: int) -> None:
    y = draw("regression", seed, N)
    assert spread(assign_folds("plain", TASKS["regression"], y, n, seed), np.arange(N), n) <= 1


def test_multilabel_stratified_spreads_a_rare_label_over_the_folds() -> None:
    y = draw("multilabel", 0, 500)
    for seed in range(5):
        rare = np.random.default_rng(seed).choice(500, 5, replace=False)
        y[:, 2] = np.isin(np.arange(500), rare)
        fold_N = assign_folds("multilabel_stratified", TASKS["multilabel"], y, 5, seed)
        assert spread(fold_N, rare, 5) == 0
        assert all(spread(fold_N, y[:, k] == 1, 5) <= 2 for k in range(2))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 6), N=st.integers(30, 200))
def test_regression_stratified_deals_every_bin_of_one_target_out_evenly(
    seed: int, n: int, N: int
) -> None:
    y = np.random.default_rng(seed).normal(size=(N, 1))
    fold_N = assign_folds("regression_stratified", TASKS["regression"], y, n, seed, bins=5)
    middle_N = y[:, 0].argsort().argsort() + 0.5
    assert all(spread(fold_N, middle_N * 5 // N == k, n) <= 1 for k in range(5))


def test_more_bins_bring_the_folds_closer_together() -> None:
    y = np.random.default_rng(0).normal(size=(600, 1))

    def distance(bins: int) -> float:
        folds = [
            assign_folds("regression_stratified", TASKS["regression"], y, 5, seed, bins=bins)
            for seed in range(10)
        ]
        return float(np.mean([np.std([y[f == k].mean() for k in range(5)]) for f in folds]))

    assert distance(30) < 0.5 * distance(3) < distance(1)


def test_equal_values_are_dealt_out_evenly_even_where_one_value_is_frequent() -> None:
    y = np.repeat([[0.0], [1.0], [2.5]], [150, 30, 20], axis=0)
    fold_N = assign_folds("regression_stratified", TASKS["regression"], y, 5, 0)
    assert all(spread(fold_N, y[:, 0] == value, 5) == 0 for value in (0, 1, 2.5))


def test_regression_stratified_balances_several_targets_at_once() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(400, 3))
    ratios = []
    for seed in range(5):
        deviations = [
            np.std([y[fold_N == k].mean(axis=0) for k in range(5)], axis=0).mean()
            for fold_N in (
                assign_folds(name, TASKS["regression"], y, 5, seed)
                for name in ("regression_stratified", "plain")
            )
        ]
        ratios.append(deviations[0] / deviations[1])
    assert np.mean(ratios) < 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_auto_is_the_strategy_of_the_tasks_kind(kind: str) -> None:
    name = resolve_strategy("auto", TASKS[kind])
    assert name == DEFAULTS[kind]
    assert kind in STRATEGIES[name].tasks
    y = draw(kind, 0, 40, 5)
    expected = assign_folds(name, TASKS[kind], y, 5, 3)
    np.testing.assert_array_equal(assign_folds("auto", TASKS[kind], y, 5, 3), expected)


def test_an_unknown_strategy_names_the_nearest() -> None:
    with refused("unknown fold strategy 'stratifed'; did you mean 'stratified'? known: auto, "):
        resolve_strategy("stratifed", TASKS["binary"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_strategy_that_does_not_fit_the_task_is_refused_with_those_that_do(kind: str) -> None:
    fitting = [name for name in STRATEGIES if kind in STRATEGIES[name].tasks]
    for name in set(STRATEGIES) - set(fitting):
        with refused(
            f"fold strategy '{name}' does not fit a {kind} task; "
            f"choose one of: auto, {', '.join(fitting)}"
        ):
            assign_folds(name, TASKS[kind], draw(kind, 0, 40), 5, 0)


@pytest.mark.parametrize("n", [1, 0, -3])
def test_fewer_than_two_folds_are_refused(n: int) -> None:
    with refused(f"{n} folds cannot be: expected at least 2"):
        assign_folds("plain", TASKS["binary"], draw("binary", 0, 9), n, 0)


def test_more_folds_than_rows_are_refused() -> None:
    with refused("10 folds of 9 rows leave some empty; use 9 at most"):
        assign_folds("plain", TASKS["binary"], draw("binary", 0, 9), 10, 0)


def test_a_class_with_fewer_rows_than_folds_is_refused_by_name() -> None:
    y = np.repeat([0, 1], [20, 4])
    with refused(
        "class 'spam' of column 'target' has 4 rows, fewer than the 5 folds; use fewer folds, "
        "more rows or strategy 'plain'"
    ):
        assign_folds("auto", TASKS["binary"], y, 5, 0)
    assign_folds("auto", TASKS["binary"], y, 4, 0)
    assign_folds("plain", TASKS["binary"], y, 5, 0)


def test_a_class_that_lost_all_its_rows_is_refused_by_name() -> None:
    with refused("class 'c' of column 'label' has 0 rows, fewer than the 2 folds"):
        assign_folds("auto", TASKS["multiclass"], np.repeat([0, 1], [5, 5]), 2, 0)
