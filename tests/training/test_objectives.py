import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from poolblend.errors import UserError
from poolblend.training.objectives import FITTING, choose_objective, resolve_loss

SCALE = (1, 2, 5)  # of an ordinal task: steps of unequal size
ENCODED = {
    "binary": np.array([0, 1, 1, 0, 1, 1]),
    "multiclass": np.array([0, 2, 1, 2, 2, 2]),
    "multilabel": np.array([[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 0, 0]]),
    "regression": np.array([[1.0, 5.0, -2.0], [3.0, 5.5, 0.0], [2.0, 6.0, 1.0]]),
    "ordinal": np.array([0, 2, 1, 2, 0]),
}
N_OUTPUTS = {"binary": 1, "multiclass": 3, "multilabel": 3, "regression": 3, "ordinal": 1}
CASES = [(kind, loss) for kind, losses in FITTING.items() for loss in losses]


def of(kind, loss):
    return choose_objective(kind, loss, n_outputs=N_OUTPUTS[kind], classes=SCALE)


def random_logits(n_rows, n_logits):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n_rows, n_logits, generator=generator, dtype=torch.float64)


def reference(loss, logits, targets):
    """The mean loss as torch's own modules have it."""
    if loss == "cross_entropy":
        return torch.nn.CrossEntropyLoss()(logits, targets.argmax(dim=1))
    if loss in ("binary_cross_entropy", "cumulative"):
        return torch.nn.BCEWithLogitsLoss()(logits, targets)
    return {"smooth_l1": torch.nn.SmoothL1Loss(), "mse": torch.nn.MSELoss()}[loss](logits, targets)


@pytest.mark.parametrize(("kind", "loss"), CASES)
def test_the_loss_is_the_references_and_its_targets_are_one_per_logit(kind, loss):
    objective = of(kind, loss)
    targets = torch.from_numpy(objective.targets(ENCODED[kind]))
    logits = random_logits(len(targets), objective.n_logits)
    assert targets.shape == logits.shape
    losses = objective.loss(logits, targets, 0.0)
    assert losses.shape[0] == len(targets)
    torch.testing.assert_close(losses.mean(), reference(loss, logits, targets))


@pytest.mark.parametrize(("kind", "loss"), CASES)
def test_the_first_bias_predicts_the_base_rates(kind, loss):
    objective = of(kind, loss)
    targets = objective.targets(ENCODED[kind])
    weights = np.ones((len(targets), 1))
    bias = first_bias(objective, targets, weights)
    assert bias.shape == (objective.n_logits,)
    if loss == "cross_entropy":
        expected, given = (targets.sum(axis=0) + 1) / (len(targets) + 3), softmax(bias)
    elif loss in ("binary_cross_entropy", "cumulative"):
        expected, given = (targets.sum(axis=0) + 1) / (len(targets) + 2), 1 / (1 + np.exp(-bias))
    else:
        expected = targets.mean(axis=0)
        given = objective.fitted(targets, weights).restored(bias[None])[0]
    np.testing.assert_allclose(given, expected)


def first_bias(objective, targets, weights):
    """What the head's bias is before the first step: 0, unless the objective has better."""
    if objective.prior is None:
        return np.zeros(objective.n_logits)
    return objective.prior(targets, weights)


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


@pytest.mark.parametrize(
    ("kind", "loss"), [case for case in CASES if case[1] not in ("smooth_l1", "mse")]
)
def test_a_row_of_weight_two_counts_twice_in_the_first_bias(kind, loss):
    objective = of(kind, loss)
    targets = objective.targets(ENCODED[kind])
    weights = np.ones((len(targets), 1))
    weights[0] = 2
    twice = np.concatenate([targets, targets[:1]])
    np.testing.assert_allclose(
        objective.prior(targets, weights), objective.prior(twice, np.ones((len(twice), 1)))
    )


