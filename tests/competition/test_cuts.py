"""Laws of cuts: no other thresholds score better, and they decide the rows as they were scored."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from poolblend.competition.cuts import fit_cuts, has_cuts
from poolblend.competition.metrics import METRICS, Scorer, make_scorer
from poolblend.competition.tasks import Task

BINARY = Task("binary", ("t",), (0, 1))
MULTILABEL = Task("multilabel", ("p", "q"))
ORDINAL = Task("ordinal", ("grade",), (0, 1, 2, 3))
UNEVEN = Task("ordinal", ("grade",), (1, 2, 4, 8))
ONE_CUT = ("f1", "mcc", "accuracy", "f1_macro")
# Few values, so that they are tied, and neighbours in floating point, which have no midpoint.
VALUES = (0.0, 5e-324, 0.3, np.nextafter(0.3, 1), 0.5, np.nextafter(0.5, 0), 0.9, 1.0)
PREDICTIONS = st.sampled_from(VALUES) | st.floats(0, 1)


def cut(scorer: Scorer, y: np.ndarray, pred_NK: np.ndarray) -> np.ndarray:
    cuts = fit_cuts(scorer, y, pred_NK)
    assert cuts is not None
    return cuts


def thresholds(pred_NK: np.ndarray) -> np.ndarray:
    """One threshold for every way to decide these rows: at each prediction, and above all."""
    return np.append(np.unique(pred_NK), np.inf)


def binary_rows(data: st.DataObject, K: int = 1) -> tuple[np.ndarray, np.ndarray]:
    n_rows = data.draw(st.integers(1, 10))
    pred_NK = data.draw(arrays(np.float64, (n_rows, K), elements=PREDICTIONS))
    return data.draw(arrays(np.int64, (n_rows, K), elements=st.integers(0, 1))), pred_NK


@pytest.mark.parametrize("name", ONE_CUT)
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_no_threshold_of_a_binary_task_scores_better(name: str, data: st.DataObject) -> None:
    y_N1, pred_N1 = binary_rows(data)
    scorer, y = make_scorer(name, BINARY), y_N1[:, 0]
    best = max(scorer.score(y, pred_N1, np.array([each])) for each in thresholds(pred_N1))
    cuts = cut(scorer, y, pred_N1)
    assert cuts.shape == (1,)
    assert np.isfinite(cuts).all()
    assert scorer.score(y, pred_N1, cuts) == pytest.approx(best, abs=1e-14)


@pytest.mark.parametrize("task", [ORDINAL, UNEVEN])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_no_cut_points_have_a_better_kappa(task: Task, data: st.DataObject) -> None:
    n_rows = data.draw(st.integers(2, 8))
    y = data.draw(arrays(np.int64, n_rows, elements=st.integers(0, 3)))
    values = st.sampled_from([-1.0, 0.5, 1.5, 2.0, np.nextafter(2, 3), 9.0]) | st.floats(-1, 9)
    pred_N1 = data.draw(arrays(np.float64, (n_rows, 1), elements=values))
    y[:2] = 0, 3  # with one class alone, kappa may have no value
    scorer = make_scorer("qwk", task)
    cuts = cut(scorer, y, pred_N1)
    assert cuts.shape == (3,)
    assert np.isfinite(cuts).all()
    assert (np.diff(cuts) >= 0).all()
    tried = itertools.combinations_with_replacement(thresholds(pred_N1), 3)
    best = max(scorer.score(y, pred_N1, np.array(each)) for each in tried)
    assert scorer.score(y, pred_N1, cuts) == pytest.approx(best, abs=1e-12)


def drawn(scorer: Scorer, seed: int, n_rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose positive labels are rare, or whose classes are predicted too near their mean."""
    rng = np.random.default_rng(seed)
    task = scorer.task
    if task.kind == "ordinal":
        y = rng.choice(4, n_rows, p=[0.5, 0.3, 0.15, 0.05])
        return y, 1 + 0.5 * y[:, None] + 0.4 * rng.normal(size=(n_rows, 1)).round(1)
    y_NK = (rng.random((n_rows, len(task.outputs))) < 0.15).astype(np.int64)
    pred_NK = np.clip(0.25 * y_NK + 0.4 * rng.random(y_NK.shape), 0, 1).round(2)
    return (y_NK[:, 0] if task.kind == "binary" else y_NK), pred_NK


