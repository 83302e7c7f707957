"""Honest scores claim nothing for members that know nothing, however much folds differ."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from poolblend.competition.metrics import METRICS, make_scorer
from poolblend.ensembling.choice import Choice, choose
from poolblend.ensembling.honesty import Comparison, compare
from poolblend.ensembling.options import Blend
from rig.noise import TASKS, draw, kinds_of_folds

FITTERS = ("equal", "best", "convex", "stack")
CHANCE = {"roc_auc": 0.5, "roc_auc_macro": 0.5}
BY_FOLD = [
    (name, kind, folds)
    for name in METRICS
    if METRICS[name].by_fold
    for kind in METRICS[name].tasks
    for folds in kinds_of_folds(kind)
    if folds in ("unequal", "in two folds")
]
DRAWS = 8


@cache
def found(metric: str, kind: str, folds: str) -> list[tuple[Comparison, Choice]]:
    scorer = make_scorer(metric, TASKS[kind])
    options = Blend(fitters=list(FITTERS), space="plain", thresholds="default")
    compared = [compare(draw(kind, folds, seed), scorer, options) for seed in range(DRAWS)]
    return [(each, choose(each, resamples=60)) for each in compared]


@pytest.mark.parametrize(("metric", "kind", "folds"), BY_FOLD)
def test_members_that_know_nothing_score_as_chance_does(metric: str, kind: str, folds: str) -> None:
    for name in FITTERS:
        honest = [each.reports[name].honest for each, _ in found(metric, kind, folds)]
        error = np.std(honest, ddof=1) / np.sqrt(DRAWS)
        assert abs(np.mean(honest) - CHANCE.get(metric, 0.0)) < 4 * error + 0.01, name


@pytest.mark.parametrize("gains", ["over_member", "over_equal"])
@pytest.mark.parametrize("name", [*FITTERS, "auto"])
def test_no_blend_of_theirs_is_said_to_gain(name: str, gains: str) -> None:
    """Nominal are 2.5 % above zero and 2.5 % below, over all metrics; auto is no exception."""
    each = [
        getattr(choice, gains)[choice.blender if name == "auto" else name]
        for case in BY_FOLD
        for _, choice in found(*case)
    ]
    assert np.mean([gain.low > 0 for gain in each]) <= 0.05
    assert np.mean([gain.low > 0 or gain.high < 0 for gain in each]) <= 0.10


@pytest.mark.parametrize("folds", ["in two folds", "rare"])
def test_a_stack_that_reads_rare_labels_from_noise_is_not_taken_for_a_gain(folds: str) -> None:
    """Pooled over folds it scored .89, since its scale told the folds apart."""
    scorer = make_scorer("roc_auc", TASKS["binary"])
    for seed in range(6):
        rng = np.random.default_rng(seed)
        given = draw("binary", folds, seed)
        given.oof_MNK[:] = rng.random(given.oof_MNK.shape)
        compared = compare(given, scorer, Blend(fitters=["stack"]))
        choice = choose(compared, resamples=100)
        assert choice.over_member["stack"].low <= 0
        assert choice.over_equal["stack"].low <= 0
        assert choice.gain.low <= 0


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS[name].by_fold])
def test_a_metric_by_fold_is_the_mean_over_folds_that_can_be_scored(name: str) -> None:
    kind = METRICS[name].tasks[0]
    scorer = make_scorer(name, TASKS[kind])
    given = draw(kind, "unequal", 0)
    inputs = scorer.metric_inputs(given.oof_MNK[0])
    one = np.zeros(len(given.y), dtype=np.int64)
    assert scorer.score_inputs(given.y, inputs, one) == scorer.score_inputs(given.y, inputs)
    values = []
    weights = []
    for fold in np.unique(given.fold_N):
        rows = given.fold_N == fold
        values.append(scorer.score_inputs(given.y[rows], inputs[rows]))
        positives = np.count_nonzero(given.y[rows])
        pairs = positives * (rows.sum() - positives)
        weights.append(pairs if name == "roc_auc" else rows.sum())
    whole = scorer.score_inputs(given.y, inputs, given.fold_N)
    if name != "roc_auc_macro":  # whose weights differ from class to class
        assert whole == pytest.approx(np.average(values, weights=weights), rel=1e-12)
    assert min(values) <= whole <= max(values)
    numbered = given.fold_N[::-1].copy()
    turned = scorer.score_inputs(given.y[::-1], inputs[::-1], numbered)
    assert turned == pytest.approx(whole, rel=1e-12)