@pytest.mark.parametrize(("kind", "loss"), CASES)
def test_predictions_are_one_per_output_and_soft_labels_are_learnt_from(kind, loss):
    """Targets made of predictions that are sure are those made of the labels."""
    objective = of(kind, loss)
    logits = random_logits(4, objective.n_logits).float()
    assert objective.activation(logits).shape == (4, N_OUTPUTS[kind])
    y = ENCODED[kind]
    sure = np.asarray(SCALE, float)[y][:, None] if kind == "ordinal" else objective.targets(y)
    np.testing.assert_allclose(objective.from_predictions(sure), objective.targets(y))


@pytest.mark.parametrize("loss", FITTING["ordinal"])
def test_an_ordinal_value_learnt_perfectly_is_predicted_again(loss):
    """What a loss is least for, given a value between two classes, predicts that value."""
    objective = of("ordinal", loss)
    value = np.array([[1.0], [1.25], [3.5], [5.0]])
    targets = torch.from_numpy(objective.from_predictions(value))
    logits = targets.log() if loss == "cross_entropy" else torch.logit(targets)
    if loss in ("smooth_l1", "mse"):
        logits = targets
    np.testing.assert_allclose(objective.activation(logits), value)


@pytest.mark.parametrize(("kind", "loss"), CASES)
def test_the_distance_is_zero_where_two_passes_agree_and_the_same_both_ways(kind, loss):
    objective = of(kind, loss)
    a = random_logits(6, objective.n_logits)
    b = a.flip(0)
    assert objective.distance(a, a).abs().max() < 1e-12
    assert (objective.distance(a, b) > 1e-3).any()
    torch.testing.assert_close(objective.distance(a, b), objective.distance(b, a))


def test_the_distance_of_two_softmaxes_is_half_the_divergence_both_ways():
    objective = of("multiclass", "cross_entropy")
    a, b = random_logits(5, 3), random_logits(5, 3).flip(0)
    p, q = a.log_softmax(1), b.log_softmax(1)
    both = F.kl_div(p, q, log_target=True, reduction="none").sum(1)
    both = both + F.kl_div(q, p, log_target=True, reduction="none").sum(1)
    torch.testing.assert_close(objective.distance(a, b), both / 2)


def test_smoothing_moves_the_best_prediction_away_from_certainty():
    for kind, sure, best in (("binary", 20.0, np.log(0.95 / 0.05)), ("multiclass", 20.0, None)):
        objective = of(kind, "auto")
        targets = torch.from_numpy(objective.targets(np.array([1])))
        logits = torch.zeros(1, objective.n_logits, dtype=torch.float64)
        logits[0, -1 if kind == "binary" else 1] = sure
        plain, smooth = (objective.loss(logits, targets, s).item() for s in (0.0, 0.1))
        assert plain < 1e-6
        assert smooth > 0.5
        if best is not None:
            at_best = objective.loss(torch.tensor([[best]]), targets, 0.1)
            near = [objective.loss(torch.tensor([[best + d]]), targets, 0.1) for d in (-0.1, 0.1)]
            assert all(at_best < other for other in near)


@given(st.sampled_from([(k, name) for k in FITTING for name in {n for _, n in CASES}]))
def test_a_loss_fits_its_tasks_and_is_refused_by_others(case):
    kind, loss = case
    if loss in FITTING[kind]:
        assert resolve_loss(kind, loss) == loss
    else:
        with pytest.raises(
            UserError, match=f"train.loss: {loss} does not fit a {kind} task; choose"
        ):
            choose_objective(kind, loss)


@pytest.mark.parametrize(("kind", "loss"), CASES)
def test_values_cannot_be_smoothed(kind, loss):
    if loss in ("smooth_l1", "mse"):
        with pytest.raises(UserError, match=r"train.label_smoothing is 0.1, but"):
            resolve_loss(kind, loss, smoothing=0.1)
    else:
        assert resolve_loss(kind, loss, smoothing=0.1) == loss
