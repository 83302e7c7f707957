"""Laws of every blender on every kind of task, and what each of them promises beyond."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.optimize import minimize, nnls
from simulated import TASKS, drawn

from poolblend.competition.metrics import make_scorer
from poolblend.ensembling.blenders import BLENDERS, by_simplicity, greedy
from poolblend.ensembling.mixture import fit_space
from poolblend.ensembling.problem import (
    LEAST_SHARE,
    BlendFit,
    BlendProblem,
    equal_weights,
    inner_folds,
    mix,
    prune_small_weights,
    starting_blenders,
)
from poolblend.errors import UserError
from poolblend.registry import declared

CASES = [
    ("binary", "f1", "plain"),
    ("binary", "roc_auc", "rank"),
    ("multiclass", "log_loss", "logit"),
    ("multilabel", "f1_macro", "plain"),
    ("regression", "mcrmse", "plain"),
    ("ordinal", "qwk", "plain"),
]
CUT = ("f1", "f1_macro", "qwk")
N, M = 90, 4
Case = tuple[str, str, str]
SEARCHES = [name for name in BLENDERS if BLENDERS[name].searches]


def posed(
    kind: str, metric: str, space: str, y: np.ndarray, oof_MNK: np.ndarray, seed: int = 0
) -> BlendProblem:
    fitted = fit_space(space, kind, oof_MNK)
    return BlendProblem(
        fitted.forward(oof_MNK),
        y,
        np.arange(len(y)) % 3,
        make_scorer(metric, TASKS[kind]),
        fitted,
        cuts=metric in CUT,
        seed=seed,
        trials=10,
    )


def problem(
    kind: str, metric: str, space: str, seed: int = 0, n_members: int = M, n_rows: int = N
) -> BlendProblem:
    y, oof_MNK = drawn(kind, seed, n_members, n_rows, 1.5)
    return posed(kind, metric, space, y, oof_MNK, seed)


@cache
def fitted(name: str, case: Case, seed: int = 0) -> BlendFit:
    starts = {}
    if name in SEARCHES:
        starts = {each: fitted(each, case, seed) for each in starting_blenders()}
    return BLENDERS[name](replace(problem(*case, seed), starts=starts))


def intercept(fit: BlendFit) -> np.ndarray | float:
    return 0.0 if fit.intercept_K is None else fit.intercept_K


def predicted(given: BlendProblem, fit: BlendFit) -> np.ndarray:
    return given.space.inverse(mix(fit.weights_M, given.z_MNK) + intercept(fit))


@pytest.mark.parametrize("case", CASES, ids="-".join)
@pytest.mark.parametrize("name", BLENDERS)
class TestEveryBlender:
    def test_weights_are_not_negative_and_lie_on_the_simplex(self, name: str, case: Case) -> None:
        fit = fitted(name, case)
        assert fit.weights_M.shape == (M,)
        assert (fit.weights_M >= 0).all()
        if fit.intercept_K is not None:
            assert fit.intercept_K.shape == (len(TASKS[case[0]].outputs),)
        if BLENDERS[name].space is None:
            assert fit.weights_M.sum() == pytest.approx(1, abs=1e-12)
            assert fit.intercept_K is None

    def test_one_member_takes_all_without_a_search(self, name: str, case: Case) -> None:
        fit = BLENDERS[name](problem(*case, n_members=1))
        np.testing.assert_array_equal(fit.weights_M, [1])
        assert fit.intercept_K is None
        assert fit.history == ()

    def test_the_same_problem_gives_the_same_weights_and_stays_as_it_was(
        self, name: str, case: Case
    ) -> None:
        again = problem(*case)
        fit, first = BLENDERS[name](again), fitted(name, case)
        np.testing.assert_array_equal(fit.weights_M, first.weights_M)
        np.testing.assert_array_equal(again.z_MNK, problem(*case).z_MNK)
        np.testing.assert_array_equal(again.y, problem(*case).y)

    def test_permuting_members_or_rows_permutes_weights(self, name: str, case: Case) -> None:
        if name in SEARCHES:
            return  # a random walk over the members in the order given
        straight, order = problem(*case), [2, 0, 3, 1]
        weights_M = fitted(name, case).weights_M
        fit = BLENDERS[name](replace(straight, z_MNK=straight.z_MNK[order]))
        np.testing.assert_allclose(fit.weights_M, weights_M[order], atol=1e-3)
        fit = BLENDERS[name](straight.rows(np.random.default_rng(1).permutation(N)))
        np.testing.assert_allclose(fit.weights_M, weights_M, atol=1e-3)

    def test_a_member_equal_to_the_target_takes_all_the_weight(self, name: str, case: Case) -> None:
        kind = case[0]
        y, oof_MNK = drawn(kind, 0, M, N, 1.5)
        task = TASKS[kind]
        oof_MNK[2] = (
            np.eye(3)[y] if kind == "multiclass" else task.training_targets(y).reshape(N, -1)
        )
        given = posed(*case, y, oof_MNK)
        fit = BLENDERS[name](given)
        share_M = fit.weights_M / fit.weights_M.sum()
        if name in ("best", "greedy", "convex", "optuna"):
            assert share_M[2] == pytest.approx(1, abs=0.01)
        elif name == "bagged":  # a bag without that member has to do with others
            assert share_M[2] >= 0.5 - 1e-12
        elif name != "equal":  # near enough to it, where a step metric sees no more to gain
            mixed_NK = mix(fit.weights_M, given.z_MNK) + intercept(fit)
            perfect = given.loss(np.eye(M)[2])
            assert share_M[2] > 0.99 or given.loss_of(mixed_NK) <= perfect + 0.01

    def test_a_search_is_never_below_a_simpler_blender_in_sample(
        self, name: str, case: Case
    ) -> None:
        if BLENDERS[name].space is None:
            given = problem(*case)
            loss = given.loss(fitted(name, case).weights_M)
            assert given.loss(fitted("optuna", case).weights_M) <= loss


def test_registering_declares_a_name_and_an_unknown_one_suggests_the_nearest() -> None:
    assert list(declared("blender")) == list(BLENDERS)
    assert all(declared("blender").values())
    assert by_simplicity()[:2] == ["equal", "best"]
    assert starting_blenders()[:2] == ["equal", "best"]
    with pytest.raises(UserError, match="unknown blender 'optune'; did you mean 'optuna'"):
        BLENDERS["optune"]


class TestProblem:
    def test_its_loss_is_the_metrics_at_the_best_cuts(self) -> None:
        given = problem("binary", "f1", "plain")
        weights_M = np.array([0.4, 0.3, 0.2, 0.1])
        pred_NK = np.tensordot(weights_M, given.z_MNK, axes=1)
        cuts = np.unique(pred_NK)
        best = max(given.scorer.score(given.y, pred_NK, np.array([cut])) for cut in cuts)
        assert given.loss(weights_M) == pytest.approx(-best)
        uncut = replace(given, cuts=False).loss(weights_M)
        assert uncut == given.scorer.loss(given.y, pred_NK)
        assert given.loss(weights_M) < uncut

    def test_its_loss_is_infinite_where_the_metric_is_undefined(self) -> None:
        given = problem("regression", "spearman", "rank")
        given.z_MNK[0] = 0.5
        assert given.loss(np.eye(M)[0]) == np.inf
        assert np.isfinite(given.loss(np.eye(M)[1]))

    def test_its_rows_and_members_are_those_asked_for_without_what_was_fitted_on_all(self) -> None:
        given = replace(problem("binary", "f1", "plain"), starts={"equal": BlendFit(np.ones(M))})
        mask_N = np.arange(N) % 3 == 1
        some = given.rows(mask_N)
        np.testing.assert_array_equal(some.z_MNK, given.z_MNK[:, mask_N])
        np.testing.assert_array_equal(some.y, given.y[mask_N])
        assert set(some.fold_N) == {1}
        kept_M = np.array([True, False, True, False])
        few = given.only(kept_M)
        np.testing.assert_array_equal(few.z_MNK, given.z_MNK[kept_M])
        assert some.starts == few.starts == {}

    def test_small_weights_are_pruned(self) -> None:
        small = 0.9 * LEAST_SHARE / 4
        pruned_M = prune_small_weights(np.array([0.5, small, 0.5 - small, 0.0]))
        assert pruned_M == pytest.approx([0.5 / (1 - small), 0, (0.5 - small) / (1 - small), 0])

    def test_inner_folds_are_the_rows_own_or_two(self) -> None:
        np.testing.assert_array_equal(inner_folds(np.array([3, 1, 3])), [3, 1, 3])
        np.testing.assert_array_equal(inner_folds(np.array([3, 3, 3])), [0, 1, 0])


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_equal_is_the_plain_mean_and_best_the_member_of_the_best_score(case: Case) -> None:
    given = problem(*case)
    equal_NK = mix(BLENDERS["equal"](given).weights_M, given.z_MNK)
    np.testing.assert_allclose(equal_NK, given.z_MNK.mean(axis=0))
    weights_M = BLENDERS["best"](given).weights_M
    assert set(weights_M) == {0, 1}
    assert given.loss(weights_M) == min(given.loss(corner_M) for corner_M in np.eye(M))


def test_best_of_equal_scores_has_the_least_smooth_loss() -> None:
    y = np.array([0, 1, 0, 1, 0, 1])
    timid_N, sure_N = np.where(y, 0.6, 0.4), np.where(y, 0.9, 0.1)
    oof_MNK = np.stack([timid_N, sure_N, timid_N])[:, :, None]
    given = posed("binary", "roc_auc", "plain", y, oof_MNK)
    np.testing.assert_array_equal(BLENDERS["best"](given).weights_M, [0, 1, 0])


class TestMembersWithoutAScore:
    given = problem("regression", "pearson", "plain")
    given.z_MNK[[0, 2]] = 3.0

    @pytest.mark.parametrize("name", BLENDERS)
    def test_do_not_keep_the_others_from_being_blended(self, name: str) -> None:
        fit = BLENDERS[name](self.given)
        assert np.isfinite(fit.weights_M).all()
        assert np.isfinite(self.given.loss(fit.weights_M))

    def test_are_not_the_best(self) -> None:
        np.testing.assert_array_equal(BLENDERS["best"](self.given).weights_M, [0, 1, 0, 0])

    @pytest.mark.parametrize("name", ["best", "optuna"])
    def test_are_an_error_where_there_is_no_other(self, name: str) -> None:
        hopeless = replace(self.given, z_MNK=np.full_like(self.given.z_MNK, 3.0))
        with pytest.raises(UserError, match="pearson of 'p' is undefined"):
            BLENDERS[name](hopeless)
        for other in ("equal", "greedy", "shrunk"):
            np.testing.assert_allclose(BLENDERS[other](hopeless).weights_M, equal_weights(M))


def caruana(given: BlendProblem, steps: int) -> np.ndarray:
    """Ensemble selection as its paper tells it: every ensemble averaged and scored anew."""

    def merit(members: list[int]) -> tuple[float, float]:
        weights_M = np.bincount(members, minlength=given.n_members) / len(members)
        return given.loss(weights_M), given.smooth(weights_M, np.zeros(given.n_outputs)).loss

    order = sorted(range(given.n_members), key=lambda m: merit([m]))
    bests = [order[:size] for size in range(1, given.n_members + 1)]
    ensemble = min(bests, key=merit)
    found = ensemble
    for _ in range(steps):
        grown = [[*ensemble, m] for m in range(given.n_members)]
        ensemble = min(grown, key=merit)
        found = min([found, ensemble], key=merit)
    return np.bincount(found, minlength=given.n_members) / len(found)


class TestGreedy:
    @pytest.mark.parametrize("case", CASES, ids="-".join)
    def test_is_the_selection_of_caruana(self, case: Case) -> None:
        given = problem(*case, n_rows=40)
        weights_M = BLENDERS["greedy"](given).weights_M
        np.testing.assert_allclose(weights_M, caruana(given, greedy.STEPS), atol=1e-12)

    def test_breaks_ties_of_the_metric_by_the_smooth_loss(self) -> None:
        """Every selection ranks all rows rightly; only how sure they are tells them apart."""
        y = np.array([0, 1, 0, 1, 0, 1, 0, 1])
        sure = np.array([0.6, 0.9, 0.7])[:, None]
        oof_MNK = np.where(y, sure, 1 - sure)[:, :, None]
        given = posed("binary", "roc_auc", "plain", y, oof_MNK)
        np.testing.assert_array_equal(BLENDERS["greedy"](given).weights_M, [0, 1, 0])


class TestBagged:
    def test_is_the_mean_of_selections_among_half_of_the_members(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bags: list[list[int]] = []
        selections: list[np.ndarray] = []
        select = greedy._select
        posed_MNK = problem("binary", "log_loss", "plain", n_members=8).z_MNK

        def spied(given: BlendProblem, steps: int) -> np.ndarray:
            weights = select(given, steps)
            places = [np.flatnonzero((posed_MNK == z_NK).all(axis=(1, 2))) for z_NK in given.z_MNK]
            bags.append(np.concatenate(places).tolist())
            selections.append(weights)
            return weights

        monkeypatch.setattr(greedy, "_select", spied)
        given = problem("binary", "log_loss", "plain", n_members=8)
        weights_M = BLENDERS["bagged"](given).weights_M
        assert len(bags) == greedy.BAGS
        assert {len(set(bag)) for bag in bags} == {4}
        assert len(set(map(tuple, bags))) > 5
        total_M = np.zeros(8)
        for bag, weights in zip(bags, selections, strict=True):
            total_M[bag] += weights / greedy.BAGS
        np.testing.assert_allclose(weights_M, total_M)

    def test_of_few_members_is_greedy(self) -> None:
        given = problem("binary", "log_loss", "plain", n_members=3)
        np.testing.assert_array_equal(
            BLENDERS["bagged"](given).weights_M, BLENDERS["greedy"](given).weights_M
        )


class TestConvex:
    @pytest.mark.parametrize("seed", range(3))
    def test_of_ranks_correlates_most_with_the_target(self, seed: int) -> None:
        given = problem("binary", "roc_auc", "rank", seed, n_rows=300)

        def correlation(weights_M: np.ndarray) -> float:
            return float(np.corrcoef(mix(weights_M, given.z_MNK)[:, 0], given.y)[0, 1])

        weights_M = BLENDERS["convex"](given).weights_M
        centred_NM = given.z_MNK[:, :, 0].T - given.z_MNK[:, :, 0].mean(axis=1)
        wanted_M, _ = nnls(centred_NM, given.y - given.y.mean())
        assert correlation(weights_M) == pytest.approx(correlation(wanted_M), abs=1e-5)
        others = np.random.default_rng(seed).dirichlet(np.ones(M), 300)
        assert max(map(correlation, [*np.eye(M), *others])) <= correlation(weights_M) + 1e-6

    def test_of_ranks_that_all_run_against_the_target_is_equal(self) -> None:
        y, oof_MNK = drawn("binary", 0, 3, 200, 1.5)
        given = posed("binary", "roc_auc", "rank", y, 1 - oof_MNK)
        np.testing.assert_allclose(BLENDERS["convex"](given).weights_M, equal_weights(3))

    @pytest.mark.parametrize("seed", range(5))
    def test_no_member_is_run_for_a_crumb_of_weight(self, seed: int) -> None:
        weights_M = BLENDERS["convex"](problem("regression", "rmse", "plain", seed, 12)).weights_M
        assert weights_M[weights_M > 0].min() >= 0.99 * LEAST_SHARE / 12
        assert weights_M.sum() == pytest.approx(1, abs=1e-12)
        assert (weights_M == 0).any() or seed


class TestShrunk:
    def test_leaves_members_that_are_alike_their_equal_weights(self) -> None:
        shares = []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            y = rng.normal(size=(150, 2))
            given = posed("regression", "rmse", "plain", y, y + rng.normal(size=(6, 150, 2)))
            convex_M = BLENDERS["convex"](given).weights_M - 1 / 6
            shrunk_M = BLENDERS["shrunk"](given).weights_M - 1 / 6
            shares.append(shrunk_M @ convex_M / (convex_M @ convex_M))
        assert shares == pytest.approx(np.round(shares, 1), abs=1e-6)  # tenths of the way
        assert np.mean(shares) < 0.25
        assert np.mean(np.array(shares) == 0) >= 0.5

    def test_of_equal_scores_the_nearest_to_equal_weights_is_taken(self) -> None:
        y = np.array([0, 1] * 30)
        oof_MNK = np.where(y, 0.9, 0.1)[None, :, None] * np.array([1.0, 0.8])[:, None, None]
        given = posed("binary", "roc_auc", "plain", y, oof_MNK)
        np.testing.assert_array_equal(BLENDERS["shrunk"](given).weights_M, [0.5, 0.5])


def stack_without_penalty(monkeypatch: pytest.MonkeyPatch) -> Callable[[BlendProblem], BlendFit]:
    monkeypatch.setattr("poolblend.ensembling.blenders.stack.PENALTIES", (0.0,))
    return BLENDERS["stack"]


def design(given: BlendProblem) -> np.ndarray:
    """The members' values, and for each output a column of ones: (N K, M + K)."""
    z_MNK, K = given.z_MNK, given.n_outputs
    return np.column_stack([z_MNK.reshape(len(z_MNK), -1).T, np.tile(np.eye(K), (len(given.y), 1))])


