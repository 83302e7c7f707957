"""Honest scores come from rows the weights did not see, and noise does not pass for a gain."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from poolblend.competition.metrics import Scorer, make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling.blenders import BLENDERS, by_simplicity, mix
from poolblend.ensembling.honesty import (
    Choice,
    Honest,
    bootstrap,
    choose,
    compare,
    cross_fit,
    sentence,
)
from poolblend.ensembling.matrix import OofMatrix
from poolblend.errors import UserError

BINARY = Task("binary", ("t",), (0, 1))
AUC, F1 = make_scorer("roc_auc", BINARY), make_scorer("f1", BINARY)
REGRESSION = Task("regression", ("t",))
RMSE, PEARSON = make_scorer("rmse", REGRESSION), make_scorer("pearson", REGRESSION)


def matrix(y: np.ndarray, oof_MN: np.ndarray, n_folds: int = 4) -> OofMatrix:
    n_members, n_rows = oof_MN.shape
    members = tuple(f"minilm-p{m}-s42" for m in range(n_members))
    fold_N = np.arange(n_rows) % n_folds + 2
    return OofMatrix(np.arange(n_rows).astype(str), fold_N, y, oof_MN[:, :, None], members, ("t",))


def seen(seed: int, noise: list[float], n_rows: int = 300) -> OofMatrix:
    """Binary labels, and members that see their signal through noise of their own."""
    rng = np.random.default_rng(seed)
    signal_N = rng.normal(size=n_rows)
    y = (signal_N + 0.5 * rng.normal(size=n_rows) > 0).astype(np.int64)
    logits_MN = signal_N + np.array(noise)[:, None] * rng.normal(size=(len(noise), n_rows))
    return matrix(y, 1 / (1 + np.exp(-2 * logits_MN)))


def pure_noise(seed: int) -> OofMatrix:
    rng = np.random.default_rng(seed)
    return matrix(rng.normal(size=(300, 1)), rng.normal(size=(6, 300)))


@cache
def reports(scorer: Scorer = F1) -> dict[str, Honest]:
    return compare(seen(0, [0.6, 0.8, 1.0]), scorer, trials=12)


@pytest.mark.parametrize("name", BLENDERS)
class TestCrossFitting:
    def test_weights_of_a_fold_do_not_see_its_labels_or_predictions(self, name: str) -> None:
        clean = seen(0, [0.6, 0.8, 1.0])
        poisoned_y, poisoned_oof = clean.y.copy(), clean.oof_MNK.copy()
        held = clean.fold_N == 3
        poisoned_y[held] = 1 - poisoned_y[held]
        poisoned_oof[:, held] = np.random.default_rng(1).random(poisoned_oof[:, held].shape)
        poisoned = replace(clean, y=poisoned_y, oof_MNK=poisoned_oof)
        before, after = reports()[name], cross_fit(name, poisoned, F1, trials=12)
        np.testing.assert_array_equal(after.fold_weights_FM[1], before.fold_weights_FM[1])
        if name in ("slsqp", "optuna"):
            assert (after.fold_weights_FM[[0, 2, 3]] != before.fold_weights_FM[[0, 2, 3]]).any()

    def test_each_fold_is_predicted_with_its_own_weights_and_all_rows_score_together(
        self, name: str
    ) -> None:
        given, report = seen(0, [0.6, 0.8, 1.0]), reports()[name]
        assert report.fold_weights_FM.shape == (4, 3)
        for f, fold in enumerate(np.unique(given.fold_N)):
            held = given.fold_N == fold
            np.testing.assert_array_equal(
                report.honest_pred_NK[held], mix(report.fold_weights_FM[f], given.oof_MNK[:, held])
            )
        assert report.honest == F1.score(given.y, report.honest_pred_NK)
        assert report.in_sample == F1.score(given.y, mix(report.weights_M, given.oof_MNK))
        assert report.optimism == pytest.approx(report.in_sample - report.honest)


def test_optimism_is_positive_when_flattered_whatever_the_metrics_direction() -> None:
    rng = np.random.default_rng(0)
    noise = matrix(rng.normal(size=(80, 1)), rng.normal(size=(5, 80)))
    report = cross_fit("slsqp", noise, RMSE)
    assert report.optimism == pytest.approx(report.honest - report.in_sample)
    assert report.optimism > 0


def test_equal_weights_are_never_flattered() -> None:
    assert reports()["equal"].optimism == pytest.approx(0, abs=1e-12)


def test_comparing_runs_from_simple_to_rich_and_ticks_for_every_trial() -> None:
    ticks: list[int] = []
    found = compare(seen(0, [0.6, 0.8]), F1, trials=3, progress=lambda: ticks.append(1))
    assert list(found) == by_simplicity()
    assert len(ticks) == 3 * (4 + 1)
    assert list(compare(seen(0, [0.6]), F1, blenders=["best", "equal"])) == ["equal", "best"]
    with pytest.raises(UserError, match="unknown blender 'besst'; did you mean 'best'"):
        compare(seen(0, [0.6]), F1, blenders=["besst"])


def test_one_fold_leaves_nothing_to_fit_on() -> None:
    lone = replace(seen(0, [0.6, 0.8]), fold_N=np.full(300, 3))
    with pytest.raises(UserError, match=r"cover one fold only \(fold 3\)"):
        cross_fit("equal", lone, F1)


def test_noise_gains_in_sample_and_nothing_honestly() -> None:
    covered = 0
    for seed in range(12):
        given = pure_noise(seed)
        found = compare(given, PEARSON, trials=12)
        auto = choose(found, given, PEARSON, resamples=200)
        searched = choose(found, given, PEARSON, "optuna", resamples=200)
        assert found["optuna"].in_sample > found["equal"].in_sample
        assert found["optuna"].in_sample >= auto.member_score
        assert max(auto.low, searched.low) <= 0
        assert "buys nothing" in sentence(auto)
        assert "buys nothing" in sentence(searched)
        covered += auto.low <= 0 <= auto.high
    assert covered >= 11


def test_members_that_err_apart_gain_and_it_shows() -> None:
    given = seen(0, [1.0, 1.0, 1.0, 1.0], n_rows=600)
    choice = choose(compare(given, F1, trials=5), given, F1, resamples=150)
    assert choice.low > 0
    assert choice.gain == pytest.approx(choice.honest - choice.member_score)
    assert "distinguishable from zero." in sentence(choice)
    assert "buys nothing" not in sentence(choice)


def test_a_gain_is_positive_when_better_whatever_the_metrics_direction() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(200, 1))
    given = matrix(y, y[:, 0] + rng.normal(size=(4, 200)))
    choice = choose(compare(given, RMSE, trials=5), given, RMSE, resamples=100)
    assert choice.gain == pytest.approx(choice.member_score - choice.honest)
    assert 0 < choice.low <= choice.gain <= choice.high


def report(pred_N: np.ndarray) -> Honest:
    """A report of which only the honest predictions matter."""
    corner_M = np.array([1.0, 0.0])
    return Honest(0.0, 0.0, 0.0, corner_M, np.tile(corner_M, (4, 1)), pred_N[:, None], ())


class TestAuto:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(400, 1))
    noise_N = rng.normal(size=400)
    given = matrix(y, y[:, 0] + 2 * rng.normal(size=(2, 400)))

    def taken(self, **preds: np.ndarray) -> str:
        found = {name: report(pred_N) for name, pred_N in preds.items()}
        return choose(found, self.given, RMSE, resamples=100).blender

    def test_takes_the_simplest_of_equals(self) -> None:
        same_N = self.y[:, 0] + self.noise_N
        assert self.taken(optuna=same_N, slsqp=same_N) == "slsqp"

    def test_passes_over_a_richer_blend_that_is_better_within_noise(self) -> None:
        equal_N = self.y[:, 0] + self.noise_N
        optuna_N = equal_N + 0.3 * self.rng.normal(size=400) - 0.05 * self.noise_N
        assert RMSE.loss(self.y, optuna_N[:, None]) != RMSE.loss(self.y, equal_N[:, None])
        better, worse = sorted(
            [equal_N, optuna_N], key=lambda pred_N: RMSE.loss(self.y, pred_N[:, None])
        )
        assert self.taken(equal=worse, optuna=better) == "equal"

    def test_takes_the_richer_one_that_is_better_beyond_the_noise_of_the_paired_difference(
        self,
    ) -> None:
        """Either score alone wavers far more than by this difference; the difference does not."""
        equal_N, optuna_N = self.y[:, 0] + self.noise_N, self.y[:, 0] + 0.98 * self.noise_N
        losses_PR = bootstrap(self.y, [equal_N[:, None], optuna_N[:, None]], RMSE, resamples=100)
        gap = np.diff([RMSE.loss(self.y, pred[:, None]) for pred in (optuna_N, equal_N)])
        assert gap < losses_PR.std(axis=1).min()
        assert self.taken(equal=equal_N, optuna=optuna_N) == "optuna"

    def test_is_overruled_by_a_name(self) -> None:
        given, found = seen(0, [0.6, 0.8, 1.0]), reports()
        for name in found:
            choice = choose(found, given, F1, name, resamples=20)
            assert choice.blender == name
            assert choice.honest == found[name].honest
            assert f"Chose {name}, as asked" in sentence(choice)
        with pytest.raises(UserError, match=r"did you mean 'slsqp'\? known: auto, best, equal"):
            choose(found, given, F1, "slsq")


class TestBootstrap:
    y = np.array([0, 0, 0, 1, 1, 1])
    pred_NK = np.array([[0.1], [0.6], [0.3], [0.4], [0.8], [0.9]])

    def test_the_same_rows_are_drawn_for_every_prediction_and_again_for_the_same_seed(self) -> None:
        first_R, second_R = bootstrap(self.y, [self.pred_NK, self.pred_NK], F1, resamples=30)
        np.testing.assert_array_equal(first_R, second_R)
        assert np.ptp(first_R) > 0
        np.testing.assert_array_equal(
            bootstrap(self.y, [self.pred_NK], F1, resamples=30)[0], first_R
        )
        other_R = bootstrap(self.y, [self.pred_NK], F1, seed=7, resamples=30)[0]
        assert (other_R != first_R).any()

    def test_draws_without_a_score_are_left_out(self) -> None:
        losses_PR = bootstrap(self.y, [self.pred_NK], AUC, resamples=400)
        assert 350 < losses_PR.shape[1] < 400

    def test_hardly_any_draw_with_a_score_is_an_error(self) -> None:
        with pytest.raises(
            UserError, match=r"roc_auc is undefined on .* of 50 bootstrap resamples"
        ):
            bootstrap(self.y[:1], [self.pred_NK[:1]], AUC, resamples=50)


CHOICE = Choice("equal", True, "f1", 0.81, "minilm-max-s42", 0.8, 0.01, 0.002, 0.018, 0, 5, 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {},
            r"Chose equal, the simplest .* f1 0.8100 against 0.8000 .*; a gain of \+0.01",
        ),
        ({}, r"\(95 % interval \+0.0020 to \+0.0180\), distinguishable from zero\.$"),
        ({"low": -0.001}, "not distinguishable from zero: blending buys nothing"),
        ({"low": -0.02, "high": -0.01}, "below zero: blending buys nothing here"),
        ({"low": 0.0, "high": 0.0}, "not distinguishable from zero: blending buys nothing"),
        ({"automatic": False}, "Chose equal, as asked: "),
        ({"fickle": 2}, "best without 2 of the 4 folds: .* understates the gain"),
        ({"n_members": 1}, "One member, minilm-max-s42: nothing to blend; its honest f1 is 0.81"),
    ],
)
def test_the_sentence_says_what_was_found(change: dict[str, object], words: str) -> None:
    said = sentence(replace(CHOICE, **change))
    assert re.search(words, said)
    assert "\n" not in said


def test_the_best_member_counts_as_fickle_where_folds_disagree_about_it() -> None:
    twins = seen(0, [0.8, 0.8])
    choice = choose(compare(twins, AUC, blenders=["equal"]), twins, AUC, resamples=20)
    picks_FM = cross_fit("best", twins, AUC).fold_weights_FM
    best = [AUC.score(twins.y, pred_NK) for pred_NK in twins.oof_MNK]
    assert choice.member == twins.members[int(np.argmax(best))]
    assert choice.fickle == (picks_FM.argmax(axis=1) != np.argmax(best)).sum()


def test_one_member_is_taken_as_it_is() -> None:
    lone = seen(0, [0.6])
    found = compare(lone, F1, trials=5)
    assert {tuple(report.weights_M) for report in found.values()} == {(1.0,)}
    choice = choose(found, lone, F1, resamples=20)
    assert (choice.gain, choice.low, choice.high) == (0, 0, 0)
    assert sentence(choice).startswith("One member, minilm-p0-s42: nothing to blend")
