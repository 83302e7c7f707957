"""Laws of groups: none is split, and folds come out alike."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from poolblend.competition.groups import assign_groups, merge_groups


def test_large_groups_are_balanced_by_small_ones() -> None:
    group_N = np.repeat(np.arange(9), [40, 30, 30, 20, 20, 10, 10, 10, 10])
    assert np.bincount(assign_groups(group_N, np.zeros((180, 0)), 3, 0)).tolist() == [60] * 3


def test_a_trait_of_few_groups_is_spread_over_the_folds() -> None:
    group_N = np.repeat(np.arange(100), 10)
    rare_N = group_N % 20 == 7
    for seed in range(5):
        fold_N = assign_groups(group_N, rare_N[:, None], 5, seed)
        assert np.bincount(fold_N[rare_N], minlength=5).tolist() == [10] * 5
        assert np.bincount(fold_N).tolist() == [200] * 5


def unevenness(fold_N: np.ndarray, y: np.ndarray, n: int) -> np.ndarray:
    """How unlike the folds are in size, in shares of classes, and in where each class lies."""
    count_nK = np.array([np.bincount(y[fold_N == k], minlength=y.max() + 1) for k in range(n)])
    size_n = count_nK.sum(axis=1)
    shares_nK = count_nK / size_n[:, None] - np.bincount(y) / len(y)
    places_nK = count_nK / count_nK.sum(axis=0) - 1 / n
    return np.array([size_n.std() / size_n.mean(), abs(shares_nK).mean(), abs(places_nK).max()])


@pytest.mark.parametrize(("groups", "N", "K", "n"), [(40, 1000, 3, 5), (150, 1500, 6, 5)])
def test_folds_are_at_least_as_alike_as_those_of_scikit_learn(
    groups: int, N: int, K: int, n: int
) -> None:
    ours, theirs = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        group_N = rng.choice(groups, N, p=rng.dirichlet(np.full(groups, 0.7)))
        y = np.r_[np.repeat(np.arange(K), 9), rng.choice(K, N - 9 * K, p=rng.dirichlet(np.ones(K)))]
        ours.append(unevenness(assign_groups(group_N, np.eye(K)[y], n, seed), y, n))
        fold_N = np.empty(N, dtype=int)
        splitter = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
        for fold, (_, rows) in enumerate(splitter.split(y, y, group_N)):
            fold_N[rows] = fold
        theirs.append(unevenness(fold_N, y, n))
    assert (np.mean(ours, axis=0) <= 1.05 * np.mean(theirs, axis=0)).all()
    assert np.mean(ours, axis=0)[0] < np.mean(theirs, axis=0)[0]


def test_groups_that_share_a_set_are_one_however_long_the_chain() -> None:
    group_N = np.array(["a", "b", "b", "c", "d", "e"])
    set_N = np.array([0, 0, 1, 1, 2, 3])
    merged_N = merge_groups(group_N, set_N, 2)
    assert len(set(merged_N[:4])) == 1
    assert len(set(merged_N)) == 3
    assert sorted(set(merged_N)) == [0, 1, 2]


def test_groups_of_different_texts_stay_apart() -> None:
    group_N = np.array(["a", "b", "a", "b"])
    assert merge_groups(group_N, np.arange(4), 2).tolist() == [0, 1, 0, 1]
