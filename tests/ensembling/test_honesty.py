"""Honest scores come from rows that nothing was fitted on, and noise does not pass for a gain."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import simulated
from scipy.special import expit
from simulated import AUC, F1, LOG_LOSS, PEARSON, binary_matrix
from sklearn.metrics import roc_auc_score

from poolblend.competition.cuts import fit_cuts
from poolblend.competition.metrics import Scorer, make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling import fitting
from poolblend.ensembling.blenders import BLENDERS, by_simplicity
from poolblend.ensembling.choice import Choice, choose
from poolblend.ensembling.fitting import Form, choose_form
from poolblend.ensembling.honesty import Comparison, compare, cross_fit, fold_masks
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.options import Blend
from poolblend.errors import UserError

QWK = make_scorer("qwk", Task("ordinal", ("t",), (0, 1, 2, 3)))
F = 4
QUICK = tuple(name for name in BLENDERS if BLENDERS[name].quick)
FOLDS = range(2, F + 2)  # counted from anything


def matrix(y: np.ndarray, oof_MN: np.ndarray) -> OofMatrix:
    return simulated.matrix(y, oof_MN, first_fold=FOLDS[0])


def seen(seed: int, noise: list[float]) -> OofMatrix:
    return binary_matrix(seed, noise, first_fold=FOLDS[0])


def graded(seed: int, M: int = 3) -> OofMatrix:
    """Ordinal labels, whose values are all predicted too low."""
    rng = np.random.default_rng(seed)
    signal_N = rng.normal(size=200)
    y = np.digitize(signal_N, [-0.5, 0.4, 1.2])
    return matrix(y, 0.7 + 0.4 * (signal_N + 0.5 * rng.normal(size=(M, 200))))


def pure_noise(seed: int, M: int = 6) -> OofMatrix:
    rng = np.random.default_rng(seed)
    return matrix(rng.normal(size=(200, 1)), rng.normal(size=(M, 200)))


OPTIONS = Blend(trials=8)
CASES = {
    "f1": (seen(0, [0.6, 0.8, 1.0]), F1, OPTIONS),
    "roc_auc": (seen(1, [0.6, 0.8, 1.0]), AUC, OPTIONS.model_copy(update={"space": "rank"})),
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
            report.honest_inputs[held_N], scorer.metric_inputs(pred_NK, mixture.cuts)
        )
    assert report.honest == scorer.score_inputs(given.y, report.honest_inputs, given.fold_N)
    mixture = report.mixture
    inputs = scorer.metric_inputs(mixture.apply(given.oof_MNK), mixture.cuts)
    in_sample = scorer.score_inputs(given.y, inputs, given.fold_N)
    assert report.in_sample == pytest.approx(in_sample, rel=1e-12)
    assert report.optimism == pytest.approx(report.in_sample - report.honest, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, -1.5])
def test_the_best_member_is_scored_as_it_would_be_alone(shift: float) -> None:
    """What suits the equal blend, fitted thresholds or not, may not suit the member."""
    rng = np.random.default_rng(4)
    signal_N = rng.normal(size=300)
    y = (rng.random(300) < expit(3 * signal_N)).astype(np.int64)
    good_N = expit(3 * signal_N + shift)  # with a shift, few are above one half
    given = matrix(y, np.stack([good_N, *rng.random((3, 300))])[:, :, None])
    options = Blend(fitters=["equal"], space="plain")
    best = compare(given, F1, options).reports["best"]
    assert (best.fold_weights_FM[:, 0] == 1).all()
    alone = compare(given.subset(given.members[:1]), F1, options).reports["equal"]
    assert best.honest == alone.honest
    assert (best.mixture.cuts is None) == (alone.mixture.cuts is None)


def test_each_fold_chooses_its_space_for_itself() -> None:
    given = seen(2, [0.6, 0.8, 1.0])
    report = compare(given, AUC, OPTIONS.model_copy(update={"fitters": ["equal"]})).reports["equal"]
    spaces = [mixture.space.name for mixture in report.fold_mixtures]
    assert spaces == [
        choose_form(given.rows(~held_N), AUC, OPTIONS).space for held_N in fold_masks(given)
    ]
    assert len(set(spaces)) > 1


@pytest.mark.parametrize("scorer", [F1, AUC, LOG_LOSS], ids=lambda scorer: scorer.name)
def test_equal_weights_are_never_flattered_but_by_cuts_and_spaces(scorer: Scorer) -> None:
    given = seen(0, [0.6, 0.8, 1.0])
    for space in ("plain", "logit"):
        options = Blend(space=space, thresholds="default")
        assert cross_fit("equal", given, scorer, options).optimism == pytest.approx(0, abs=1e-12)
    flattered = [
        cross_fit("equal", seen(seed, [1.0, 1.0]), F1, Blend(thresholds="fitted")).optimism
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
    wanted = cross_fit("equal", given, AUC, Blend(space="plain")).honest
    spaces = iter(["plain", "plain", "rank", "logit", "rank"])
    monkeypatch.setattr(fitting, "choose_form", lambda *_: Form(next(spaces), cuts=False))
    mixed = cross_fit("equal", given, AUC, Blend())
    assert [each.space.name for each in mixed.fold_mixtures] == ["plain", "rank", "logit", "rank"]
    assert mixed.honest == pytest.approx(wanted, abs=0.01)
    assert roc_auc_score(y, mixed.honest_pred_NK[:, 0]) < wanted - 0.05  # what it would have been


class TestNoise:
    """Members of pure noise: what is gained in-sample is lost on rows that were not seen."""

    SEEDS = range(100, 120)

    @staticmethod
    @cache
    def found(seed: int) -> tuple[Comparison, Choice]:
        fitters = ["greedy", "convex", "shrunk"]
        found = compare(pure_noise(seed), PEARSON, Blend(fitters=fitters, space="plain"))
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
        chosen = [self.found(seed)[1].gain for seed in self.SEEDS]
        assert sum(gain.low > 0 for gain in chosen) == 0
        assert sum(gain.low <= 0 <= gain.high for gain in chosen) >= 16


@EACH_CASE
def test_a_single_member_is_returned_as_it_is(case: str) -> None:
    given, scorer, _ = CASES[case]
    lone = given.subset([given.members[1]])
    plain = OPTIONS.model_copy(update={"space": "plain", "thresholds": "default"})
    comparison = compare(lone, scorer, plain)
    report = comparison.reports["equal"]
    assert list(comparison.reports) == ["equal"]
    np.testing.assert_array_equal(report.mixture.apply(lone.oof_MNK), lone.oof_MNK[0])
    np.testing.assert_array_equal(report.honest_pred_NK, lone.oof_MNK[0])
    alone = scorer.score_inputs(lone.y, scorer.metric_inputs(lone.oof_MNK[0]), lone.fold_N)
    assert report.honest == report.in_sample == alone
    np.testing.assert_array_equal(report.honest_inputs, comparison.member_inputs[0])


class TestMembersAlone:
    @pytest.mark.parametrize("case", ["f1", "qwk"])
    def test_are_decided_at_cuts_fitted_without_the_fold(self, case: str) -> None:
        given, scorer, _ = CASES[case]
        comparison = compare(
            given, scorer, Blend(fitters=["equal"], thresholds="fitted", space="plain")
        )
        for m, inputs in enumerate(comparison.member_inputs):
            for held_N in fold_masks(given):
                cuts = fit_cuts(scorer, given.y[~held_N], given.oof_MNK[m, ~held_N])
                wanted = scorer.metric_inputs(given.oof_MNK[m, held_N], cuts)
                np.testing.assert_array_equal(inputs[held_N], wanted)
            wanted = scorer.loss_inputs(given.y, inputs, given.fold_N)
            assert comparison.member_losses[m] == wanted

    def test_that_are_constant_have_no_score_and_are_blended_all_the_same(self) -> None:
        rng = np.random.default_rng(0)
        y = rng.normal(size=(200, 1))
        oof_MN = y[:, 0] + rng.normal(size=(3, 200))
        oof_MN[1] = 0.3
        given = matrix(y, oof_MN)
        comparison = compare(given, PEARSON, OPTIONS.model_copy(update={"fitters": QUICK}))
        assert np.isinf(comparison.member_losses).tolist() == [False, True, False]
        choice = choose(comparison, resamples=50)
        assert choice.member != given.members[1]
        assert np.isfinite([choice.honest, *choice.gain]).all()


class TestComparing:
    def test_runs_from_simple_to_rich_and_ticks_for_every_trial(self) -> None:
        ticks: list[int] = []
        found = compare(seen(0, [0.6, 0.8]), AUC, Blend(trials=3), progress=lambda: ticks.append(1))
        assert list(found.reports) == by_simplicity()
        assert len(ticks) == 3 * (F + 1)

    def test_needs_two_folds(self) -> None:
        lone = replace(seen(0, [0.6, 0.8]), fold_N=np.full(240, 3))
        for fitted in (
            lambda: cross_fit("equal", lone, AUC, OPTIONS),
            lambda: compare(lone, AUC, OPTIONS),
        ):
            with pytest.raises(UserError, match=r"cover one fold only \(fold 3\)"):
                fitted()
