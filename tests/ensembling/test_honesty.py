"""Honest scores come from rows that nothing was fitted on, and noise does not pass for a gain."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from poolblend.competition.cuts import fit_cuts
from poolblend.competition.metrics import Scorer, make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling import fitting
from poolblend.ensembling.blenders import BLENDERS, by_simplicity
from poolblend.ensembling.choice import Choice, choose
from poolblend.ensembling.fitting import BlendOptions, Form, choose_form, fit_blends
from poolblend.ensembling.honesty import Comparison, compare, cross_fit, fold_masks
from poolblend.ensembling.matrix import OofMatrix
from poolblend.errors import UserError

BINARY, REGRESSION = Task("binary", ("t",), (0, 1)), Task("regression", ("t",))
AUC, F1, LOG_LOSS = (make_scorer(name, BINARY) for name in ("roc_auc", "f1", "log_loss"))
RMSE, PEARSON = make_scorer("rmse", REGRESSION), make_scorer("pearson", REGRESSION)
QWK = make_scorer("qwk", Task("ordinal", ("t",), (0, 1, 2, 3)))
F = 4
QUICK = tuple(name for name in BLENDERS if BLENDERS[name].quick)
FOLDS = range(2, F + 2)  # counted from anything


def matrix(y: np.ndarray, oof_MN: np.ndarray) -> OofMatrix:
    M, N = oof_MN.shape
    members = tuple(f"minilm-p{m}-s42" for m in range(M))
    ids_N, fold_N = np.arange(N).astype(str), np.arange(N) % F + FOLDS[0]
    return OofMatrix(ids_N, fold_N, y, oof_MN[:, :, None], members, ("t",))


def seen(seed: int, noise: list[float], n_rows: int = 240) -> OofMatrix:
    """Binary labels, and members that see their signal through noise of their own."""
    rng = np.random.default_rng(seed)
    signal_N = rng.normal(size=n_rows)
    y = (signal_N + 0.5 * rng.normal(size=n_rows) > 0).astype(np.int64)
    logits_MN = signal_N + np.array(noise)[:, None] * rng.normal(size=(len(noise), n_rows))
    return matrix(y, expit(2 * logits_MN))


def graded(seed: int, M: int = 3) -> OofMatrix:
    """Ordinal labels, whose values are all predicted too low."""
    rng = np.random.default_rng(seed)
    signal_N = rng.normal(size=200)
    y = np.digitize(signal_N, [-0.5, 0.4, 1.2])
    return matrix(y, 0.7 + 0.4 * (signal_N + 0.5 * rng.normal(size=(M, 200))))


def pure_noise(seed: int, M: int = 6) -> OofMatrix:
    rng = np.random.default_rng(seed)
    return matrix(rng.normal(size=(200, 1)), rng.normal(size=(M, 200)))


OPTIONS = BlendOptions(trials=8)
CASES = {
    "f1": (seen(0, [0.6, 0.8, 1.0]), F1, OPTIONS),
    "roc_auc": (seen(1, [0.6, 0.8, 1.0]), AUC, replace(OPTIONS, space="rank")),
    "qwk": (graded(0), QWK, OPTIONS),
}
EACH_CASE = pytest.mark.parametrize("case", CASES)


@cache
def compared(case: str) -> Comparison:
    return compare(*CASES[case])


@EACH_CASE
@pytest.mark.parametrize("f", [0, 2])
def test_nothing_about_a_folds_mixture_sees_its_labels_or_predictions(case: str, f: int) -> None:
    given, scorer, options = CASES[case]
    rng, held_N = np.random.default_rng(1), given.fold_N == FOLDS[f]
    y, oof_MNK = given.y.copy(), given.oof_MNK.copy()
    y[held_N] = y[held_N].max() - y[held_N]
    oof_MNK[:, held_N] = rng.random(oof_MNK[:, held_N].shape)
    before = compared(case).reports
    after = compare(replace(given, y=y, oof_MNK=oof_MNK), scorer, options).reports
    for name in BLENDERS:
        clean, poisoned = before[name].fold_mixtures, after[name].fold_mixtures
        assert poisoned[f].to_json() == clean[f].to_json()
        if name not in ("equal", "best", "shrunk"):
            others = [g for g in range(F) if g != f]
            assert any(poisoned[g].to_json() != clean[g].to_json() for g in others)


@EACH_CASE
@pytest.mark.parametrize("name", BLENDERS)
def test_each_fold_is_predicted_and_decided_by_its_own_mixture(case: str, name: str) -> None:
    (given, scorer, _), report = CASES[case], compared(case).reports[name]
    assert len(report.fold_mixtures) == F
    assert report.fold_weights_FM.shape == (F, 3)
    for held_N, mixture in zip(fold_masks(given), report.fold_mixtures, strict=True):
        pred_NK = mixture.apply(given.oof_MNK[:, held_N])
        np.testing.assert_array_equal(report.honest_pred_NK[held_N], pred_NK)
        np.testing.assert_array_equal(
            report.honest_taken[held_N], scorer.take(pred_NK, mixture.cuts)
        )
    assert report.honest == scorer.score_taken(given.y, report.honest_taken, given.fold_N)
    mixture = report.mixture
    taken = scorer.take(mixture.apply(given.oof_MNK), mixture.cuts)
    in_sample = scorer.score_taken(given.y, taken, given.fold_N)
    assert report.in_sample == pytest.approx(in_sample, rel=1e-12)
    assert report.optimism == pytest.approx(report.in_sample - report.honest, abs=1e-12)


@pytest.mark.parametrize("name", BLENDERS)
def test_a_folds_mixture_is_what_fitting_on_the_other_folds_gives(name: str) -> None:
    given, scorer, options = CASES["f1"]
    report = compared("f1").reports[name]
    alone = fit_blends([name], given.rows(given.fold_N != FOLDS[1]), scorer, options)[name]
    assert report.fold_mixtures[1].to_json() == alone.mixture.to_json()


def test_each_fold_chooses_its_space_for_itself() -> None:
    given = seen(1, [0.6, 0.8, 1.0])
    report = compare(given, AUC, replace(OPTIONS, fitters=("equal",))).reports["equal"]
    spaces = [mixture.space.name for mixture in report.fold_mixtures]
    assert spaces == [
        choose_form(given.rows(~held_N), AUC, OPTIONS).space for held_N in fold_masks(given)
    ]
    assert len(set(spaces)) > 1


def test_optimism_is_positive_when_flattered_whatever_the_metrics_direction() -> None:
    for scorer in (RMSE, PEARSON):
        report = cross_fit("convex", pure_noise(0), scorer, OPTIONS)
        sign = 1 if scorer.better == "max" else -1
        assert report.optimism == pytest.approx(sign * (report.in_sample - report.honest))
        assert report.optimism > 0


@pytest.mark.parametrize("scorer", [F1, AUC, LOG_LOSS], ids=lambda scorer: scorer.name)
def test_equal_weights_are_never_flattered_but_by_cuts_and_spaces(scorer: Scorer) -> None:
    given = seen(0, [0.6, 0.8, 1.0])
    for space in ("plain", "logit"):
        options = BlendOptions(space=space, thresholds="default")
        assert cross_fit("equal", given, scorer, options).optimism == pytest.approx(0, abs=1e-12)
    flattered = [
        cross_fit("equal", seen(seed, [1.0, 1.0]), F1, BlendOptions(thresholds="fitted")).optimism
        for seed in range(6)
    ]
    assert np.mean(flattered) > 0.005


def test_folds_that_choose_different_spaces_are_ordered_on_one_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Probabilities of a rare label lie near 0 and ranks do not; their order is of rows all the
    same."""
    rng = np.random.default_rng(0)
    signal_N = rng.normal(size=600)
    y = (rng.random(600) < expit(2 * signal_N - 3)).astype(np.int64)
    given = matrix(y, expit(2 * signal_N - 4 + rng.normal(size=(3, 600))))
    wanted = cross_fit("equal", given, AUC, BlendOptions(space="plain")).honest
    spaces = iter(["plain", "plain", "rank", "logit", "rank"])
    monkeypatch.setattr(fitting, "choose_form", lambda *_: Form(next(spaces), cuts=False))
    mixed = cross_fit("equal", given, AUC, BlendOptions())
    assert [each.space.name for each in mixed.fold_mixtures] == ["plain", "rank", "logit", "rank"]
    assert mixed.honest == pytest.approx(wanted, abs=0.01)
    assert roc_auc_score(y, mixed.honest_pred_NK[:, 0]) < wanted - 0.05  # what it would have been


