"""What the recipes do: each is its formula."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from poolblend.errors import UserError
from poolblend.training.batches import collate
from poolblend.training.recipes import RECIPES
from poolblend.training.recipes.adversarial import Awp, Fgm, moved
from poolblend.training.recipes.averages import move_average
from rig.trainings import Killed, weights

bce = torch.nn.functional.binary_cross_entropy_with_logits


@pytest.fixture
def loss(data, without_dropout):
    """The loss of a model on 16 rows, without dropout from here on."""

    def loss(model):
        without_dropout(model).train()
        y = torch.tensor(data[1][:16]).float()[:, None]
        return bce(model(collate(data[0], np.arange(16))), y)

    return loss


@contextmanager
def pushed(model, recipe):
    """The model as the recipe's second pass sees it."""
    seen = {}

    def backward():
        seen.update({name: p.detach().clone() for name, p in model.named_parameters()})

    recipe.extra_pass(model, backward, lambda: None)
    yield seen


@pytest.mark.parametrize("recipe", [Fgm(fgm=0.3), Awp(awp=0.01)])
def test_adversarial_weights_are_moved_along_their_gradient_and_restored(build, loss, recipe):
    model = build(dropout=0)
    plain = loss(model)
    plain.backward()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = []
    with torch.no_grad():
        recipe.extra_pass(model, lambda: losses.append(loss(model)), lambda: None)
    assert losses[0] > plain
    with pushed(model, recipe) as seen:
        moved_names = {name for name in seen if not torch.equal(seen[name], before[name])}
    words = "encoder.embeddings.word_embeddings.weight"
    matrices = {n for n, p in model.encoder.named_parameters(prefix="encoder") if p.ndim > 1}
    assert moved_names == ({words} if recipe.name == "fgm" else matrices)
    step, gradient = seen[words] - before[words], dict(model.named_parameters())[words].grad
    length = 0.3 if recipe.name == "fgm" else 0.01 * before[words].norm()
    torch.testing.assert_close(step.norm(), torch.as_tensor(length), rtol=1e-3, atol=0)
    torch.testing.assert_close(step / step.norm(), gradient / gradient.norm(), atol=1e-3, rtol=0)
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])


def test_moved_weights_are_restored_whatever_ends_the_pass_and_stay_where_gradients_overflow():
    weight = torch.nn.Parameter(torch.randn(3, 4))
    before = weight.detach().clone()
    weight.grad = torch.ones(3, 4)
    with pytest.raises(Killed), moved([weight], [torch.tensor(0.3)]):
        assert not torch.equal(weight, before)
        raise Killed
    assert torch.equal(weight, before)
    weight.grad[0, 0] = torch.inf
    with moved([weight], [torch.tensor(0.3)]):
        assert torch.equal(weight, before)


def test_embeddings_that_do_not_learn_cannot_be_moved(build):
    with pytest.raises(UserError, match=r"train\.fgm: the word embeddings do not learn"):
        Fgm(fgm=0.3).extra_pass(build(), lambda: None, lambda: None)


@pytest.mark.parametrize("changes", [{"fgm": 0.5}, {"awp": 0.05}])
def test_fgm_adds_the_adversarial_gradient_and_awp_takes_it_alone(
    build, data, fitting, without_dropout, changes
):
    model = without_dropout(build(dropout=0))
    fit = fitting(model, data, batch_size=64, adversarial_start=0.5, clip=None, **changes)
    (recipe,) = fit.recipes
    found = {}
    for step in (0, fit.n_steps - 1):  # the first is before `adversarial_start`
        fit._gradients.clear()
        fit._gradients.of_step(fit._steps[0][0], step, fit.n_steps)
        found[step] = gradient(model)
    plain, adversarial = found.values()
    fit._gradients.clear()
    fit._gradients.of_step(fit._steps[0][0], 0, fit.n_steps)

    def alone():
        fit._gradients.clear()
        fit._gradients.of_step(fit._steps[0][0], 0, fit.n_steps)

    recipe.extra_pass(model, alone, lambda: None)
    there = gradient(model)
    assert not torch.allclose(there, plain, rtol=1e-3)
    expected = plain + there if "fgm" in changes else there
    torch.testing.assert_close(adversarial, expected, rtol=1e-4, atol=1e-6)


