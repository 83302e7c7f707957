"""Laws of fold strategies, over the whole registry where they are general."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolblend.competition.assignment import DEFAULTS, assign_folds, resolve_strategy
from poolblend.competition.folds import STRATEGIES
from poolblend.competition.groups import check_groups
from poolblend.competition.options import Folds
from poolblend.competition.tasks import KINDS, Task
from poolblend.registry import declared
from rig.tables import refused

TASKS = {
    "binary": Task("binary", ("target",), ("ham", "spam")),
    "multiclass": Task("multiclass", ("label",), ("a", "b", "c")),
    "multilabel": Task("multilabel", ("p", "q", "r")),
    "regression": Task("regression", ("u", "v")),
    "ordinal": Task("ordinal", ("grade",), (1, 2, 3, 4)),
}
PAIRS = [(name, kind) for name in STRATEGIES for kind in STRATEGIES[name].tasks]
GROUPED = [(name, kind) for name, kind in PAIRS if STRATEGIES[name].grouped]
ALONE = [(name, kind) for name, kind in PAIRS if not STRATEGIES[name].grouped]


def assign(name: str, task: Task, y: np.ndarray, n: int, seed: int, **keys: object) -> np.ndarray:
    """Folds by this strategy; `keys` are groups and sets of rows, and further keys of `folds`."""
    rows = {key: keys.pop(key) for key in ("group_N", "set_N") if key in keys}
    groups = "prompt" if rows.get("group_N") is not None else None
    folds = Folds(strategy=name, n=n, seed=seed, groups=groups, **keys)
    return assign_folds(folds, task, y, **rows)


def groups_for(name: str, N: int) -> np.ndarray | None:
    """A group for each pair of rows, where the strategy needs groups."""
    return np.arange(N) // 2 if STRATEGIES[name].grouped else None


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
    grouped = STRATEGIES[name].grouped  # and then a class must be in enough groups
    n = data.draw(st.integers(2, 4 if grouped else 6), "n")
    N = data.draw(st.integers(40 if grouped else 4 * n, 60), "N")
    y = draw(kind, data.draw(st.integers(0, 10**6), "seed"), N, 2 * n if grouped else n)
    bins = data.draw(st.integers(2, 20))
    group_N = groups_for(name, N)
    fold_N = assign(name, TASKS[kind], y, n, seed=1, bins=bins, group_N=group_N)
    assert fold_N.shape == (N,)
    assert fold_N.dtype == np.int64
    assert set(fold_N.tolist()) == set(range(n))


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_folds_follow_the_seed_and_nothing_else(name: str, kind: str) -> None:
    y = draw(kind, 0, 60, 5)
    kept = y.copy()

    def folds(seed: int) -> list[int]:
        return assign(name, TASKS[kind], y, 5, seed, group_N=groups_for(name, 60)).tolist()

    assert folds(1) == folds(1)
    assert folds(1) != folds(2)
    assert folds(1) != sorted(folds(1))
    np.testing.assert_array_equal(y, kept)


def test_multilabel_stratified_spreads_a_rare_label_over_the_folds() -> None:
    y = draw("multilabel", 0, 500)
    for seed in range(5):
        rare = np.random.default_rng(seed).choice(500, 5, replace=False)
        y[:, 2] = np.isin(np.arange(500), rare)
        fold_N = assign("multilabel_stratified", TASKS["multilabel"], y, 5, seed)
        assert spread(fold_N, rare, 5) == 0
        assert all(spread(fold_N, y[:, k] == 1, 5) <= 2 for k in range(2))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 6), N=st.integers(30, 200))
def test_regression_stratified_deals_every_bin_of_one_target_out_evenly(
    seed: int, n: int, N: int
) -> None:
    y = np.random.default_rng(seed).normal(size=(N, 1))
    fold_N = assign("regression_stratified", TASKS["regression"], y, n, seed, bins=5)
    middle_N = y[:, 0].argsort().argsort() + 0.5
    assert all(spread(fold_N, middle_N * 5 // N == k, n) <= 1 for k in range(5))


@pytest.mark.parametrize("kind", KINDS)
def test_auto_is_the_strategy_of_the_tasks_kind(kind: str) -> None:
    name = resolve_strategy(Folds(), TASKS[kind])
    assert name == DEFAULTS[kind][0]
    assert kind in STRATEGIES[name].tasks
    y = draw(kind, 0, 40, 5)
    expected = assign(name, TASKS[kind], y, 5, 3)
    np.testing.assert_array_equal(assign("auto", TASKS[kind], y, 5, 3), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_strategy_that_does_not_fit_the_task_is_refused_with_those_that_do(kind: str) -> None:
    fitting = [name for name in STRATEGIES if kind in STRATEGIES[name].tasks]
    for name in set(STRATEGIES) - set(fitting):
        with refused(
            f"fold strategy '{name}' does not fit a {kind} task; "
            f"choose one of: auto, {', '.join(fitting)}"
        ):
            assign(name, TASKS[kind], draw(kind, 0, 40), 5, 0)


def test_more_folds_than_rows_are_refused() -> None:
    with refused("10 folds of 9 rows leave some empty; use 9 at most"):
        assign("plain", TASKS["binary"], draw("binary", 0, 9), 10, 0)


def test_a_class_with_fewer_rows_than_folds_is_refused_by_name() -> None:
    y = np.repeat([0, 1], [20, 4])
    with refused(
        "class 'spam' of column 'target' has 4 rows, fewer than the 5 folds; lower folds.n, "
        "or set folds.rare=spread"
    ):
        assign("auto", TASKS["binary"], y, 5, 0, rare="refuse")
    assign("auto", TASKS["binary"], y, 4, 0, rare="refuse")
    assign("plain", TASKS["binary"], y, 5, 0, rare="refuse")


class TestRareClasses:
    """A class with fewer rows than folds is in as many folds as it has rows, the others as ever."""

    @staticmethod
    def drawn(seed: int, counts: list[int]) -> tuple[Task, np.ndarray]:
        y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
        classes = tuple(f"c{k}" for k in range(len(counts)))
        return Task("multiclass", ("label",), classes), y

    @settings(deadline=None, max_examples=60)
    @given(
        seed=st.integers(0, 10**6),
        counts=st.lists(st.integers(0, 12), min_size=2, max_size=20),
        n=st.integers(2, 6),
    )
    def test_are_spread_and_folds_stay_of_equal_size(
        self, seed: int, counts: list[int], n: int
    ) -> None:
        counts[:2] = [max(1, count) for count in counts[:2]]
        task, y = self.drawn(seed, counts)
        n = min(n, len(y))
        fold_N = assign("auto", task, y, n, seed)
        assert spread(fold_N, y >= 0, n) <= 1
        for k in range(len(counts)):
            assert spread(fold_N, y == k, n) <= 1

    @pytest.mark.parametrize("grouped", [False, True])
    def test_are_spread_over_groups_and_equal_texts_as_far_as_these_allow(
        self, grouped: bool
    ) -> None:
        task, y = self.drawn(0, [40, 30, 20, 4, 4, 2, 2])
        pairs = np.zeros(len(y), dtype=int)  # two rows of a class are one group, or one text
        order = np.argsort(y, kind="stable")
        pairs[order] = np.arange(len(y)) // 2
        given = {"group_N": pairs} if grouped else {"set_N": pairs}
        fold_N = assign("auto", task, y, 5, 0, **given)
        assert [len(set(fold_N[y == k].tolist())) for k in range(7)] == [5, 5, 5, 2, 2, 1, 1]

    @pytest.mark.parametrize(
        ("counts", "told"),
        [
            (
                [40, 30, 4, 2, 1, 1, 0],
                "'c4': 4 of 6; they are spread; 2 of them are in one fold only, whose models never "
                "see them",
            ),
            ([40, 2], "'c1': 1 of 2; they are spread"),
        ],
    )
    def test_are_told_in_one_line(
        self, counts: list[int], told: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        assign("auto", *self.drawn(0, counts), 5, 0)
        start = "classes with too few rows or groups to be in all 5 folds, such as "
        assert [record.getMessage() for record in caplog.records] == [start + told]


class TestGroups:
    """No group is ever parted, and groups go with a strategy that keeps them."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_auto_with_groups_is_the_group_strategy_of_the_tasks_kind(self, kind: str) -> None:
        name = resolve_strategy(Folds(groups="prompt"), TASKS[kind])
        assert name == DEFAULTS[kind][1] != "group"
        assert STRATEGIES[name].grouped

    @pytest.mark.parametrize(("name", "kind"), ALONE)
    def test_groups_with_a_strategy_that_parts_them_are_refused(self, name: str, kind: str) -> None:
        fitting = ", ".join(each for each, of in GROUPED if of == kind)
        with refused(
            f"fold strategy '{name}' splits the groups of folds.groups; choose one of: auto, "
            f"{fitting}, or leave folds.groups out"
        ):
            assign(name, TASKS[kind], draw(kind, 0, 40), 5, 0, group_N=np.arange(40))

    def test_a_constant_group_is_refused(self) -> None:
        with refused("folds.groups: the column holds one value in all rows, expected a group for"):
            assign("auto", TASKS["binary"], draw("binary", 0, 9), 2, 0, group_N=np.zeros(9))

    def test_fewer_groups_than_folds_are_refused(self) -> None:
        group_N = np.arange(40) % 4
        y = draw("regression", 0, 40)
        with refused("folds.groups: the column holds 4 groups, fewer than the 5 folds; use fewer"):
            assign("auto", TASKS["regression"], y, 5, 0, group_N=group_N)
        assert assign("auto", TASKS["regression"], y, 4, 0, group_N=group_N).max() == 3

    def test_a_class_that_one_group_holds_alone_is_refused_where_that_is_asked_for(self) -> None:
        y, group_N = np.repeat([0, 1], [30, 6]), np.arange(36) // 6
        with refused("class 'spam' of column 'target' is in no row of fold "):
            assign("auto", TASKS["binary"], y, 2, 0, group_N=group_N, rare="refuse")
        assign("auto", TASKS["binary"], y, 2, 0, group_N=group_N)
        fold_N = assign("group", TASKS["binary"], y, 2, 0, group_N=group_N, rare="refuse")
        assert np.bincount(fold_N).tolist() == [18, 18]

    def test_a_group_in_several_folds_is_named_with_them(self) -> None:
        groups = pd.Series(["a", "b", "b", "c", "b"], name="prompt")
        check_groups(np.array([0, 1, 1, 0, 1]), groups)
        with refused(
            "group 'b' of column 'prompt' (folds.groups) is in folds 0, 2 (1 such groups), expected"
        ):
            check_groups(np.array([0, 2, 2, 1, 0]), groups)


