"""Values are learned alike, whatever they are measured in."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from poolblend.training.objectives import choose_objective
from poolblend.training.prediction import predict
from poolblend.training.target_scaler import TargetScaler

VALUES = arrays(np.float64, (5, 2), elements=st.floats(-1e6, 1e6))


@given(VALUES)
def test_the_inverse_transform_gives_the_values_back_and_a_card_can_hold_the_scaler(values_NL):
    scaler = TargetScaler.fit(values_NL, np.ones((5, 1)))
    scaled = scaler.transform(values_NL)
    assert np.isfinite(scaled).all()
    again = TargetScaler.from_json(json.loads(json.dumps(scaler.to_json())))
    np.testing.assert_allclose(again.inverse_transform(scaled), values_NL, atol=1e-9)
    np.testing.assert_array_equal(again.inverse_transform(scaled), scaler.inverse_transform(scaled))


def test_scaled_values_have_mean_0_and_spread_1_and_constant_ones_stay():
    values_NL = np.random.default_rng(0).normal([3e7, 1e-5, 0.1], [10.0, 1e-7, 0.0], (1000, 3))
    scaled = TargetScaler.fit(values_NL, np.ones((1000, 1))).transform(values_NL)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(scaled.std(axis=0), [1, 1, 0], atol=1e-8)


@pytest.mark.parametrize("width", [1, 2])
def test_a_value_of_weight_two_counts_twice(width):
    values_NL = np.array([[1.0, 5.0], [2.0, 9.0], [7.0, 6.0]])
    weights = np.array([[2.0, 2.0], [1.0, 1.0], [1.0, 1.0]])[:, :width]
    weighted = TargetScaler.fit(values_NL, weights)
    twice = TargetScaler.fit(values_NL[[0, 0, 1, 2]], np.ones((4, 1)))
    np.testing.assert_allclose(weighted.mean_L, twice.mean_L)
    np.testing.assert_allclose(weighted.spread_L, twice.spread_L)


@pytest.mark.parametrize("loss", ["smooth_l1", "mse"])
def test_values_on_another_scale_give_the_same_predictions_on_it(build, data, fitting, loss):
    encoded, y = data
    rows = np.arange(len(y))
    objective = choose_objective("regression", loss)
    values = y + 0.1 * rows / len(y)

    def begun(scale, shift=0.0):
        return fitting(build(), (encoded, scale * values + shift), objective=objective, lr=3e-3)

    def learned(*scale):
        fit = begun(*scale)
        list(fit.run())
        with fit.evaluated() as model:
            return predict(model, encoded, rows, fit.objective, batch_tokens=256, precision="fp32")

    plain = learned(1.0)
    assert plain.std() > 0.1  # it has learned something
    np.testing.assert_array_equal(learned(2.0**20), plain * 2**20)
    np.testing.assert_allclose(learned(1e-3, 1e6), plain * 1e-3 + 1e6, atol=1e-5, rtol=0)
    state = begun(1.0).state()
    begun(1.0).restore(state)
    with pytest.raises(ValueError, match="targets were scaled differently"):
        begun(2.0).restore(state)
