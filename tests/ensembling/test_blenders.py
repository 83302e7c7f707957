"""Laws of every blender on every kind of task, and what each of them promises beyond."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import nnls

from poolblend.competition.metrics import make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling import blenders
from poolblend.ensembling.blenders import (
    BLENDERS,
    FLOOR,
    LEAST_WEIGHT,
    BlendFit,
    BlendProblem,
    by_simplicity,
    mix,
    smooth_slope,
    to_cube,
    to_simplex,
)
from poolblend.errors import UserError
from poolblend.registry import declared

TASKS = {
    "binary": Task("binary", ("t",), (0, 1)),
    "multiclass": Task("multiclass", ("t",), ("x", "y", "z")),
    "multilabel": Task("multilabel", ("p", "q")),
    "regression": Task("regression", ("p", "q")),
}
CASES = [
    ("binary", "f1"),
    ("binary", "roc_auc"),
    ("multiclass", "accuracy"),
    ("multiclass", "log_loss"),
    ("multilabel", "f1_macro"),
    ("regression", "mcrmse"),
    ("regression", "spearman"),
]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True)


def problem(kind: str, metric: str, seed: int = 0, n_members: int = 4) -> BlendProblem:
    """Members that see the same signal through noise of their own, each with more of it."""
    rng = np.random.default_rng(seed)
    task = TASKS[kind]
    n_outputs = len(task.outputs)
    signal_NK = rng.normal(size=(150, n_outputs))
    noise_MNK = rng.normal(size=(n_members, 150, n_outputs))
    seen_MNK = signal_NK + noise_MNK * np.linspace(0.5, 1.5, n_members)[:, None, None]
    if kind == "regression":
        y, oof_MNK = signal_NK + rng.normal(size=signal_NK.shape), seen_MNK
    elif kind == "multiclass":
        y, oof_MNK = (signal_NK + rng.gumbel(size=signal_NK.shape)).argmax(1), softmax(seen_MNK)
    else:
        y_NK = (signal_NK + rng.logistic(size=signal_NK.shape) > 0).astype(np.int64)
        y, oof_MNK = (y_NK[:, 0] if kind == "binary" else y_NK), 1 / (1 + np.exp(-seen_MNK))
    scorer = make_scorer(metric, task)
    return BlendProblem(oof_MNK, y, scorer, seed=seed, trials=15)


def only(given_problem: BlendProblem, members: list[int]) -> BlendProblem:
    """The same problem with these members, in this order."""
    return replace(given_problem, oof_MNK=given_problem.oof_MNK[members])


@cache
def fitted(name: str, kind: str, metric: str, seed: int = 0) -> BlendFit:
    return BLENDERS[name](problem(kind, metric, seed))


@pytest.mark.parametrize(("kind", "metric"), CASES)
@pytest.mark.parametrize("name", BLENDERS)
class TestEveryBlender:
    def test_weights_lie_on_the_simplex(self, name: str, kind: str, metric: str) -> None:
        weights_M = fitted(name, kind, metric).weights_M
        assert weights_M.shape == (4,)
        assert (weights_M >= 0).all()
        assert weights_M.sum() == pytest.approx(1, abs=1e-12)

    def test_one_member_takes_all_without_a_search(self, name: str, kind: str, metric: str) -> None:
        fit = BLENDERS[name](problem(kind, metric, n_members=1))
        np.testing.assert_array_equal(fit.weights_M, [1])
        assert fit.history == ()

    def test_the_same_problem_gives_the_same_weights_and_stays_as_it_was(
        self, name: str, kind: str, metric: str
    ) -> None:
        again = problem(kind, metric)
        weights_M = BLENDERS[name](again).weights_M
        np.testing.assert_array_equal(weights_M, fitted(name, kind, metric).weights_M)
        np.testing.assert_array_equal(again.oof_MNK, problem(kind, metric).oof_MNK)
        np.testing.assert_array_equal(again.y, problem(kind, metric).y)

    def test_permuting_members_permutes_weights(self, name: str, kind: str, metric: str) -> None:
        straight, order = problem(kind, metric), [2, 0, 3, 1]
        turned = only(straight, order)
        fit, turned_fit = fitted(name, kind, metric), BLENDERS[name](turned)
        if name == "optuna":
            # The search draws member by member, so order moves it; its score may not move much.
            losses = straight.loss(fit.weights_M), turned.loss(turned_fit.weights_M)
            assert losses[0] == pytest.approx(losses[1], abs=0.02)
        else:
            np.testing.assert_allclose(turned_fit.weights_M, fit.weights_M[order], atol=1e-4)

    def test_a_search_is_never_below_a_simpler_blender_in_sample(
        self, name: str, kind: str, metric: str
    ) -> None:
        for seed in range(3):
            task = problem(kind, metric, seed)
            loss = task.loss(fitted(name, kind, metric, seed).weights_M)
            assert task.loss(fitted("optuna", kind, metric, seed).weights_M) <= loss


def test_registering_declares_a_name_and_an_unknown_one_suggests_the_nearest() -> None:
    assert list(declared("blender")) == list(BLENDERS)
    assert all(declared("blender").values())
    assert by_simplicity()[:2] == ["equal", "best"]
    assert by_simplicity()[-2:] == ["slsqp", "optuna"]
    with pytest.raises(UserError, match="unknown blender 'optune'; did you mean 'optuna'"):
        BLENDERS["optune"]


@pytest.mark.parametrize(("kind", "metric"), CASES)
def test_equal_is_the_plain_mean(kind: str, metric: str) -> None:
    task = problem(kind, metric)
    weights_M = BLENDERS["equal"](task).weights_M
    np.testing.assert_allclose(mix(weights_M, task.oof_MNK), task.oof_MNK.mean(axis=0))


@pytest.mark.parametrize(("kind", "metric"), CASES)
def test_best_is_the_member_of_the_best_score(kind: str, metric: str) -> None:
    task = only(problem(kind, metric), [3, 1, 0, 2])
    scores = [task.scorer.score(task.y, pred_NK) for pred_NK in task.oof_MNK]
    best = max(scores) if task.scorer.better == "max" else min(scores)
    np.testing.assert_array_equal(BLENDERS["best"](task).weights_M, np.eye(4)[scores.index(best)])


def test_best_of_equals_is_the_first() -> None:
    np.testing.assert_array_equal(
        BLENDERS["best"](only(problem("binary", "f1"), [2, 1, 1, 2])).weights_M, [0, 1, 0, 0]
    )


def test_a_member_without_a_score_is_not_the_best_and_all_without_one_are_an_error() -> None:
    task = problem("regression", "pearson")
    task.oof_MNK[[0, 2]] = 3.0
    np.testing.assert_array_equal(BLENDERS["best"](task).weights_M, [0, 1, 0, 0])
    task.oof_MNK[:] = 3.0
    for name in ("best", "optuna"):
        with pytest.raises(UserError, match="pearson of 'p' is undefined"):
            BLENDERS[name](task)


@pytest.mark.parametrize(("kind", "metric"), [case for case in CASES if case[1] != "spearman"])
def test_the_slope_is_the_derivative_of_the_smooth_loss(kind: str, metric: str) -> None:
    task = problem(kind, metric)
    pred_NK = task.oof_MNK[0].copy()
    slope_NK = smooth_slope(task.scorer, task.y, pred_NK)
    for n, k in [(0, 0), (1, 0), (77, 0), (77, pred_NK.shape[1] - 1)]:
        step_NK = np.zeros_like(pred_NK)
        step_NK[n, k] = 1e-5
        rise = task.scorer.smooth_loss(task.y, pred_NK + step_NK)
        fall = task.scorer.smooth_loss(task.y, pred_NK - step_NK)
        assert slope_NK[n, k] == pytest.approx((rise - fall) / 2e-5, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_the_slope_is_flat_where_the_smooth_loss_clips_a_probability(kind: str) -> None:
    task = problem(kind, "accuracy")
    pred_NK = task.oof_MNK[0].copy()
    pred_NK[:5], pred_NK[5:10] = 1e-9, 1 - 1e-9
    slope_NK = smooth_slope(task.scorer, task.y, pred_NK)
    assert (slope_NK[:10] == 0).all()
    assert (slope_NK[10:] != 0).all()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
@pytest.mark.parametrize("seed", range(5))
def test_slsqp_reaches_the_least_squares_optimum_whatever_the_targets_scale(
    seed: int, scale: float
) -> None:
    plain = problem("regression", "rmse", seed, n_members=8)
    A = plain.oof_MNK.reshape(8, -1).T
    reference_M, _ = nnls(np.vstack([A, np.full(8, 1e4)]), np.append(plain.y.ravel(), 1e4))
    scaled = replace(plain, oof_MNK=plain.oof_MNK * scale, y=plain.y * scale)
    weights_M = BLENDERS["slsqp"](scaled).weights_M
    np.testing.assert_allclose(weights_M, reference_M / reference_M.sum(), atol=2e-4)
    assert (reference_M < 1e-9).any() or seed != 0


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("seed", range(3))
def test_slsqp_leaves_no_smooth_loss_to_gain(kind: str, seed: int) -> None:
    """The Frank-Wolfe gap bounds how far a convex loss is above its least value on the simplex."""
    metric = "rmse" if kind == "regression" else "log_loss"
    task = problem(kind, metric, seed, n_members=8)
    weights_M = BLENDERS["slsqp"](task).weights_M
    slope_NK = smooth_slope(task.scorer, task.y, mix(weights_M, task.oof_MNK))
    gradient_M = np.tensordot(task.oof_MNK, slope_NK, axes=2)
    assert weights_M @ gradient_M - gradient_M.min() < 1e-5


def test_slsqp_survives_members_that_are_sure_and_wrong() -> None:
    task = problem("binary", "f1")
    task.oof_MNK[0, :, 0] = 1 - task.y
    task.oof_MNK[1, :, 0] = task.y
    np.testing.assert_allclose(BLENDERS["slsqp"](task).weights_M, [0, 1, 0, 0], atol=1e-3)


def test_slsqp_keeps_equal_weights_where_nothing_is_to_gain() -> None:
    task = problem("regression", "rmse")
    task.oof_MNK[:] = task.y
    np.testing.assert_allclose(BLENDERS["slsqp"](task).weights_M, np.full(4, 0.25))


@pytest.mark.parametrize("solution", [[0.0, 0.0, 0.0, 1.0], [math.nan] * 4])
def test_slsqp_keeps_equal_weights_where_the_solver_fails(
    solution: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = SimpleNamespace(x=np.array(solution))
    monkeypatch.setattr(blenders, "minimize", lambda *_, **__: failed)
    weights_M = BLENDERS["slsqp"](problem("regression", "rmse")).weights_M
    np.testing.assert_allclose(weights_M, np.full(4, 0.25))


@pytest.mark.parametrize("name", ["slsqp", "optuna"])
def test_no_member_is_run_for_a_crumb_of_weight(name: str) -> None:
    """A member that sees nothing but noise gets no weight at all, rather than next to none."""
    given_problem = problem("regression", "mcrmse")
    noise_NK = np.random.default_rng(1).normal(scale=9, size=given_problem.y.shape)
    with_noise_MNK = np.concatenate([given_problem.oof_MNK, noise_NK[None]])
    weights_M = BLENDERS[name](replace(given_problem, oof_MNK=with_noise_MNK)).weights_M
    assert weights_M[-1] == 0 or weights_M[-1] >= LEAST_WEIGHT
    assert weights_M[weights_M > 0].min() >= LEAST_WEIGHT
    assert weights_M.sum() == pytest.approx(1, abs=1e-12)


class TestSearch:
    def test_its_history_begins_with_the_simpler_blends_and_tells_every_loss(self) -> None:
        task = problem("binary", "f1")
        fit = BLENDERS["optuna"](task)
        simpler = by_simplicity()[:-1]
        assert [trial.source for trial in fit.history] == simpler + ["search"] * task.trials
        for name, trial in zip(simpler, fit.history, strict=False):
            np.testing.assert_array_equal(trial.weights_M, BLENDERS[name](task).weights_M)
        losses = [trial.loss for trial in fit.history]
        assert losses == [task.loss(np.array(trial.weights_M)) for trial in fit.history]
        assert [trial.best for trial in fit.history] == np.minimum.accumulate(losses).tolist()
        assert [trial.number for trial in fit.history] == list(range(len(losses)))
        assert tuple(fit.weights_M) == fit.history[losses.index(min(losses))].weights_M

    def test_it_finds_more_than_it_started_from_where_the_metric_is_a_step(self) -> None:
        task = replace(problem("binary", "f1"), trials=60)
        history = BLENDERS["optuna"](task).history
        assert history[-1].best < min(trial.loss for trial in history if trial.source != "search")

    def test_of_equal_scores_the_simpler_blend_wins(self) -> None:
        fit = BLENDERS["optuna"](only(problem("binary", "f1"), [0, 0, 0]))
        np.testing.assert_allclose(fit.weights_M, np.full(3, 1 / 3))

    def test_it_is_quiet_leaves_the_log_level_alone_and_ticks_once_per_trial(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: list[logging.LogRecord] = []
        ticks: list[int] = []
        logger = logging.getLogger("optuna")
        monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
        monkeypatch.setattr(logger.handlers[0], "handle", said.append)
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.INFO)
        optuna.create_study()
        assert len(said) == 1
        BLENDERS["optuna"](
            replace(problem("binary", "f1"), trials=7, progress=lambda: ticks.append(1))
        )
        assert len(ticks) == 7
        assert len(said) == 1
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
        optuna.logging.set_verbosity(before)

    @given(arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)))
    def test_every_weighting_has_its_point_in_the_search_space(self, raw_M: np.ndarray) -> None:
        weights_M = (raw_M + 1e-6) / (raw_M + 1e-6).sum()
        cube_M = to_cube(weights_M)
        assert (cube_M >= FLOOR).all()
        assert (cube_M <= 1).all()
        np.testing.assert_allclose(to_simplex(cube_M), weights_M, atol=1e-12)

    @pytest.mark.parametrize("n_members", [2, 5, 23])
    def test_a_single_member_has_its_point_too(self, n_members: int) -> None:
        corner_M = np.eye(n_members)[0]
        np.testing.assert_allclose(to_simplex(to_cube(corner_M)), corner_M, atol=1e-12)

    def test_the_centre_of_the_simplex_is_where_nothing_is_drawn(self) -> None:
        np.testing.assert_array_equal(to_simplex(np.ones(4)), np.full(4, 0.25))
