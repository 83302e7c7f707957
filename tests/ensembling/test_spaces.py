"""Laws of spaces: a change of scale that is undone, and that no other row has a say in."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from poolblend.competition.tasks import KINDS
from poolblend.ensembling.mixture import Mixture
from poolblend.ensembling.problem import mix
from poolblend.ensembling.spaces import QUANTILES, SPACES, Space, fit_space
from poolblend.errors import UserError

PAIRS = [(space, kind) for kind in KINDS for space in SPACES[kind]]


def members(kind: str, seed: int, M: int = 1, N: int = 80, K: int = 3) -> np.ndarray:
    """Predictions (M, N, K) as a task of `kind` has them, ties among them."""
    rng = np.random.default_rng(seed)
    if kind in ("regression", "ordinal"):
        return rng.normal(3, 2, size=(M, N, K)).round(1)
    pred_MNK = rng.random((M, N, K)).round(2)
    if kind == "multiclass":
        pred_MNK += 0.01
        pred_MNK /= pred_MNK.sum(axis=2, keepdims=True)
    return pred_MNK


def through(space: Space, pred_MNK: np.ndarray) -> np.ndarray:
    """The members' mean, taken in the space."""
    return space.inverse(space.forward(pred_MNK).mean(axis=0))


def rank(values_N: np.ndarray, fitted_on_N: np.ndarray | None = None) -> np.ndarray:
    fitted_on_N = values_N if fitted_on_N is None else fitted_on_N
    space = fit_space("rank", "regression", fitted_on_N[None, :, None])
    return space.forward(values_N[None, :, None])[0, :, 0]


def test_every_kind_has_spaces_and_plain_is_the_first() -> None:
    assert set(SPACES) == set(KINDS)
    assert all(names[0] == "plain" for names in SPACES.values())


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@pytest.mark.parametrize("seed", range(3))
def test_one_member_comes_back_as_itself(name: str, kind: str, seed: int) -> None:
    pred_MNK = members(kind, seed)
    found_NK = through(fit_space(name, kind, pred_MNK), pred_MNK)
    if name == "plain":
        np.testing.assert_array_equal(found_NK, pred_MNK[0])
    elif name == "logit":
        np.testing.assert_allclose(found_NK, pred_MNK[0], rtol=0, atol=2e-7)
    else:
        for k in range(3):
            np.testing.assert_array_equal(rankdata(found_NK[:, k]), rankdata(pred_MNK[0, :, k]))


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_members_that_agree_are_one_member(name: str, kind: str) -> None:
    pred_MNK = members(kind, 0)
    space = fit_space(name, kind, np.repeat(pred_MNK, 3, axis=0))
    thrice_NK = through(space, np.repeat(pred_MNK, 3, axis=0))
    once_NK = through(fit_space(name, kind, pred_MNK), pred_MNK)
    np.testing.assert_allclose(thrice_NK, once_NK, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["binary", "multilabel", "multiclass"])
@pytest.mark.parametrize("name", ["plain", "logit"])
def test_a_blend_of_probabilities_is_of_probabilities(name: str, kind: str) -> None:
    pred_MNK = members(kind, 1, M=4)
    pred_MNK[0, 0] = np.eye(3)[0]
    found_NK = through(fit_space(name, kind, pred_MNK), pred_MNK)
    assert ((found_NK >= 0) & (found_NK <= 1)).all()
    if kind == "multiclass":
        np.testing.assert_allclose(found_NK.sum(axis=1), 1, rtol=1e-12)


def test_logits_are_log_odds_and_those_of_classes_log_probabilities() -> None:
    decision = fit_space("logit", "binary", np.zeros((1, 1, 1)))
    assert decision.forward(np.array([[[0.8]]])) == pytest.approx(np.log(4))
    assert decision.inverse(np.array([[np.log(4)]])) == pytest.approx(0.8)
    classes = fit_space("logit", "multiclass", np.zeros((1, 1, 2)))
    assert classes.forward(np.array([[[0.8, 0.2]]])) == pytest.approx(np.log([[[0.8, 0.2]]]))
    assert classes.inverse(np.log([[4.0, 1.0]])) == pytest.approx(np.array([[0.8, 0.2]]))


def test_a_sure_member_counts_for_more_in_logits() -> None:
    pred_MNK = np.array([0.99, 0.4])[:, None, None]
    plain, logit = (
        through(fit_space(name, "binary", pred_MNK), pred_MNK) for name in ("plain", "logit")
    )
    assert logit > plain > 0.5


def test_certain_predictions_have_finite_logits() -> None:
    certain_MNK = np.array([0.0, 1.0])[None, :, None]
    for kind in ("binary", "multiclass"):
        assert np.isfinite(fit_space("logit", kind, certain_MNK).forward(certain_MNK)).all()