class TestNoise:
    """Members of pure noise: what is gained in-sample is lost on rows that were not seen."""

    SEEDS = range(100, 120)

    @staticmethod
    @cache
    def found(seed: int) -> tuple[Comparison, Choice]:
        fitters = ("greedy", "convex", "shrunk")
        found = compare(pure_noise(seed), PEARSON, BlendOptions(fitters, space="plain"))
        return found, choose(found, resamples=100)

    @pytest.mark.parametrize("name", ["best", "greedy", "convex"])
    def test_gains_in_sample_and_nothing_honestly(self, name: str) -> None:
        in_sample, honest = [], []
        for seed in self.SEEDS:
            comparison, choice = self.found(seed)
            reports = comparison.reports
            in_sample.append(reports[name].in_sample - reports["equal"].in_sample)
            honest.append(choice.over_equal[name])
            assert choice.over_member[name].low <= 0
        assert np.min(in_sample) > 0
        assert np.mean(in_sample) > 0.03
        assert np.mean([gain.value for gain in honest]) < 0.01
        # Intervals are of rows, with the weights as they are: a little narrow, but not by much.
        assert sum(gain.low > 0 for gain in honest) <= 2
        assert sum(gain.low <= 0 <= gain.high for gain in honest) >= 15

    def test_does_not_pass_for_a_gain_of_the_blend_that_is_chosen(self) -> None:
        gains = [self.found(seed)[1].gain for seed in self.SEEDS]
        assert sum(gain.low > 0 for gain in gains) == 0
        assert sum(gain.low <= 0 <= gain.high for gain in gains) >= 16

    def test_is_found_by_a_search_and_found_out(self) -> None:
        options, optimism = BlendOptions(("optuna",), space="plain", trials=20), []
        for seed in list(self.SEEDS)[:4]:
            reports = compare(pure_noise(seed), PEARSON, options).reports
            assert reports["optuna"].in_sample > reports["equal"].in_sample
            optimism.append(reports["optuna"].optimism)
        assert np.mean(optimism) > 0.05


