"""Spaces are undone and see no other row; mixtures are weighted sums that JSON gives back whole."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from poolblend.competition.tasks import KINDS
from poolblend.ensembling.mixture import QUANTILES, SPACES, Mixture, Space, fit_space
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


# --- mixtures ---

M, N, K = 3, 40, 2


def predictions(seed: int = 0) -> np.ndarray:
    pred_MNK = np.random.default_rng(seed).random((M, N, K)) + 0.01
    return pred_MNK / pred_MNK.sum(axis=2, keepdims=True)


def mixture(space: str, kind: str, *, shared: bool = False, cuts: bool = True) -> Mixture:
    weights_MK = np.random.default_rng(1).random((M, 1 if shared else K))
    return Mixture(
        fit_space(space, kind, predictions(1)),
        np.repeat(weights_MK, K, axis=1) if shared else weights_MK,
        np.array([0.1, -0.2]),
        np.array([0.3, 0.6]) if cuts else None,
    )


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("space", "kind"), PAIRS)
def test_a_mixture_is_the_weighted_sum_in_its_space(space: str, kind: str, shared: bool) -> None:
    given, pred_MNK = mixture(space, kind, shared=shared), predictions()
    z_MNK = given.space.forward(pred_MNK)
    mixed_NK = np.empty((N, K))
    for n, k in np.ndindex(N, K):
        mixed_NK[n, k] = sum(given.weights_MK[m, k] * z_MNK[m, n, k] for m in range(M))
    wanted_NK = given.space.inverse(mixed_NK + given.intercept_K)
    np.testing.assert_allclose(given.apply(pred_MNK), wanted_NK, rtol=1e-12)


def test_shares_are_the_weights_in_proportion_averaged_over_outputs() -> None:
    weights_MK = np.array([[1.0, 0.0], [0.5, 2.0], [0.0, 0.5]])
    shares = Mixture(Space("plain", "multilabel"), weights_MK, np.zeros(K)).share_M
    assert shares == pytest.approx([0.25, 0.625, 0.125])


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    """Any whole mixture: weights, intercept, cuts and quantiles of any size."""
    space, kind = draw(st.sampled_from(PAIRS))
    n_members, n_outputs, n_levels = (draw(st.integers(low, 4)) for low in (1, 1, 2))
    floats = st.floats(-999_999, 999_999)
    weights_MK = draw(arrays(np.float64, (n_members, n_outputs), elements=st.floats(0, 999_999)))
    intercept_K = draw(arrays(np.float64, n_outputs, elements=floats))
    cuts = draw(st.none() | arrays(np.float64, n_outputs, elements=st.floats(-1e300, 1e300)))
    quantiles = None
    if space == "rank":
        shape = (n_members, n_outputs, n_levels)
        quantiles = np.sort(draw(arrays(np.float64, shape, elements=floats)), axis=2)
    return Mixture(Space(space, kind, quantiles), weights_MK, intercept_K, cuts)


def bits(told: Mixture) -> list[bytes | None]:
    parts = [told.weights_MK, told.intercept_K, told.cuts, told.space.quantiles_MKQ]
    return [None if part is None else repr(part.shape).encode() + part.tobytes() for part in parts]


@settings(deadline=None, max_examples=200)
@given(mixtures())
def test_any_mixture_survives_its_card_bit_by_bit(made: Mixture) -> None:
    card = json.dumps(made.to_json(), indent=2, allow_nan=False)
    again = Mixture.from_json(json.loads(card), made.space.kind)
    assert bits(again) == bits(made)
    assert (again.space.name, again.space.kind) == (made.space.name, made.space.kind)
    assert json.dumps(again.to_json(), indent=2) == card


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(mixtures(), st.data())
def test_a_card_with_any_other_value_is_a_mixture_or_refused(made: Mixture, data: Any) -> None:
    told = made.to_json()
    told[data.draw(st.sampled_from(sorted(told)))] = data.draw(json_values)
    try:
        again = Mixture.from_json(told, made.space.kind)
    except (KeyError, TypeError, ValueError, OverflowError):  # what the reader of a card expects
        return
    assert np.isfinite(again.weights_MK).all()
    assert np.isfinite(again.intercept_K).all()
    assert again.intercept_K.shape == again.weights_MK.shape[1:]


@pytest.mark.parametrize(
    "change",
    [
        {"space": "logit"},
        {"space": "nowhere"},
        {"weights": [1.0, 2.0, 3.0]},
        {"weights": [[1.0, float("nan")], [0.0, 0.0], [0.0, 0.0]]},
        {"weights": [[1.0, -0.1], [0.0, 0.0], [0.0, 0.0]]},
        {"weights": [[1.0, 0.5], [0.0]]},
        {"intercept": [0.0]},
        {"intercept": [0.0, float("inf")]},
        {"cuts": [float("nan")]},
        {"quantiles": None},
        {"quantiles": [[[0.0, 1.0]]]},
    ],
    ids=str,
)
def test_json_of_no_mixture_is_refused(change: dict[str, Any]) -> None:
    told = mixture("rank", "ordinal").to_json()
    Mixture.from_json(told, "ordinal")
    with pytest.raises(ValueError, match="not a valid mixture|inhomogeneous"):
        Mixture.from_json({**told, **change}, "ordinal")