def gradient(model):
    return torch.cat([p.grad.flatten().clone() for p in model.parameters()])


def test_memory_that_ends_in_the_adversarial_pass_leaves_no_moved_weights(
    build, data, fitting, without_dropout, monkeypatch
):
    """The step is repeated in halved batches, and is that of a whole batch."""
    ends = []
    for broken in (False, True):
        model = without_dropout(build(dropout=0))
        fit = fitting(model, data, batch_size=64, epochs=1, optimizer="sgd", awp=0.05)
        if broken:
            add_up, calls = fit._gradients._add_up, []

            def once(parts, add_up=add_up, calls=calls):
                calls.append(len(parts))
                if calls == [1, 1]:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return add_up(parts)

            monkeypatch.setattr(fit._gradients, "_add_up", once)
        list(fit.run())
        ends.append(weights(model))
    assert fit.pieces == 2
    torch.testing.assert_close(*ends, rtol=0, atol=1e-5)


def test_the_moving_average_is_its_formula_and_is_what_is_kept(build, data, fitting):
    fit = fitting(build(), data, ema=0.95)
    seen = []
    list(fit.run(after_step=lambda: seen.append(weights(fit.model).clone())))
    mean = seen[0]
    for n, now in enumerate(seen[1:], start=1):
        mean = mean + (1 - min(0.95, (1 + n) / (10 + n))) * (now - mean)
    with fit.evaluated() as model:
        torch.testing.assert_close(weights(model), mean, rtol=0, atol=1e-6)
    assert not torch.equal(mean, seen[-1])
    assert torch.equal(weights(fit.model), seen[-1])  # training goes on with its own weights
    torch.testing.assert_close(weights(fit.finish()), mean, rtol=0, atol=1e-6)


def test_buffers_that_count_are_copied_into_the_moving_average():
    module = torch.nn.BatchNorm1d(2)
    average = AveragedModel(module)
    move_average(average, module, 0.5)
    module.num_batches_tracked += 5
    move_average(average, module, 0.5)
    assert average.module.num_batches_tracked == 5


def test_swa_keeps_the_mean_of_the_last_epochs_ends_and_the_rate_stays_meanwhile(
    build, data, fitting
):
    fit = fitting(build(), data, epochs=4, swa_epochs=2, warmup=0.0)
    ends, rates = [], []
    for epoch in fit.run(after_step=lambda: rates.append(fit._updates.schedule.get_last_lr()[0])):
        ends.append(weights(fit.model).clone())
        with fit.evaluated() as model:
            expected = ends[-1] if epoch.number < 3 else torch.stack(ends[2:]).mean(dim=0)
            torch.testing.assert_close(weights(model), expected, rtol=0, atol=1e-6)
    assert torch.equal(weights(fit.finish()), weights(model))
    half = len(rates) // 2
    assert rates[0] > rates[half - 1] == rates[half] == rates[-1] > 0
    everything = fitting(build(), data, swa_epochs=3, warmup=0.2)
    list(everything.run())
    assert everything._updates.schedule.get_last_lr()[0] == pytest.approx(1e-3)


def test_samples_of_dropout_average_their_losses(build, data, fitting, without_dropout):
    """Over many masks the loss settles: at the mean of losses, not at the loss of a mean."""
    model = build(dropout=0.5)
    without_dropout(model.encoder)
    with torch.no_grad():
        model.head.linear.weight.mul_(40)
    fit = fitting(model, data, batch_size=64, dropout_samples=200)
    single = fitting(model, data, batch_size=64)
    model.train()
    many = [fit._gradients.of_step(fit._steps[0][0], 0, 3) for _ in range(3)]
    singles = [single._gradients.of_step(fit._steps[0][0], 0, 3) for _ in range(200)]
    assert np.std(many) < np.std(singles) / 5
    assert np.mean(many) == pytest.approx(np.mean(singles), rel=0.03)


