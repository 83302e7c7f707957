"""Resamples draw rows, or whole groups, and the same ones for all that is compared."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import AUC, F1, MAE

from poolblend.ensembling.resampling import bootstrap, draws, gain
from poolblend.errors import UserError

Y = np.array([0, 0, 0, 1, 1, 1])
LABELS = np.array([0, 1, 0, 0, 1, 1])


def test_a_resample_has_as_many_rows_as_there_are_drawn_with_replacement() -> None:
    drawn = np.array(list(draws(50, resamples=200)))
    assert drawn.shape == (200, 50)
    assert set(drawn.ravel()) == set(range(50))
    distinct = [len(set(rows)) for rows in drawn]
    # Of n rows drawn n times, about 1 - 1/e are drawn at all.
    assert np.mean(distinct) / 50 == pytest.approx(1 - np.exp(-1), abs=0.02)


def test_the_same_seed_draws_the_same_rows_and_another_others() -> None:
    first, again, other = (list(draws(9, seed=seed, resamples=3)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (np.array(first) != np.array(other)).any()


def test_groups_are_drawn_whole() -> None:
    group_N = np.array(["b", "a", "b", "c", "a", "b", "d"])
    sizes = {group: (group_N == group).sum() for group in "abcd"}
    seen = set()
    for rows in draws(len(group_N), group_N, resamples=60):
        times = {group: (group_N[rows] == group).sum() / sizes[group] for group in sizes}
        assert sum(times.values()) == 4  # as many groups as there are
        for row, count in zip(*np.unique(rows, return_counts=True), strict=True):
            assert count == times[group_N[row]]
        seen |= set(rows)
    assert seen == set(range(7))


def test_the_same_rows_are_drawn_for_all_that_is_compared() -> None:
    first_R, second_R = bootstrap(Y, iter([LABELS, LABELS]), F1, resamples=30)
    np.testing.assert_array_equal(first_R, second_R)
    assert np.ptp(first_R) > 0
    np.testing.assert_array_equal(bootstrap(Y, [LABELS], F1, resamples=30)[0], first_R)
    assert (bootstrap(Y, [LABELS], F1, seed=7, resamples=30)[0] != first_R).any()


def test_losses_are_those_of_the_rows_drawn() -> None:
    losses_R = bootstrap(Y, [LABELS], F1, seed=3, resamples=10)[0]
    wanted = [F1.loss_inputs(Y[rows], LABELS[rows]) for rows in draws(6, seed=3, resamples=10)]
    assert losses_R.tolist() == wanted


def test_the_spread_of_resamples_is_the_standard_error() -> None:
    """Over rows of a known variance, resampled means spread as the theory of means says."""
    values_N1 = np.random.default_rng(0).normal(5, 2, size=(400, 1))
    losses_R = bootstrap(np.zeros((400, 1)), [values_N1], MAE, resamples=600)[0]
    assert losses_R.std() == pytest.approx(np.abs(values_N1).std() / 20, rel=0.1)


def test_draws_without_a_score_are_left_out() -> None:
    scores_N = np.array([0.1, 0.6, 0.3, 0.4, 0.8, 0.9])
    losses_PR = bootstrap(Y, [scores_N, 1 - scores_N], AUC, resamples=400)
    assert 350 < losses_PR.shape[1] < 400
    assert np.isfinite(losses_PR).all()


def test_hardly_any_draw_with_a_score_is_an_error() -> None:
    with pytest.raises(UserError, match=r"roc_auc is undefined on 50 of 50 bootstrap resamples of"):
        bootstrap(Y[:1], [np.array([0.1])], AUC, resamples=50)


def test_a_gain_is_how_far_the_loss_falls_with_the_middle_of_its_resamples() -> None:
    before_R = np.arange(1001) / 1000
    found = gain(before_R, np.full(1001, 0.25), value=0.3)
    assert found.value == 0.3
    assert (found.low, found.high) == pytest.approx((0.025 - 0.25, 0.975 - 0.25))