class TestEqualTexts:
    """Rows of one set share a fold; without such sets, folds are what they are without a word."""

    @pytest.mark.parametrize(("name", "kind"), PAIRS)
    def test_every_set_is_in_one_fold(self, name: str, kind: str) -> None:
        for seed in range(5):
            y = draw(kind, seed, 120, 30)
            set_N = np.random.default_rng(seed).permutation(np.r_[np.arange(80), np.arange(40)])
            group_N = np.arange(120) // 2 if STRATEGIES[name].grouped else None
            fold_N = assign(name, TASKS[kind], y, 3, seed, group_N=group_N, set_N=set_N)
            assert all(len(set(fold_N[set_N == each].tolist())) == 1 for each in range(40))
            assert set(fold_N.tolist()) == {0, 1, 2}
            if group_N is not None:
                check_groups(fold_N, pd.Series(group_N))

    @pytest.mark.parametrize(("name", "kind"), PAIRS)
    def test_different_texts_change_nothing(self, name: str, kind: str) -> None:
        y, group_N = draw(kind, 3, 80, 12), groups_for(name, 80)
        task, set_N = TASKS[kind], np.random.default_rng(0).permutation(80)
        folds = assign(name, task, y, 5, 1, group_N=group_N, set_N=set_N)
        np.testing.assert_array_equal(folds, assign(name, task, y, 5, 1, group_N=group_N))

    def test_groups_that_share_a_text_are_one_and_the_log_says_so(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        group_N = np.array(list("aabbccdd"))
        set_N = np.array([0, 1, 1, 2, 3, 4, 5, 6])
        y, task = np.arange(8.0)[:, None], TASKS["regression"]
        caplog.set_level(logging.INFO)
        fold_N = assign("group", task, y, 3, 0, group_N=group_N, set_N=set_N)
        assert len(set(fold_N[:4].tolist())) == 1
        assert set(fold_N.tolist()) == {0, 1, 2}
        assert "folds keep 4 groups whole, merged by equal texts to 3" in caplog.text
        with refused(
            "holds 4 groups, merged by equal texts to 3 (folds.keep_together), fewer than the 4"
        ):
            assign("group", task, y, 4, 0, group_N=group_N, set_N=set_N)

    def test_rows_of_too_few_different_texts_are_refused(self) -> None:
        y, set_N = np.repeat([0, 1], [6, 6]), np.r_[np.arange(6), np.repeat(6, 6)]
        with refused("class 'spam' of column 'target' has 1 rows of different texts, fewer than"):
            assign("auto", TASKS["binary"], y, 2, 0, set_N=set_N, rare="refuse")
        with refused("8 folds of 7 rows of different texts leave some empty; use 7 at most"):
            assign("plain", TASKS["binary"], y, 8, 0, set_N=set_N)