class TestStack:
    def test_without_a_penalty_is_logistic_regression(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = problem("binary", "log_loss", "logit", n_members=2, n_rows=400)

        def log_loss(coefficients: np.ndarray) -> float:
            eta_N = design(given) @ coefficients
            return float(np.mean(np.logaddexp(0, eta_N) - given.y * eta_N))

        wanted = minimize(log_loss, np.zeros(3), method="BFGS", options={"gtol": 1e-7}).x
        assert (wanted[:2] > 0).all()
        fit = stack_without_penalty(monkeypatch)(given)
        np.testing.assert_allclose(np.append(fit.weights_M, fit.intercept_K), wanted, atol=1e-3)

    def test_corrects_members_that_are_too_sure(self) -> None:
        given = problem("binary", "log_loss", "logit", n_members=3, n_rows=600)
        sure = replace(given, z_MNK=4 * given.z_MNK + 2)
        loss, sure_loss = (
            each.scorer.loss(each.y, predicted(each, BLENDERS["stack"](each)))
            for each in (given, sure)
        )
        assert sure_loss == pytest.approx(loss, abs=0.01)
        assert sure_loss < sure.loss(equal_weights(3)) - 0.1

    def test_stays_near_equal_weights_where_there_is_little_to_learn_from(self) -> None:
        """Members that are one member but for a little noise: only the penalty tells them apart."""
        rng = np.random.default_rng(0)
        y, oof_MNK = drawn("binary", 0, 1, 60, 1.5)
        logits_MNK = np.log(oof_MNK / (1 - oof_MNK)) + 1e-3 * rng.normal(size=(4, 60, 1))
        given = posed("binary", "log_loss", "logit", y, 1 / (1 + np.exp(-logits_MNK)))
        weights_M = BLENDERS["stack"](given).weights_M
        assert np.ptp(weights_M) < 0.05
