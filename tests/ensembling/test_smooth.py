"""Smooth losses are what they say, so are their gradients, and their minima are the least."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import lsq_linear
from scipy.stats import rankdata
from simulated import TASKS, drawn

from poolblend.competition.metrics import make_scorer
from poolblend.competition.tasks import KINDS
from poolblend.ensembling import smooth
from poolblend.ensembling.mixture import SPACES, fit_space
from poolblend.ensembling.smooth import (
    SmoothLoss,
    bounded_minimum,
    make_smooth_loss,
    simplex_minimum,
    truth,
)

PAIRS = [(kind, space) for kind in KINDS for space in SPACES[kind]]
N, M = 120, 5


def loss_in(kind: str, space: str, seed: int = 0, n_members: int = M) -> SmoothLoss:
    y, oof_MNK = drawn(kind, seed, n_members)
    z_MNK = fit_space(space, kind, oof_MNK).forward(oof_MNK)
    return make_smooth_loss(kind, space, z_MNK, truth(TASKS[kind], y))


def weighting(seed: int, n_members: int = M) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(n_members))


def outputs(kind: str) -> int:
    return len(TASKS[kind].outputs)


@pytest.mark.parametrize(("kind", "space"), PAIRS)
@pytest.mark.parametrize("seed", range(2))
def test_gradients_are_the_differences_of_the_loss(kind: str, space: str, seed: int) -> None:
    loss, rng = loss_in(kind, space, seed), np.random.default_rng(seed)
    weights_M = weighting(seed)
    # Probabilities with an intercept may leave [0, 1], where they are cut off: a small one.
    intercept_K = rng.normal(size=outputs(kind)) * (1e-4 if space == "plain" else 0.5)
    if kind in ("regression", "ordinal") or space != "plain":
        weights_M = weights_M * 1.7
    value = loss(weights_M, intercept_K)
    step = 1e-6
    for m, along_M in enumerate(step * np.eye(M)):
        rise = loss(weights_M + along_M, intercept_K).loss
        fall = loss(weights_M - along_M, intercept_K).loss
        slope = (rise - fall) / (2 * step)
        assert value.by_weight_M[m] == pytest.approx(slope, rel=1e-4, abs=1e-7)
    for k, along_K in enumerate(step * np.eye(outputs(kind))):
        rise = loss(weights_M, intercept_K + along_K).loss
        fall = loss(weights_M, intercept_K - along_K).loss
        slope = (rise - fall) / (2 * step)
        assert value.by_intercept_K[k] == pytest.approx(slope, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "shares"])
@pytest.mark.parametrize("space", ["plain", "logit"])
def test_the_smooth_loss_of_probabilities_is_log_loss(kind: str, space: str) -> None:
    y, oof_MNK = drawn(kind.replace("shares", "multiclass"), 0)
    if kind == "shares":  # rows that are shared among classes
        kind, y = "multiclass", np.random.default_rng(0).dirichlet(np.ones(3), N)
    weights_M = weighting(0)
    fitted = fit_space(space, kind, oof_MNK)
    z_MNK = fitted.forward(oof_MNK)
    pred_NK = fitted.inverse(np.tensordot(weights_M, z_MNK, axes=1))
    wanted = make_scorer("log_loss", TASKS[kind]).score(y, pred_NK)
    loss = make_smooth_loss(kind, space, z_MNK, truth(TASKS[kind], y))
    assert loss(weights_M, np.zeros(outputs(kind))).loss == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("kind", ["regression", "ordinal"])
@pytest.mark.parametrize("offset", [0.0, 1e3, -1e6])
@pytest.mark.parametrize("scale", [1e-4, 1.0])
def test_squared_error_from_moments_is_the_direct_sum(
    kind: str, offset: float, scale: float
) -> None:
    y, oof_MNK = drawn(kind, 0)
    truth_NK = scale * truth(TASKS[kind], y) + offset
    z_MNK = scale * oof_MNK + offset
    loss = make_smooth_loss(kind, "plain", z_MNK, truth_NK)
    for weights_M, intercept in [(weighting(1), 0.0), (1.2 * weighting(2), -0.2 * offset + scale)]:
        intercept_K = np.full(outputs(kind), intercept)
        residual_NK = np.tensordot(weights_M, z_MNK, axes=1) + intercept_K - truth_NK
        wanted = np.mean(residual_NK**2)
        # Offset and scale together leave as many digits as the predictions themselves keep.
        digits = max(1e-12, 1e-15 * abs(offset / scale))
        assert loss(weights_M, intercept_K).loss == pytest.approx(wanted, rel=digits)


@pytest.mark.parametrize("kind", ["binary", "multilabel", "regression", "ordinal"])
def test_squared_error_of_ranks_is_to_the_ranks_of_the_truth(kind: str) -> None:
    y, oof_MNK = drawn(kind, 0)
    ranks_MNK = fit_space("rank", kind, oof_MNK).forward(oof_MNK)
    weights_M = weighting(0)
    wanted_NK = rankdata(truth(TASKS[kind], y), axis=0) / N - 0.5 / N
    wanted = np.mean((np.tensordot(weights_M, ranks_MNK, axes=1) - wanted_NK) ** 2)
    found = loss_in(kind, "rank")(weights_M, np.zeros(outputs(kind))).loss
    assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("kind", "space"), PAIRS)
def test_the_loss_of_a_mixture_is_at_most_the_mixture_of_losses(kind: str, space: str) -> None:
    loss, none_K = loss_in(kind, space), np.zeros(outputs(kind))
    for seed in range(20):
        here_M, there_M = weighting(seed), weighting(seed + 100)
        ends = loss(here_M, none_K), loss(there_M, none_K)
        for share in (0.1, 0.5, 0.9):
            between = loss(share * here_M + (1 - share) * there_M, none_K).loss
            assert between <= share * ends[0].loss + (1 - share) * ends[1].loss + 1e-12
        # A convex function lies above its tangents.
        assert ends[1].loss >= ends[0].loss + ends[0].by_weight_M @ (there_M - here_M) - 1e-12


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_a_certain_mistake_costs_no_more_than_the_least_probability(kind: str) -> None:
    task = TASKS[kind]
    y = np.zeros((4, 2), dtype=np.int64) if kind == "multilabel" else np.zeros(4, dtype=np.int64)
    certain_NK = np.eye(3)[[1] * 4] if kind == "multiclass" else np.ones((4, outputs(kind)))
    for space in ("plain", "logit"):
        z_MNK = fit_space(space, kind, certain_NK[None]).forward(certain_NK[None])
        value = make_smooth_loss(kind, space, z_MNK, truth(task, y))(
            np.ones(1), np.zeros(outputs(kind))
        )
        assert value.loss == pytest.approx(-np.log(1e-7), rel=1e-6)
        assert np.isfinite(value.by_weight_M).all()


def frank_wolfe_gap(loss: SmoothLoss, weights_M: np.ndarray, n_outputs: int) -> float:
    """How far a convex loss can be above its least value on the simplex, in units of it."""
    value = loss(weights_M, np.zeros(n_outputs))
    return (weights_M @ value.by_weight_M - value.by_weight_M.min()) / value.loss


class TestSimplexMinimum:
    @pytest.mark.parametrize(("kind", "space"), PAIRS)
    @pytest.mark.parametrize("n_members", [2, 8, 30, 150])
    def test_leaves_nothing_to_gain(self, kind: str, space: str, n_members: int) -> None:
        loss = loss_in(kind, space, 0, n_members)
        weights_M = simplex_minimum(loss, np.full(n_members, 1 / n_members), outputs(kind))
        assert (weights_M >= 0).all()
        assert weights_M.sum() == pytest.approx(1, abs=1e-12)
        assert frank_wolfe_gap(loss, weights_M, outputs(kind)) < 1e-6

    @pytest.mark.parametrize("solution", [[0.0] * (M - 1) + [1.0], [np.nan] * M, [0.0] * M])
    def test_is_the_start_where_the_solver_fails(
        self, solution: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        failed = SimpleNamespace(x=np.array(solution))
        monkeypatch.setattr(smooth, "minimize", lambda *_, **__: failed)
        start_M = np.full(M, 1 / M)
        found_M = simplex_minimum(loss_in("regression", "plain"), start_M, 2)
        np.testing.assert_array_equal(found_M, start_M)


class TestBoundedMinimum:
    @pytest.mark.parametrize("seed", range(3))
    def test_of_squared_error_is_non_negative_least_squares(self, seed: int) -> None:
        y, oof_MNK = drawn("regression", seed, 6)
        design = np.column_stack([oof_MNK[:, :, 0].T, np.ones(N)])
        bounds = ([0] * 6 + [-np.inf], [np.inf] * 7)
        wanted = lsq_linear(design, y[:, 0], bounds, method="bvls").x
        loss = make_smooth_loss("regression", "plain", oof_MNK[:, :, :1], y[:, :1])
        weights_M, intercept_K = bounded_minimum(loss, np.full(6, 1 / 6), np.zeros(1))
        np.testing.assert_allclose(np.append(weights_M, intercept_K), wanted, atol=1e-4)
        assert (wanted[:6] > 1e-6).sum() < 6 or seed

    @pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
    def test_of_log_loss_leaves_no_slope_but_into_the_bound(self, kind: str) -> None:
        loss = loss_in(kind, "logit", 1)
        weights_M, intercept_K = bounded_minimum(loss, np.full(M, 1 / M), np.zeros(outputs(kind)))
        value = loss(weights_M, intercept_K)
        assert (weights_M >= 0).all()
        assert value.by_intercept_K == pytest.approx(0, abs=1e-5)
        assert value.by_weight_M[weights_M > 0] == pytest.approx(0, abs=1e-5)
        assert (value.by_weight_M[weights_M == 0] > -1e-5).all()

    def test_is_ridge_regression_towards_the_goal(self) -> None:
        y, oof_MNK = drawn("regression", 0)
        Z, t = oof_MNK[:, :, 0].T, y[:, 0]
        loss = make_smooth_loss("regression", "plain", oof_MNK[:, :, :1], y[:, :1])
        goal_M, penalty = np.full(M, 1 / M), 0.3
        weights_M, intercept_K = bounded_minimum(
            loss, goal_M, np.zeros(1), penalty=penalty, towards_M=goal_M
        )
        # The penalty of the mean squared error, in units of the start's.
        alpha = penalty * np.mean((Z @ goal_M - t) ** 2)
        Zc, tc = Z - Z.mean(axis=0), t - t.mean()
        wanted_M = np.linalg.solve(
            Zc.T @ Zc / N + alpha * np.eye(M), Zc.T @ tc / N + alpha * goal_M
        )
        assert (wanted_M > 0).all()
        np.testing.assert_allclose(weights_M, wanted_M, atol=1e-5)
        assert intercept_K[0] == pytest.approx(t.mean() - Z.mean(axis=0) @ wanted_M, abs=1e-5)