class TestRanks:
    @settings(deadline=None)
    @given(arrays(np.float64, st.integers(2, 40), elements=st.integers(0, 8).map(float)))
    def test_rise_with_the_values_and_are_equal_where_those_are(self, values_N: np.ndarray) -> None:
        rank_N = rank(values_N)
        assert ((rank_N >= 0) & (rank_N <= 1)).all()
        np.testing.assert_array_equal(rankdata(rank_N), rankdata(values_N))

    def test_of_ties_lie_in_their_middle(self) -> None:
        values_N = np.repeat([0.2, 0.5, 0.7, 0.9], [256, 512, 128, 129])
        middle_N = (rankdata(values_N) - 0.5) / len(values_N)
        np.testing.assert_allclose(rank(values_N), middle_N, atol=1 / QUANTILES)

    def test_of_a_constant_member_are_all_one_half(self) -> None:
        constant_N = np.full(30, 0.7)
        np.testing.assert_array_equal(rank(constant_N), np.full(30, 0.5))
        beside_N = rank(np.array([0.6, 0.7, 0.8]), constant_N)
        np.testing.assert_allclose(beside_N, [0, 0.5, 1], atol=1 / QUANTILES)

    def test_are_the_share_of_the_fitted_rows_below(self) -> None:
        values_N = np.random.default_rng(0).normal(size=1000)
        middle_N = (rankdata(values_N) - 0.5) / 1000
        np.testing.assert_allclose(rank(values_N), middle_N, atol=1 / QUANTILES)

    @pytest.mark.parametrize("increasing", [np.exp, np.cbrt, lambda v: 5 * v - 100])
    def test_are_those_of_any_increasing_transformation(self, increasing: object) -> None:
        for n_rows, within in [(QUANTILES, 1e-9), (700, 1 / QUANTILES)]:
            values_N = np.random.default_rng(n_rows).normal(size=n_rows)
            np.testing.assert_allclose(rank(increasing(values_N)), rank(values_N), atol=within)

    def test_do_not_depend_on_the_rows_predicted_beside(self) -> None:
        rng = np.random.default_rng(0)
        fitted_MNK, new_MNK = rng.random((2, 300, 2)), rng.random((2, 50, 2))
        space = fit_space("rank", "multilabel", fitted_MNK)
        together = space.forward(new_MNK)
        for n in (0, 17, 49):
            np.testing.assert_array_equal(space.forward(new_MNK[:, [n]])[:, 0], together[:, n])

    def test_beyond_the_fitted_rows_keep_their_order_near_the_ends(self) -> None:
        """Another fold's model may predict on another scale; tied there, it loses its order."""
        rank_N = rank(np.array([-9e9, -9.0, -1e-6, 0.0, 1.0, 1 + 1e-6, 9.0]), np.linspace(0, 1, 50))
        assert (np.diff(rank_N) > 0).all()
        assert rank_N[0] >= -1 / QUANTILES
        assert rank_N[-1] <= 1 + 1 / QUANTILES
        np.testing.assert_array_equal(rank_N[3:5], [0, 1])

    def test_bring_members_of_different_scales_together(self) -> None:
        signal_N = np.random.default_rng(0).normal(size=QUANTILES)
        pred_MNK = np.stack([signal_N, 1000 * signal_N + 5])[:, :, None]
        rank_MNK = fit_space("rank", "regression", pred_MNK).forward(pred_MNK)
        np.testing.assert_allclose(rank_MNK[0], rank_MNK[1], atol=1e-9)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_predictions_are_left_as_they_were(name: str, kind: str) -> None:
    pred_MNK = members(kind, 0, M=2)
    kept = pred_MNK.copy()
    space = fit_space(name, kind, pred_MNK)
    mixture = Mixture(space, np.full((2, 3), 0.5), np.zeros(3))
    once = mixture.apply(pred_MNK)
    np.testing.assert_array_equal(mixture.apply(pred_MNK), once)
    np.testing.assert_array_equal(pred_MNK, kept)
    np.testing.assert_allclose(
        once, space.inverse(mix(np.full(2, 0.5), space.forward(pred_MNK))), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [("logit", "regression"), ("rank", "multiclass"), ("logit", "ordinal"), ("plane", "binary")],
)
def test_a_space_that_does_not_fit_the_task_is_refused_with_those_that_do(
    name: str, kind: str
) -> None:
    known = ", ".join(sorted(["auto", *SPACES[kind]]))
    hint = " did you mean 'plain'? known: " if name == "plane" else " known: "
    message = f"unknown blend.space '{name}' for a {kind} task;{hint}{known}"
    with pytest.raises(UserError, match=re.escape(message)):
        fit_space(name, kind, np.zeros((1, 2, 1)))
