"""Laws of metrics, over the whole registry where they are general."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from poolblend.competition.metrics import METRICS, UndefinedScoreError, make_scorer
from poolblend.competition.tasks import KINDS, Task
from poolblend.errors import UserError
from poolblend.registry import declared

TASKS = {
    "binary": Task("binary", ("target",), (0, 1)),
    "multiclass": Task("multiclass", ("label",), ("a", "b", "c")),
    "multilabel": Task("multilabel", ("p", "q", "r")),
    "regression": Task("regression", ("u", "v")),
}
PAIRS = [(name, kind) for name in METRICS for kind in METRICS[name].tasks]


def refused(message: str):
    return pytest.raises(UserError, match=re.escape(message))


def draw(kind: str, seed: int, N: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A y with every class in it, and predictions that know something about it."""
    rng = np.random.default_rng(seed)
    if kind == "binary":
        y = rng.permutation((np.arange(N) % 5 < 2).astype(np.int64))
        return y, np.clip(0.3 * y + 0.7 * rng.random(N), 0, 1)[:, None]
    if kind == "multiclass":
        y = rng.permutation(np.minimum(np.arange(N) % 5, 2))
        raw_NK = 2 * rng.random((N, 3)) + np.eye(3)[y]
        return y, raw_NK / raw_NK.sum(axis=1, keepdims=True)
    if kind == "multilabel":
        y = rng.permuted((np.arange(N)[:, None] % [3, 4, 5] == 0).astype(np.int64), axis=0)
        return y, np.clip(0.3 * y + 0.7 * rng.random((N, 3)), 0, 1)
    y = rng.normal(size=(N, 2)).round(1)
    return y, y + rng.normal(size=(N, 2)).round(1)


def certain(kind: str, y: np.ndarray) -> np.ndarray:
    return np.eye(3)[y] if kind == "multiclass" else y.reshape(len(y), -1).astype(np.float64)


def test_declared_metrics_are_the_registered_ones() -> None:
    assert list(declared("metric")) == list(METRICS)
    assert all(declared("metric").values())


def test_every_kind_of_task_has_metrics() -> None:
    assert {kind for _, kind in PAIRS} == set(KINDS)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_certainty_of_the_truth_scores_best(name: str, kind: str) -> None:
    scorer = make_scorer(name, TASKS[kind])
    y, pred_NK = draw(kind, 0)
    best = scorer.score(y, certain(kind, y))
    assert best == pytest.approx(1 if scorer.better == "max" else 0, abs=1e-5)
    assert scorer.loss(y, certain(kind, y)) < scorer.loss(y, pred_NK)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_loss_is_the_score_to_be_minimised(name: str, kind: str) -> None:
    scorer = make_scorer(name, TASKS[kind])
    sign = -1 if scorer.better == "max" else 1
    y, pred_NK = draw(kind, 1)
    assert scorer.loss(y, pred_NK) == sign * scorer.score(y, pred_NK)
    assert isinstance(scorer.score(y, pred_NK), float)
    assert (scorer.name, scorer.better) == (name, METRICS[name].better)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_row_order_is_irrelevant_and_nothing_is_modified(name: str, kind: str, seed: int) -> None:
    scorer = make_scorer(name, TASKS[kind])
    y, pred_NK = draw(kind, seed)
    kept = y.copy(), pred_NK.copy()
    order = np.random.default_rng(seed).permutation(len(y))
    shuffled = scorer.score(y[order], pred_NK[order])
    assert scorer.score(y, pred_NK) == pytest.approx(shuffled, rel=1e-12)
    np.testing.assert_array_equal(y, kept[0])
    np.testing.assert_array_equal(pred_NK, kept[1])


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_predictions_that_are_not_finite_are_refused(name: str, kind: str) -> None:
    y, pred_NK = draw(kind, 2)
    for bad in (np.nan, np.inf):
        spoilt_NK = pred_NK.copy()
        spoilt_NK[3, -1] = bad
        output = TASKS[kind].outputs[-1]
        with refused(
            f"1 predictions are NaN or infinite, the first of '{output}' at position 3; make them"
        ):
            make_scorer(name, TASKS[kind]).score(y, spoilt_NK)