def test_a_duplicated_member_changes_no_honest_score_beyond_noise() -> None:
    changes: dict[str, list[float]] = {name: [] for name in QUICK}
    options = BlendOptions(fitters=QUICK, space="plain")
    for seed in range(4):
        given = seen(seed, [0.7, 0.8, 0.9, 1.0])
        twice = matrix(given.y, given.oof_MNK[[0, 1, 2, 3, 0], :, 0])
        once, again = (compare(each, AUC, options).reports for each in (given, twice))
        for name in QUICK:
            changes[name].append(again[name].honest - once[name].honest)
    for name, change in changes.items():
        assert np.abs(change).max() < 0.015, name


@EACH_CASE
def test_a_single_member_is_returned_as_it_is(case: str) -> None:
    given, scorer, _ = CASES[case]
    lone = given.subset([given.members[1]])
    plain = replace(OPTIONS, space="plain", thresholds="default")
    comparison = compare(lone, scorer, plain)
    report = comparison.reports["equal"]
    assert list(comparison.reports) == ["equal"]
    np.testing.assert_array_equal(report.mixture.apply(lone.oof_MNK), lone.oof_MNK[0])
    np.testing.assert_array_equal(report.honest_pred_NK, lone.oof_MNK[0])
    alone = scorer.score_taken(lone.y, scorer.take(lone.oof_MNK[0]), lone.fold_N)
    assert report.honest == report.in_sample == alone
    np.testing.assert_array_equal(report.honest_taken, comparison.member_taken[0])


@EACH_CASE
def test_weights_all_on_one_member_give_that_member(case: str) -> None:
    given, scorer, _ = CASES[case]
    mixture = cross_fit("best", given, scorer, replace(OPTIONS, space="plain")).mixture
    for m, pred_NK in enumerate(given.oof_MNK):
        corner_MK = np.zeros_like(mixture.weights_MK)
        corner_MK[m] = 1
        alone = replace(mixture, weights_MK=corner_MK)
        np.testing.assert_array_equal(alone.apply(given.oof_MNK), pred_NK)