@pytest.mark.parametrize("samples", [1, 2])
def test_rdrop_is_the_mean_of_two_passes_and_their_distance(build, data, fitting, samples):
    fit = fitting(build(), data, batch_size=64, rdrop=3.0, dropout_samples=samples)
    a, b = torch.full((64, 1), 1.0), torch.full((64, 1), -0.5)
    passes = iter([a, b])

    def model(batch, samples=1):
        return next(passes).expand(samples, 64, 1) if samples > 1 else next(passes)

    forward = lambda batch: [model(batch)]  # noqa: E731
    for recipe in fit.recipes:
        forward = recipe.forward(forward, model)
    fit._gradients._forward = forward
    y = torch.tensor(data[1]).float()[:, None]
    gradients = fit._gradients
    losses = gradients._losses(SimpleNamespace(), gradients._targets_NL, gradients._weights)
    p, q = a.sigmoid(), b.sigmoid()
    kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    kl_back = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    expected = (bce(a, y, reduction="none") + bce(b, y, reduction="none")) / 2
    torch.testing.assert_close(losses, (expected + 3.0 * (kl + kl_back) / 2)[:, 0])


def test_rdrop_needs_dropout(build, data, fitting, without_dropout):
    model = without_dropout(build(dropout=0))
    with pytest.raises(UserError, match=r"train\.rdrop compares two passes under dropout"):
        fitting(model, data, rdrop=1.0)


@pytest.mark.parametrize(("task", "n_outcomes"), [("binary", 2), ("multiclass", 3)])
def test_smoothed_labels_are_spread_over_all_outcomes(task, n_outcomes):
    recipe, objective = RECIPES["label_smoothing"](label_smoothing=0.1), SimpleNamespace()
    objective.n_outcomes = n_outcomes
    sure = torch.eye(3) if task == "multiclass" else torch.tensor([[0.0], [1.0]])
    smooth = recipe.targets(sure, objective)
    torch.testing.assert_close(smooth, torch.where(sure > 0, 0.9, 0.0) + 0.1 / n_outcomes)


def test_balanced_weights_are_those_of_the_formula_for_each_label_apart():
    recipe = RECIPES["class_weights"](class_weights="balanced")
    y_N = np.array([0, 0, 0, 2])  # N / (labels that occur * rows of the row's label)
    np.testing.assert_allclose(recipe.label_weights(y_N), [2 / 3, 2 / 3, 2 / 3, 2])
    y_NK = np.array([[0, 1], [0, 0], [0, 1], [1, 0]])
    expected = np.array([[2 / 3, 1], [2 / 3, 1], [2 / 3, 1], [2, 1]])
    np.testing.assert_allclose(recipe.label_weights(y_NK), expected)


def test_weights_scale_the_losses_of_their_rows(build, data, fitting, without_dropout):
    """A row of weight 2 counts as if it stood there twice."""
    gradients = fitting(without_dropout(build(dropout=0)), data)._gradients
    batch, targets = collate(data[0], np.arange(64)), gradients._targets_NL
    plain = gradients._losses(batch, targets, torch.ones(64, 1))
    weighted = gradients._losses(batch, targets, torch.arange(64.0)[:, None])
    torch.testing.assert_close(weighted, plain * torch.arange(64))


def test_early_stopping_keeps_the_first_best_epoch_and_the_last_while_no_score_is_defined():
    def stopped(merits, patience=2):
        recipe = RECIPES["early_stopping"](early_stopping=patience)
        ends = [recipe.after_epoch(m, np.zeros((1, 1)), dict) for m in merits]
        return recipe.kept_epoch()[0], ends

    assert stopped([1.0, 3.0, 3.0, 2.0]) == (2, [False, False, False, True])
    assert stopped([None, None, None]) == (3, [False, False, False])
    assert stopped([None, 0.5, None, None]) == (2, [False, False, False, True])