# What scikit-learn and scipy say, from encoded targets, labels and predictions.
REFERENCES = {
    ("accuracy", "binary"): lambda y, t, p: sk.accuracy_score(y, t),
    ("accuracy", "multiclass"): lambda y, t, p: sk.accuracy_score(y, t),
    ("accuracy", "multilabel"): lambda y, t, p: (y == t).all(axis=1).mean(),
    ("f1", "binary"): lambda y, t, p: sk.f1_score(y, t),
    ("f1_macro", "binary"): lambda y, t, p: sk.f1_score(y, t, average="macro"),
    ("f1_macro", "multiclass"): lambda y, t, p: sk.f1_score(y, t, average="macro"),
    ("f1_macro", "multilabel"): lambda y, t, p: np.mean(
        [sk.f1_score(y[:, k], t[:, k]) for k in range(3)]
    ),
    ("f1_micro", "multiclass"): lambda y, t, p: sk.accuracy_score(y, t),
    ("f1_micro", "multilabel"): lambda y, t, p: sk.f1_score(y.ravel(), t.ravel()),
    ("log_loss", "binary"): lambda y, t, p: sk.log_loss(y, p[:, 0]),
    ("log_loss", "multiclass"): lambda y, t, p: sk.log_loss(y, p),
    ("log_loss", "multilabel"): lambda y, t, p: np.mean(
        [sk.log_loss(y[:, k], p[:, k]) for k in range(3)]
    ),
    ("roc_auc", "binary"): lambda y, t, p: sk.roc_auc_score(y, p[:, 0]),
    ("roc_auc_macro", "multiclass"): lambda y, t, p: sk.roc_auc_score(y, p, multi_class="ovr"),
    ("roc_auc_macro", "multilabel"): lambda y, t, p: sk.roc_auc_score(y, p, average="macro"),
    ("mcc", "binary"): lambda y, t, p: sk.matthews_corrcoef(y, t),
    ("mcc", "multiclass"): lambda y, t, p: sk.matthews_corrcoef(y, t),
    ("rmse", "regression"): lambda y, t, p: sk.root_mean_squared_error(y.ravel(), p.ravel()),
    ("mcrmse", "regression"): lambda y, t, p: np.mean(
        [sk.root_mean_squared_error(y[:, k], p[:, k]) for k in range(2)]
    ),
    ("mae", "regression"): lambda y, t, p: sk.mean_absolute_error(y, p),
    ("pearson", "regression"): lambda y, t, p: np.mean(
        [stats.pearsonr(y[:, k], p[:, k])[0] for k in range(2)]
    ),
    ("spearman", "regression"): lambda y, t, p: np.mean(
        [stats.spearmanr(y[:, k], p[:, k])[0] for k in range(2)]
    ),
}


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_scores_are_those_of_scikit_learn_and_scipy(name: str, kind: str) -> None:
    for seed in range(5):
        y, pred_NK = draw(kind, seed)
        wanted = REFERENCES[name, kind](y, TASKS[kind].labels(pred_NK), pred_NK)
        assert make_scorer(name, TASKS[kind]).score(y, pred_NK) == pytest.approx(wanted, rel=1e-9)


def test_rmse_weighs_cells_alike_and_mcrmse_columns() -> None:
    y, pred_NK = np.zeros((2, 2)), np.array([[0.0, 3.0], [0.0, 3.0]])
    assert make_scorer("rmse", TASKS["regression"]).score(y, pred_NK) == pytest.approx(4.5**0.5)
    assert make_scorer("mcrmse", TASKS["regression"]).score(y, pred_NK) == pytest.approx(1.5)


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    wanted = -np.log(1e-7)
    y = np.array([0, 1])
    binary = make_scorer("log_loss", TASKS["binary"])
    assert binary.score(y, np.array([[1.0], [0.0]])) == pytest.approx(wanted)
    multiclass = make_scorer("log_loss", TASKS["multiclass"])
    assert multiclass.score(y, np.eye(3)[[1, 2]]) == pytest.approx(wanted)