class TestMembersAlone:
    @pytest.mark.parametrize("case", ["f1", "qwk"])
    def test_are_decided_at_cuts_fitted_without_the_fold(self, case: str) -> None:
        given, scorer, _ = CASES[case]
        comparison = compare(
            given, scorer, BlendOptions(fitters=("equal",), thresholds="fitted", space="plain")
        )
        for m, taken in enumerate(comparison.member_taken):
            for held_N in fold_masks(given):
                cuts = fit_cuts(scorer, given.y[~held_N], given.oof_MNK[m, ~held_N])
                wanted = scorer.take(given.oof_MNK[m, held_N], cuts)
                np.testing.assert_array_equal(taken[held_N], wanted)
            wanted = scorer.loss_taken(given.y, taken, given.fold_N)
            assert comparison.member_losses[m] == wanted

    def test_have_the_default_cuts_where_the_blends_do(self) -> None:
        given, scorer, _ = CASES["f1"]
        comparison = compare(given, scorer, BlendOptions(fitters=("equal",), thresholds="default"))
        for pred_NK, taken in zip(given.oof_MNK, comparison.member_taken, strict=True):
            np.testing.assert_array_equal(taken, scorer.take(pred_NK))

    def test_are_taken_as_they_are_where_nothing_is_cut(self) -> None:
        given = CASES["roc_auc"][0]
        for pred_NK, taken in zip(given.oof_MNK, compared("roc_auc").member_taken, strict=True):
            np.testing.assert_array_equal(taken, pred_NK[:, 0])

    def test_that_are_constant_have_no_score_and_are_blended_all_the_same(self) -> None:
        rng = np.random.default_rng(0)
        y = rng.normal(size=(200, 1))
        oof_MN = y[:, 0] + rng.normal(size=(3, 200))
        oof_MN[1] = 0.3
        given = matrix(y, oof_MN)
        comparison = compare(given, PEARSON, replace(OPTIONS, fitters=QUICK))
        assert np.isinf(comparison.member_losses).tolist() == [False, True, False]
        choice = choose(comparison, resamples=50)
        assert choice.member != given.members[1]
        assert np.isfinite([choice.honest, *choice.gain]).all()


class TestComparing:
    def test_runs_from_simple_to_rich_and_ticks_for_every_trial(self) -> None:
        ticks: list[int] = []
        found = compare(
            seen(0, [0.6, 0.8]), AUC, BlendOptions(trials=3), progress=lambda: ticks.append(1)
        )
        assert list(found.reports) == by_simplicity()
        assert len(ticks) == 3 * (F + 1)

    def test_always_has_equal_weights_and_the_best_member_to_compare_with(self) -> None:
        found = compare(seen(0, [0.6, 0.8]), AUC, BlendOptions(fitters=("convex",)))
        assert list(found.reports) == ["equal", "best", "convex"]

    def test_refuses_an_unknown_blender_before_anything_is_fitted(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fitting, "choose_form", None)
        with pytest.raises(UserError, match="unknown blender 'besst'; did you mean 'best'"):
            compare(seen(0, [0.6, 0.8]), AUC, BlendOptions(fitters=("besst",)))

    def test_needs_two_folds(self) -> None:
        lone = replace(seen(0, [0.6, 0.8]), fold_N=np.full(240, 3))
        for fitted in (
            lambda: cross_fit("equal", lone, AUC, OPTIONS),
            lambda: compare(lone, AUC, OPTIONS),
        ):
            with pytest.raises(UserError, match=r"cover one fold only \(fold 3\)"):
                fitted()

    def test_gives_the_same_twice_and_leaves_the_matrix_as_it_was(self) -> None:
        given, scorer, _ = CASES["f1"]
        kept = given.y.copy(), given.oof_MNK.copy()
        again = compare(given, scorer, OPTIONS)
        np.testing.assert_array_equal(given.y, kept[0])
        np.testing.assert_array_equal(given.oof_MNK, kept[1])
        for name, report in compared("f1").reports.items():
            assert again.reports[name].mixture.to_json() == report.mixture.to_json()
            assert again.reports[name].honest == report.honest

    @pytest.mark.parametrize("case", ["f1", "qwk"])
    def test_is_not_moved_by_the_order_of_members_or_rows(self, case: str) -> None:
        given, scorer, _ = CASES[case]
        options = replace(OPTIONS, fitters=QUICK)
        order = np.random.default_rng(0).permutation(len(given.y))
        turned = given.rows(order).subset([given.members[m] for m in (2, 0, 1)])
        straight, moved = compare(given, scorer, options), compare(turned, scorer, options)
        for name in QUICK:
            before, after = straight.reports[name], moved.reports[name]
            np.testing.assert_allclose(after.weights_M, before.weights_M[[2, 0, 1]], atol=1e-3)
            assert after.honest == pytest.approx(before.honest, abs=0.01)
        assert moved.form == straight.form
