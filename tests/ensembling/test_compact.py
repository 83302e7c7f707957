"""Compact matrices: each row's likeliest classes and a sample of the others stand for all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from poolblend.competition.metrics import Scorer, make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling import compact
from poolblend.ensembling.choice import choose
from poolblend.ensembling.compact import compact_matrix, expand_comparison, is_compactable, is_large
from poolblend.ensembling.honesty import compare
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import Space
from poolblend.ensembling.options import Blend
from poolblend.ensembling.problem import mix
from poolblend.ensembling.smooth import truth

M, N, K = 4, 240, 200
WEIGHTS = ([1, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0], [0.1, 0.2, 0.3, 0.4])


def many_classes(metric: str, seed: int = 0) -> tuple[OofMatrix, Scorer]:
    """Members that see one signal among 200 classes through noise of their own."""
    rng = np.random.default_rng(seed)
    y = rng.integers(K, size=N)
    signal_NK = rng.normal(size=(N, K))
    signal_NK[np.arange(N), y] += 4
    powers_MNK = np.exp(2 * (signal_NK + rng.normal(size=(M, N, K))))
    oof_MNK = powers_MNK / powers_MNK.sum(axis=2, keepdims=True)
    task = Task("multiclass", ("t",), tuple(f"c{k:03d}" for k in range(K)))
    names = tuple(f"m{m}" for m in range(M))
    ids = np.arange(N).astype(str)
    return OofMatrix(ids, np.arange(N) % 4, y, oof_MNK, names, task.outputs), make_scorer(
        metric, task
    )


def score(matrix: OofMatrix, scorer: Scorer, space: str, weights: list[float]) -> float:
    scale = Space(space, "multiclass")
    mixed_NK = mix(np.array(weights), scale.forward(matrix.oof_MNK))
    return scorer.score(matrix.y, scale.inverse(mixed_NK))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("space", ["plain", "logit"])
@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "f1_micro", "mcc"])
def test_what_blends_decide_is_what_they_decide_among_all_classes(
    metric: str, space: str, weights: list[float]
) -> None:
    matrix, scorer = many_classes(metric)
    whole = score(matrix, scorer, space, weights)
    assert score(*compact_matrix(matrix, scorer), space, weights) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_log_loss_is_near_that_of_all_classes(weights: list[float]) -> None:
    matrix, scorer = many_classes("log_loss")
    for space, within in (("plain", {"abs": 1e-4}), ("logit", {"rel": 0.02})):
        whole = score(matrix, scorer, space, weights)
        found = score(*compact_matrix(matrix, scorer), space, weights)
        assert found == pytest.approx(whole, **within)


def test_scores_of_some_rows_are_those_rows_own() -> None:
    for metric in ("accuracy", "f1_macro", "log_loss"):
        matrix, scorer = many_classes(metric)
        row_N = np.random.default_rng(1).integers(N, size=N)
        whole = score(matrix.rows(row_N), scorer, "plain", [0.25] * 4)
        small, its_scorer = compact_matrix(matrix, scorer)
        assert score(small.rows(row_N), its_scorer, "plain", [0.25] * 4) == pytest.approx(
            whole, abs=1e-4
        )


def test_the_truth_is_one_of_a_rows_columns_and_ties_are_no_hit() -> None:
    matrix, scorer = many_classes("accuracy")
    even = replace(matrix, oof_MNK=np.full((M, N, K), 1 / K))
    small, its_scorer = compact_matrix(even, scorer)
    truth_NW = truth(its_scorer.task, small.y)
    assert (truth_NW.sum(axis=1) == 1).all()
    # Of equal classes the first counts, and never the truth because it was kept.
    assert score(small, its_scorer, "plain", [0.25] * 4) <= 0.2


def test_probabilities_stay_probabilities_that_sum_to_one() -> None:
    matrix, scorer = many_classes("log_loss")
    small, _ = compact_matrix(matrix, scorer)
    assert small.oof_MNK.shape == (M, N, compact.KEPT + compact.SAMPLED + M)
    assert small.oof_MNK.min() > 0
    np.testing.assert_allclose(small.oof_MNK.sum(axis=2), 1, atol=1e-4)


@pytest.mark.parametrize("metric", ["log_loss", "f1_macro"])
def test_the_scores_in_the_end_are_those_of_all_classes(metric: str) -> None:
    matrix, scorer = many_classes(metric)
    small, its_scorer = compact_matrix(matrix, scorer)
    options = Blend(fitters=["equal", "best", "convex"], space="logit")
    comparison = compare(small, its_scorer, options)
    choice = choose(comparison, "convex", resamples=60)
    whole, settled = expand_comparison(comparison, choice, matrix, scorer)
    for report in whole.reports.values():
        assert report.mixture.weights_MK.shape == (M, K)
        pred_NK = report.mixture.apply(matrix.oof_MNK)
        assert report.in_sample == pytest.approx(scorer.score(matrix.y, pred_NK))
        for fold, mixture in enumerate(report.fold_mixtures):
            held_N = matrix.fold_N == fold
            np.testing.assert_allclose(
                report.honest_pred_NK[held_N], mixture.apply(matrix.oof_MNK[:, held_N])
            )
        assert report.honest == pytest.approx(scorer.score(matrix.y, report.honest_pred_NK))
    assert settled.honest == whole.reports["convex"].honest
    single = settled.member_score
    assert single == whole.reports["best"].honest
    sign = 1 if scorer.better == "max" else -1
    assert settled.gain.value == pytest.approx(sign * (settled.honest - single), abs=1e-4)
    assert settled.gain.low < settled.gain.value < settled.gain.high


def test_small_matrices_and_metrics_of_order_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    matrix, scorer = many_classes("log_loss")
    assert not is_large(matrix)
    assert not is_compactable(matrix, scorer)
    monkeypatch.setattr(compact, "LARGE", 1000)
    assert is_compactable(matrix, scorer)
    assert not is_compactable(*many_classes("roc_auc_macro"))