def test_log_loss_of_float32_is_that_of_the_same_numbers() -> None:
    y, pred_NK = draw("binary", 0)
    scorer = make_scorer("log_loss", TASKS["binary"])
    pred_NK = pred_NK.astype(np.float32)
    assert scorer.score(y, pred_NK) == pytest.approx(scorer.score(y, pred_NK.astype(float)))
    certain_NK = np.ones((2, 1), dtype=np.float32)
    assert np.isfinite(scorer.score(np.array([0, 1]), certain_NK))


def test_multiclass_log_loss_renormalises_rows() -> None:
    y, pred_NK = draw("multiclass", 0)
    scorer = make_scorer("log_loss", TASKS["multiclass"])
    assert scorer.score(y, pred_NK * 0.5) == pytest.approx(scorer.score(y, pred_NK))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_smooth_loss_of_a_classification_is_log_loss(kind: str) -> None:
    y, pred_NK = draw(kind, 0)
    log_loss = make_scorer("log_loss", TASKS[kind]).score(y, pred_NK)
    assert make_scorer("accuracy", TASKS[kind]).smooth_loss(y, pred_NK) == pytest.approx(log_loss)


def test_smooth_loss_of_a_regression_is_the_mean_squared_error() -> None:
    y, pred_NK = draw("regression", 0)
    found = make_scorer("spearman", TASKS["regression"]).smooth_loss(y, pred_NK)
    assert found == pytest.approx(np.mean((y - pred_NK) ** 2))


def test_f1_and_mcc_without_a_positive_are_zero() -> None:
    nothing = np.zeros(4, dtype=np.int64), np.zeros((4, 1))
    assert make_scorer("f1", TASKS["binary"]).score(*nothing) == 0
    assert make_scorer("mcc", TASKS["binary"]).score(*nothing) == 0
    multilabel = make_scorer("f1_macro", TASKS["multilabel"])
    assert multilabel.score(np.zeros((4, 3), dtype=np.int64), np.zeros((4, 3))) == 0


def test_the_auc_of_one_class_is_undefined_and_names_the_output() -> None:
    y = np.ones(5, dtype=np.int64)
    with refused("roc_auc of 'target' is undefined on these 5 rows: all rows are of one class"):
        make_scorer("roc_auc", TASKS["binary"]).score(y, np.linspace(0, 1, 5)[:, None])
    y, pred_NK = draw("multilabel", 0)
    y[:, 1] = 0
    with refused("roc_auc_macro of 'q' is undefined on these 60 rows: all rows are of one class"):
        make_scorer("roc_auc_macro", TASKS["multilabel"]).score(y, pred_NK)
    y, pred_NK = draw("multiclass", 0)
    with refused("roc_auc_macro of 'c' is undefined on these 24 rows"):
        make_scorer("roc_auc_macro", TASKS["multiclass"]).score(y[y < 2], pred_NK[y < 2])


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_the_correlation_of_a_constant_is_undefined_and_names_the_output(name: str) -> None:
    y, pred_NK = draw("regression", 0)
    scorer = make_scorer(name, TASKS["regression"])
    constant_NK = pred_NK.copy()
    constant_NK[:, 1] = 0.1
    with refused(f"{name} of 'v' is undefined on these 60 rows: all predictions are equal"):
        scorer.score(y, constant_NK)
    y[:, 0] = 3.0
    with refused(f"{name} of 'u' is undefined on these 60 rows: all targets are equal"):
        scorer.score(y, pred_NK)
    with pytest.raises(UndefinedScoreError):
        scorer.loss(y, pred_NK)


@pytest.mark.parametrize("kind", KINDS)
def test_a_metric_that_does_not_fit_the_task_is_refused_with_those_that_do(kind: str) -> None:
    fitting = [name for name in METRICS if kind in METRICS[name].tasks]
    for name in set(METRICS) - set(fitting):
        with refused(
            f"metric '{name}' does not fit a {kind} task; choose one of: {', '.join(fitting)}"
        ):
            make_scorer(name, TASKS[kind])


def test_an_unknown_metric_names_the_nearest() -> None:
    with refused("unknown metric 'acuracy'; did you mean 'accuracy'? known: accuracy, f1, f1_"):
        make_scorer("acuracy", TASKS["binary"])
