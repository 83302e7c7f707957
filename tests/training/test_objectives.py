import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poolblend.errors import UserError
from poolblend.training.objectives import FITTING, OBJECTIVES, choose_objective

TARGETS = {
    "cross_entropy": np.array([0, 2, 1, 2, 2, 2]),
    "binary_cross_entropy": np.array([[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 0, 0]]),
    "smooth_l1": np.array([[1.0, 5.0, -2.0], [3.0, 5.5, 0.0], [2.0, 6.0, 1.0]]),
    "mse": np.array([[1.0, 5.0, -2.0], [3.0, 5.5, 0.0], [2.0, 6.0, 1.0]]),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_one_number_per_row_and_the_references_mean(name):
    y = torch.from_numpy(TARGETS[name])
    logits = torch.randn(len(y), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reference = {
        "cross_entropy": torch.nn.CrossEntropyLoss(),
        "binary_cross_entropy": lambda a, b: torch.nn.BCEWithLogitsLoss()(a, b.double()),
        "smooth_l1": torch.nn.SmoothL1Loss(),
        "mse": torch.nn.MSELoss(),
    }[name]
    losses = OBJECTIVES[name].loss(logits, y)
    assert losses.shape == (len(y),)
    torch.testing.assert_close(losses.mean(), reference(logits, y))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_first_bias_predicts_the_base_rates(name):
    y = TARGETS[name]
    bias = OBJECTIVES[name].prior(y, 3)
    predicted = OBJECTIVES[name].activation(torch.from_numpy(bias)[None])[0].numpy()
    if name == "cross_entropy":
        expected = (np.bincount(y, minlength=3) + 1) / (len(y) + 3)
    elif name == "binary_cross_entropy":
        expected = (y.sum(axis=0) + 1) / (len(y) + 2)
    else:
        expected = y.mean(axis=0)
    np.testing.assert_allclose(predicted, expected)
    assert np.isfinite(bias).all()


def test_a_binary_target_is_one_column_of_logits():
    objective = choose_objective("binary")
    y = torch.tensor([0, 1, 1])
    assert objective.loss(torch.zeros(3, 1), y).shape == (3,)
    assert objective.prior(y.numpy(), 1).shape == (1,)


@pytest.mark.parametrize("loss", FITTING["ordinal"])
def test_an_ordinal_target_is_learnt_as_a_value(loss):
    """What a task gives a model to learn from fits the loss, whose start is the mean value."""
    y_N1 = np.array([[1.0], [8.0], [2.0], [1.0]])
    objective = choose_objective("ordinal", loss)
    values = torch.tensor([[2.0], [7.0], [2.0], [4.0]])
    losses = objective.loss(values, torch.from_numpy(y_N1))
    reference = {"smooth_l1": [0.5, 0.5, 0, 2.5], "mse": [1, 1, 0, 9]}[loss]
    torch.testing.assert_close(losses, torch.tensor(reference, dtype=losses.dtype))
    assert objective.prior(y_N1, 1).tolist() == [3]
    assert objective.activation(values) is values


@given(st.sampled_from([(kind, loss) for kind in FITTING for loss in OBJECTIVES]))
def test_a_loss_fits_its_tasks_and_is_refused_by_others(case):
    kind, loss = case
    if loss in FITTING[kind]:
        assert choose_objective(kind, loss) is OBJECTIVES[loss]
    else:
        with pytest.raises(
            UserError, match=f"train.loss: {loss} does not fit a {kind} task; choose"
        ):
            choose_objective(kind, loss)