CUT = [
    *(make_scorer(name, BINARY) for name in ONE_CUT),
    *(make_scorer(name, MULTILABEL) for name in ("f1_macro", "f1_micro", "accuracy")),
    make_scorer("qwk", ORDINAL),
]
EACH_CUT = pytest.mark.parametrize("scorer", CUT, ids=lambda each: f"{each.name}-{each.task.kind}")


@EACH_CUT
@pytest.mark.parametrize("seed", range(5))
class TestFittedCuts:
    def test_never_score_below_the_default_ones(self, scorer: Scorer, seed: int) -> None:
        y, pred_NK = drawn(scorer, seed)
        default = scorer.score(y, pred_NK)
        fitted = scorer.score(y, pred_NK, cut(scorer, y, pred_NK))
        assert fitted >= default
        if scorer.name in ("f1", "f1_macro", "f1_micro", "qwk"):
            assert fitted > default + 0.02

    def test_do_not_depend_on_the_order_of_rows(self, scorer: Scorer, seed: int) -> None:
        y, pred_NK = drawn(scorer, seed)
        order = np.random.default_rng(seed).permutation(len(y))
        cuts = cut(scorer, y, pred_NK)
        np.testing.assert_array_equal(cut(scorer, y[order], pred_NK[order]), cuts)

    def test_stay_at_the_default_where_nothing_is_better(self, scorer: Scorer, seed: int) -> None:
        y, _ = drawn(scorer, seed)
        certain_NK = y.reshape(len(y), -1).astype(np.float64)
        default = scorer.task.default_cuts
        np.testing.assert_array_equal(cut(scorer, y, certain_NK), default)


def test_a_threshold_lies_midway_between_the_predictions_that_it_parts() -> None:
    y, pred_N1 = np.array([0, 0, 1, 1]), np.array([[0.1], [0.2], [0.3], [0.4]])
    assert cut(make_scorer("f1", BINARY), y, pred_N1) == pytest.approx([0.25])


def test_of_equally_good_thresholds_the_nearest_to_one_half_is_taken() -> None:
    accuracy = make_scorer("accuracy", BINARY)
    low_N1, high_N1 = np.array([[0.4], [0.3], [0.2], [0.1]]), np.array([[0.9], [0.8], [0.7], [0.6]])
    y = np.array([1, 0, 1, 0])  # three rows are right below the first row, and below the third
    assert cut(accuracy, y, low_N1) == pytest.approx([0.35])
    assert cut(accuracy, y, high_N1) == pytest.approx([0.65])


def test_rows_of_one_class_leave_cut_points_at_the_default() -> None:
    y, pred_N1 = np.full(5, 2), np.linspace(0, 3, 5)[:, None]
    cuts = cut(make_scorer("qwk", ORDINAL), y, pred_N1)
    np.testing.assert_array_equal(cuts, ORDINAL.default_cuts)


def test_only_labels_that_a_cut_decides_have_cuts() -> None:
    tasks = {
        "binary": BINARY,
        "multiclass": Task("multiclass", ("t",), ("a", "b", "c")),
        "multilabel": MULTILABEL,
        "regression": Task("regression", ("u", "v")),
        "ordinal": ORDINAL,
    }
    found = {
        (name, kind)
        for name in METRICS
        for kind in METRICS[name].tasks
        if has_cuts(make_scorer(name, tasks[kind]))
    }
    assert found == {(scorer.name, scorer.task.kind) for scorer in CUT}
    for name in METRICS:
        for kind in METRICS[name].tasks:
            scorer = make_scorer(name, tasks[kind])
            if (name, kind) not in found:
                empty = np.zeros((0, len(tasks[kind].outputs)))
                assert fit_cuts(scorer, np.zeros(0), empty) is None
