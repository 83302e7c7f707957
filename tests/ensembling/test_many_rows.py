"""Matrices of very many rows: fitted on a sample, kept on the disk, scored on all rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated import TASKS, drawn

from poolblend.competition.metrics import make_scorer
from poolblend.ensembling import many_rows
from poolblend.ensembling.choice import choose
from poolblend.ensembling.honesty import compare, fold_masks
from poolblend.ensembling.many_rows import sample_rows, score_on_all
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.options import Blend

METRICS = {
    "binary": ("log_loss", "roc_auc", "f1"),
    "multiclass": ("log_loss", "accuracy"),
    "multilabel": ("f1_macro",),
    "regression": ("rmse",),
    "ordinal": ("qwk",),
}
CASES = [(kind, metric) for kind, metrics in METRICS.items() for metric in metrics]


def tall(kind: str, n_rows: int = 1200, n_members: int = 4) -> OofMatrix:
    y, oof_MNK = drawn(kind, 3, n_members=n_members, n_rows=n_rows)
    outputs = TASKS[kind].outputs
    names = tuple(f"m{m}" for m in range(n_members))
    fold_N = np.random.default_rng(1).integers(3, size=n_rows)
    return OofMatrix(np.arange(n_rows).astype(str), fold_N, y, oof_MNK, names, outputs)


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_rows, "IN_MEMORY", 2000)
    monkeypatch.setattr(many_rows, "SAMPLE", 1600)


def test_a_matrix_that_fits_is_used_whole() -> None:
    matrix = tall("binary")
    assert sample_rows(matrix) is matrix


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("kind", TASKS)
def test_a_sample_has_its_share_of_each_fold_and_is_always_the_same(kind: str) -> None:
    matrix = tall(kind)
    sample = sample_rows(matrix)
    wanted = 1600 // (4 * len(matrix.outputs))
    assert len(sample.y) == pytest.approx(wanted, abs=3)
    assert sample.oof_MNK.dtype == np.float64
    for fold, share in enumerate(np.bincount(matrix.fold_N) / len(matrix.y)):
        assert np.mean(sample.fold_N == fold) == pytest.approx(share, abs=0.01)
    row_N = sample.ids_N.astype(int)
    assert (np.diff(row_N) > 0).all()
    np.testing.assert_array_equal(sample.oof_MNK, matrix.oof_MNK[:, row_N])
    np.testing.assert_array_equal(sample.y, matrix.y[row_N])
    np.testing.assert_array_equal(sample_rows(matrix).ids_N, sample.ids_N)


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize(("kind", "metric"), CASES)
def test_scores_are_those_of_the_mixtures_on_all_rows(kind: str, metric: str) -> None:
    matrix, scorer = tall(kind), make_scorer(metric, TASKS[kind])
    sample = sample_rows(matrix)
    comparison = compare(sample, scorer, Blend(fitters=["equal", "best", "convex", "greedy"]))
    choice = choose(comparison, "convex", resamples=60)
    scored, chosen = score_on_all(comparison, choice, matrix, scorer, 60)
    for name, report in scored.reports.items():
        inputs = scorer.metric_inputs(report.mixture.apply(matrix.oof_MNK), report.mixture.cuts)
        honest = np.empty_like(inputs)
        for held_N, mixture in zip(fold_masks(matrix), report.fold_mixtures, strict=True):
            pred_NK = mixture.apply(matrix.oof_MNK[:, held_N])
            honest[held_N] = scorer.metric_inputs(pred_NK, mixture.cuts)
        in_sample, score = (
            scorer.score_inputs(matrix.y, each, matrix.fold_N) for each in (inputs, honest)
        )
        assert report.in_sample == pytest.approx(in_sample)
        assert report.honest == pytest.approx(score)
        assert report.mixture is comparison.reports[name].mixture
        assert len(report.honest_inputs) == len(sample.y)  # pictures are of the sample
    assert scored.matrix is sample
    assert (chosen.blender, chosen.automatic) == ("convex", False)
    assert chosen.honest == scored.reports["convex"].honest


@pytest.mark.usefixtures("small_memory")
def test_intervals_are_of_all_rows() -> None:
    matrix, scorer = tall("binary", n_rows=12_000), make_scorer("log_loss", TASKS["binary"])
    sample = sample_rows(matrix)
    comparison = compare(sample, scorer, Blend(fitters=["equal", "best", "convex"]))
    choice = choose(comparison, resamples=100)
    _, chosen = score_on_all(comparison, choice, matrix, scorer, 100)
    before, after = choice.over_equal["convex"], chosen.over_equal["convex"]
    assert after.high - after.low < 0.4 * (before.high - before.low)


@pytest.mark.usefixtures("small_memory")
def test_predictions_in_float32_are_scored_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, scorer = tall("regression"), make_scorer("rmse", TASKS["regression"])
    small = replace(matrix, oof_MNK=matrix.oof_MNK.astype(np.float32))
    comparison = compare(sample_rows(small), scorer, Blend(fitters=["equal", "best"]))
    choice = choose(comparison, resamples=60)
    wanted, _ = score_on_all(comparison, choice, matrix, scorer, 60)
    found, _ = score_on_all(comparison, choice, small, scorer, 60)
    for name, report in wanted.reports.items():
        assert found.reports[name].honest == pytest.approx(report.honest, rel=1e-6)
