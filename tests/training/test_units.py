"""Values are learned alike, whatever they are measured in."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from poolblend.config.training import Train
from poolblend.loading.models import fit_options
from poolblend.training.fit import Fit
from poolblend.training.objectives import choose_objective
from poolblend.training.prediction import predict
from poolblend.training.state import State
from poolblend.training.units import Unit

VALUES = arrays(np.float64, (5, 2), elements=st.floats(-1e6, 1e6))


@given(VALUES)
def test_what_is_counted_is_restored_and_a_card_can_hold_the_unit(values_NL):
    unit = Unit.of(values_NL, np.ones((5, 1)))
    counted = unit.count(values_NL)
    assert np.isfinite(counted).all()
    again = Unit.from_json(json.loads(json.dumps(unit.to_json())))
    np.testing.assert_allclose(again.restore(counted), values_NL, atol=1e-9)
    np.testing.assert_array_equal(again.restore(counted), unit.restore(counted))


def test_counted_values_have_mean_0_and_spread_1_and_constant_ones_stay():
    values_NL = np.random.default_rng(0).normal([3e7, 1e-5, 0.1], [10.0, 1e-7, 0.0], (1000, 3))
    counted = Unit.of(values_NL, np.ones((1000, 1))).count(values_NL)
    np.testing.assert_allclose(counted.mean(axis=0), 0, atol=1e-8)
    np.testing.assert_allclose(counted.std(axis=0), [1, 1, 0], atol=1e-8)


@pytest.mark.parametrize("width", [1, 2])
def test_a_value_of_weight_two_counts_twice(width):
    values_NL = np.array([[1.0, 5.0], [2.0, 9.0], [7.0, 6.0]])
    weights = np.array([[2.0, 2.0], [1.0, 1.0], [1.0, 1.0]])[:, :width]
    given_ = Unit.of(values_NL, weights)
    twice = Unit.of(values_NL[[0, 0, 1, 2]], np.ones((4, 1)))
    np.testing.assert_allclose(given_.mean_L, twice.mean_L)
    np.testing.assert_allclose(given_.spread_L, twice.spread_L)


@pytest.fixture
def learned(build, data):
    """Trains on values; the predictions of all rows."""
    encoded, y = data
    values = y + 0.1 * np.arange(len(y)) / len(y)

    def learned(scale, shift, loss):
        fit = begun(build(), encoded, values * scale + shift, loss)
        for _ in fit.run():
            pass
        with fit.evaluated() as kept:
            return predict(
                kept,
                encoded,
                np.arange(len(y)),
                fit.objective,
                batch_tokens=256,
                precision="fp32",
            )

    return learned


def begun(model, encoded, values, loss="mse"):
    objective = choose_objective("regression", loss)
    settings = Train(epochs=4, batch_size=8, lr=3e-3, head_lr=3e-2, precision="fp32")
    targets = objective.targets(values)
    rows = np.arange(len(values))
    return Fit(model, encoded, rows, targets, objective, fit_options(settings, seed=1))


def test_a_training_that_counts_otherwise_cannot_be_gone_on_with(build, data):
    encoded, y = data
    state = begun(build(), encoded, y).state()
    begun(build(), encoded, y).restore(state)
    with pytest.raises(ValueError, match="in another unit"):
        begun(build(), encoded, 2 * y).restore(state)
    with pytest.raises(ValueError, match="in another unit"):  # as before there were any
        begun(build(), encoded, y).restore(State(state.tensors, state.rest | {"unit": None}))


@pytest.mark.parametrize("loss", ["smooth_l1", "mse"])
def test_values_in_another_unit_give_the_same_predictions_in_it(learned, loss):
    plain = learned(1, 0, loss)
    assert plain.std() > 0.2  # it has learned something
    np.testing.assert_array_equal(learned(2.0**20, 0, loss), plain * 2**20)
    np.testing.assert_array_equal(learned(2.0**-20, 0, loss), plain * 2**-20)
    np.testing.assert_allclose(learned(1e-3, 1e6, loss), plain * 1e-3 + 1e6, atol=1e-5, rtol=0)
