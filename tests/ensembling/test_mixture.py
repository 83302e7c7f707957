"""A mixture is a weighted sum in its space, and the blend card's JSON gives it back whole."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from poolblend.competition.tasks import KINDS
from poolblend.ensembling.mixture import Mixture
from poolblend.ensembling.spaces import SPACES, Space, fit_space

M, N, K = 3, 40, 2
PAIRS = [(space, kind) for kind in KINDS for space in SPACES[kind]]


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


def test_rows_are_mixed_one_by_one() -> None:
    given, pred_MNK = mixture("rank", "binary"), predictions()
    np.testing.assert_allclose(given.apply(pred_MNK)[5:9], given.apply(pred_MNK[:, 5:9]))


def test_shares_are_the_weights_in_proportion_averaged_over_outputs() -> None:
    weights_MK = np.array([[1.0, 0.0], [0.5, 2.0], [0.0, 0.5]])
    shares = Mixture(Space("plain", "multilabel"), weights_MK, np.zeros(K)).share_M
    assert shares == pytest.approx([0.25, 0.625, 0.125])


def test_a_blend_of_nothing_has_no_shares() -> None:
    nothing = Mixture(Space("plain", "multilabel"), np.zeros((M, K)), np.zeros(K))
    np.testing.assert_array_equal(nothing.share_M, np.zeros(M))


@pytest.mark.parametrize("cuts", [True, False])
@pytest.mark.parametrize(("space", "kind"), PAIRS)
def test_json_gives_back_the_very_mixture(space: str, kind: str, cuts: bool) -> None:
    given = mixture(space, kind, cuts=cuts)
    again = Mixture.from_json(json.loads(json.dumps(given.to_json())), kind)
    np.testing.assert_array_equal(again.apply(predictions()), given.apply(predictions()))
    np.testing.assert_array_equal(again.weights_MK, given.weights_MK)
    if cuts:
        np.testing.assert_array_equal(again.cuts, given.cuts)
    else:
        assert again.cuts is None


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
    with pytest.raises(ValueError, match="no mixture|inhomogeneous"):
        Mixture.from_json({**told, **change}, "ordinal")
