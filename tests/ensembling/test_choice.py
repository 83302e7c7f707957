"""The simplest blend within noise of the best is taken, and the sentence claims no more."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from simulated import AUC, F1, PEARSON, RMSE, binary_matrix, matrix

from poolblend.competition.metrics import Scorer
from poolblend.ensembling.choice import Choice, choose, sentence, show_gain
from poolblend.ensembling.fitting import Form
from poolblend.ensembling.honesty import Comparison, Honest, compare
from poolblend.ensembling.mixture import Mixture, Space
from poolblend.ensembling.options import Blend
from poolblend.ensembling.resampling import Gain, bootstrap, fitted_widening
from poolblend.errors import UserError

OPTIONS = Blend(fitters=["greedy", "convex", "shrunk"], space="plain", thresholds="default")


@cache
def compared() -> Comparison:
    return compare(binary_matrix(0, [0.6, 0.8, 1.0]), F1, OPTIONS)


def test_members_that_err_apart_gain_and_it_shows() -> None:
    choice = choose(compare(binary_matrix(0, [1.0] * 4, 600), AUC, OPTIONS), resamples=150)
    assert choice.gain.low > 0
    assert choice.gain.value == pytest.approx(choice.honest - choice.member_score)
    said = sentence(choice)
    assert re.search(r"interval .*\), distinguishable from zero", said)
    assert "blending buys nothing" not in said


@pytest.mark.parametrize("scorer", [RMSE, PEARSON], ids=lambda scorer: scorer.name)
def test_a_gain_is_positive_when_better_whatever_the_metrics_direction(scorer: Scorer) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(200, 1))
    comparison = compare(matrix(y, y[:, 0] + rng.normal(size=(4, 200))), scorer, OPTIONS)
    choice = choose(comparison, "equal", resamples=100)
    sign = 1 if scorer.better == "max" else -1
    assert choice.gain.value == pytest.approx(sign * (choice.honest - choice.member_score))
    assert 0 < choice.gain.low <= choice.gain.value <= choice.gain.high


def test_every_blend_has_its_gain_over_the_best_member_and_over_equal_weights() -> None:
    comparison = compared()
    choice = choose(comparison, resamples=60)
    reports = comparison.reports
    best = reports["best"].honest
    assert choice.member_score == best
    alone = [F1.score_inputs(comparison.matrix.y, each) for each in comparison.member_inputs]
    assert choice.member == comparison.matrix.members[int(np.argmax(alone))]
    assert list(choice.over_member) == list(choice.over_equal) == list(reports)
    for name, report in reports.items():
        assert choice.over_member[name].value == pytest.approx(report.honest - best)
        over_equal = choice.over_equal[name]
        assert over_equal.value == pytest.approx(report.honest - reports["equal"].honest)
        assert over_equal.low <= over_equal.high
    assert choice.over_equal["equal"] == Gain(0, 0, 0)
    assert choice.gain == choice.over_member[choice.blender]


def made(y: np.ndarray, **preds: np.ndarray) -> Comparison:
    """A comparison of which only the honest predictions matter."""
    corner = Mixture(Space("plain", "regression"), np.array([[1.0], [0.0]]), np.zeros(1))
    noise = 2 * np.random.default_rng(9).normal(size=(2, len(y)))
    given = matrix(y, y[:, 0] + noise)
    reports = {
        name: Honest(0.0, 0.0, 0.0, corner, (corner,) * 4, pred_N[:, None], pred_N[:, None], {})
        for name, pred_N in preds.items()
    }
    return Comparison(given, RMSE, OPTIONS, 42, Form("plain", False), reports, tuple(given.oof_MNK))


class TestAuto:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(400, 1))
    noise_N = rng.normal(size=400)

    def inputs(self, **preds: np.ndarray) -> str:
        return choose(made(self.y, **preds), resamples=100).blender

    def loss(self, pred_N: np.ndarray) -> float:
        return RMSE.loss(self.y, pred_N[:, None])

    def test_takes_the_richer_one_that_is_better_beyond_the_noise_of_the_paired_difference(
        self,
    ) -> None:
        """Either score alone wavers far more than by this difference; the difference does not."""
        equal_N, optuna_N = self.y[:, 0] + self.noise_N, self.y[:, 0] + 0.98 * self.noise_N
        losses_PR = bootstrap(self.y, [equal_N[:, None], optuna_N[:, None]], RMSE, resamples=100)
        assert self.loss(equal_N) - self.loss(optuna_N) < losses_PR.std(axis=1).min()
        choice = choose(made(self.y, equal=equal_N, optuna=optuna_N), resamples=100)
        assert choice.blender == "optuna"
        over_equal = choice.over_equal["optuna"]
        assert 0 < over_equal.low < over_equal.value < over_equal.high

    def test_passes_over_richer_blends_that_are_better_within_one_standard_error(self) -> None:
        names, passed_over = ("equal", "best", "shrunk", "convex", "optuna"), 0
        for seed in range(8):
            own_MN = np.random.default_rng(seed).normal(size=(5, 400))
            preds = dict(zip(names, self.y[:, 0] + self.noise_N + 0.4 * own_MN, strict=True))
            metric_inputs = [pred_N[:, None] for pred_N in preds.values()]
            losses_PR = bootstrap(self.y, metric_inputs, RMSE, resamples=100)
            losses = np.array([self.loss(pred_N) for pred_N in preds.values()])
            leader = int(losses.argmin())
            widening = fitted_widening(self.y, metric_inputs[0], metric_inputs[1], RMSE)
            errors = widening * (losses_PR - losses_PR[leader]).std(axis=1, ddof=1)
            simplest = int(np.argmax(losses - losses[leader] <= errors))
            assert self.inputs(**preds) == names[simplest]
            passed_over += simplest < leader
        assert 0 < passed_over < 8

    def test_is_overruled_by_a_name(self) -> None:
        for name, report in compared().reports.items():
            choice = choose(compared(), name, resamples=20)
            assert (choice.blender, choice.automatic) == (name, False)
            assert choice.honest == report.honest
            assert f"Chose {name}, as asked: " in sentence(choice)
        with pytest.raises(UserError, match=r"did you mean 'convex'\? known: auto, best, convex"):
            choose(compared(), "convx")


def test_groups_that_are_drawn_whole_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    group_N = np.repeat(np.arange(40), 10)
    y = rng.normal(size=(400, 1))
    oof_MN = y[:, 0] + np.repeat(rng.normal(size=(3, 40)), 10, axis=1)
    comparison = compare(matrix(y, oof_MN), RMSE, Blend(fitters=["equal"], space="plain"))
    grouped = replace(comparison, matrix=replace(comparison.matrix, group_N=group_N))
    plain, wide = (choose(each, "equal", resamples=200).gain for each in (comparison, grouped))
    assert wide.value == plain.value
    assert wide.high - wide.low > 1.5 * (plain.high - plain.low)


GAIN, NONE = Gain(0.01, 0.002, 0.018), Gain(0.0, 0.0, 0.0)
EQUAL = Choice(
    blender="equal",
    automatic=True,
    metric="f1",
    honest=0.81,
    member="minilm-max-s42",
    member_overall=0.805,
    member_score=0.8,
    over_member={"equal": GAIN, "convex": GAIN._replace(value=0.012)},
    over_equal={"equal": NONE, "convex": Gain(0.002, 0.001, 0.003)},
    n_members=5,
    n_folds=4,
)
CONVEX = replace(EQUAL, blender="convex")


def over_member(**bounds: float) -> dict[str, Gain]:
    return {"equal": GAIN._replace(**bounds)}


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (
            EQUAL,
            r"^Chose equal, the simplest blend within one standard error of the best honest score: "
            r"honest f1 0\.8100 against 0\.8000 of the best single member \(picked without "
            r"the scored fold; on all rows it is minilm-max-s42 with 0\.8050\); "
            r"a gain of \+0\.0100 "
            r"\(95 % interval \+0\.0020 to \+0\.0180\), distinguishable from zero\.$",
        ),
        (
            replace(EQUAL, over_member=over_member(low=-0.001)),
            "not distinguishable from zero: blending buys nothing that these rows can show",
        ),
        (
            replace(EQUAL, over_member=over_member(low=-0.02, high=-0.01)),
            "below zero: blending buys nothing here",
        ),
        (replace(EQUAL, automatic=False), "Chose equal, as asked: "),
        (
            CONVEX,
            r"Over equal weights it gains \+0\.0020 \(95 % interval \+0\.0010 to \+0\.0030\), "
            r"distinguishable from zero\.$",
        ),
        (
            replace(CONVEX, over_equal={"convex": Gain(0.002, -0.001, 0.003)}),
            r"Over equal weights .* zero: fitting buys nothing that these rows can show\.$",
        ),
        (
            replace(EQUAL, n_members=1),
            r"^One member, minilm-max-s42: nothing to blend; its honest f1 is 0\.8100\.$",
        ),
    ],
)
def test_the_sentence_says_what_was_found(choice: Choice, words: str) -> None:
    said = sentence(choice)
    assert re.search(words, said)
    assert "\n" not in said


def test_the_sentence_on_equal_weights_does_not_compare_them_with_themselves() -> None:
    assert "Over equal weights" not in sentence(EQUAL)
    assert show_gain(Gain(-0.01, -0.02, 0.0)) == "-0.0100 (95 % interval -0.0200 to +0.0000)"


def test_the_best_single_member_is_picked_without_the_fold_that_is_scored() -> None:
    """Picked on the rows that it is scored on, it would be flattered, and a blend would not be."""
    twins = [
        compare(
            binary_matrix(seed, [0.8, 0.8]), AUC, OPTIONS.model_copy(update={"fitters": ["equal"]})
        )
        for seed in range(6)
    ]
    flattered = [
        each.reports["best"].in_sample - choose(each, resamples=20).member_score for each in twins
    ]
    assert min(flattered) >= 0
    assert max(flattered) > 0
