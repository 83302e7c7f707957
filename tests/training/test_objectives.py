import numpy as np
import pytest
import torch
import torch.nn.functional as F

from poolblend.errors import UserError
from poolblend.training.objectives import LOSSES, choose_objective, resolve_loss
from poolblend.training.options import Train
from poolblend.training.recipes.labels import LabelSmoothing

SCALE = (1, 2, 5)  # of an ordinal task: steps of unequal size
ENCODED = {
    "binary": np.array([0, 1, 1, 0, 1, 1]),
    "multiclass": np.array([0, 2, 1, 2, 2, 2]),
    "multilabel": np.array([[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 0, 0]]),
    "regression": np.array([[1.0, 5.0, -2.0], [3.0, 5.5, 0.0], [2.0, 6.0, 1.0]]),
    "ordinal": np.array([0, 2, 1, 2, 0]),
}
N_OUTPUTS = {"binary": 1, "multiclass": 3, "multilabel": 3, "regression": 3, "ordinal": 1}
CASES = [(kind, loss) for loss in LOSSES for kind in LOSSES[loss].tasks]


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
    losses = objective.loss(logits, targets)
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
        given = objective.fitted(targets, weights).unscale(bias[None])[0]
    np.testing.assert_allclose(given, expected)


def first_bias(objective, targets, weights):
    """What the head's bias is before the first step: 0, unless the objective has better."""
    prior = objective.prior(targets, weights)
    return np.zeros(objective.n_logits) if prior is None else prior


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


@pytest.mark.parametrize("loss", [loss for kind, loss in CASES if kind == "ordinal"])
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


def test_every_task_has_one_default_and_a_loss_that_does_not_fit_is_refused():
    for kind in ENCODED:
        (default,) = (name for name in LOSSES if kind in LOSSES[name].default_of)
        assert resolve_loss(kind, "auto") == default
        for name in LOSSES:
            if (kind, name) in CASES:
                assert resolve_loss(kind, name) == name
            else:
                refusal = f"train.loss: {name} does not fit a {kind} task; choose .*{default}"
                with pytest.raises(UserError, match=refusal):
                    choose_objective(kind, name)


@pytest.mark.parametrize(("kind", "loss"), CASES)
def test_smoothed_labels_move_the_best_prediction_and_values_cannot_be_smoothed(kind, loss):
    recipe = LabelSmoothing(label_smoothing=0.1)
    if LOSSES[loss].learns_values:
        with pytest.raises(UserError, match=r"train.label_smoothing is 0.1, but"):
            recipe.check(None, Train(loss=loss), kind)
        return
    recipe.check(None, Train(loss=loss), kind)
    objective = of(kind, loss)
    sure = torch.from_numpy(objective.targets(ENCODED[kind]))
    smooth = recipe.targets(sure, objective)
    logits = torch.log(sure) if loss == "cross_entropy" else torch.logit(sure)
    logits = logits.clamp(-20, 20)
    assert objective.loss(logits, sure).max() < 1e-6
    assert objective.loss(logits, smooth).mean() > 0.5
    if loss == "cross_entropy":
        expected = F.cross_entropy(
            logits, sure.argmax(dim=1), reduction="none", label_smoothing=0.1
        )
        torch.testing.assert_close(objective.loss(logits, smooth)[:, 0], expected)
