"""Every recipe does something, does what it says, and is taken up to the same bits."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from poolblend.errors import UserError
from poolblend.training.adversarial import embeddings_pushed, weights_pushed
from poolblend.training.averaging import moving_average
from poolblend.training.gradients import Gradients
from rig.trainings import Killed, kill_after, weights, written

RECIPES = {
    "rdrop": {"rdrop": 1.0},
    "fgm": {"fgm": 0.5},
    "awp": {"awp": 0.01, "adversarial_start": 0.5},
    "ema": {"ema": 0.9},
    "swa": {"swa_epochs": 2},
    "dropout_samples": {"dropout_samples": 4},
    "label_smoothing": {"label_smoothing": 0.1},
    "layer_decay": {"layer_decay": 0.5},
}


def finished(fitting, model, data, **changes):
    """The weights that are kept of a training begun with one dropout."""
    torch.manual_seed(7)
    fit = fitting(model, data, **changes)
    list(fit.run())
    return weights(fit.finish())


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_a_recipe_changes_what_is_kept(build, data, fitting, changes):
    plain = finished(fitting, build(), data)
    assert not torch.equal(finished(fitting, build(), data, **changes), plain)


@pytest.mark.parametrize("step", [5, 20])
@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_a_recipe_taken_up_elsewhere_ends_in_the_same_bits(build, data, fitting, changes, step):
    whole = finished(fitting, build(norm="batch"), data, **changes)
    model = build(norm="batch")
    torch.manual_seed(7)
    first = fitting(model, data, **changes)
    with pytest.raises(Killed):
        list(first.run(after_step=kill_after(step)))
    state = written(first.state())
    torch.manual_seed(99)
    rest = fitting(build(7, norm="batch"), data, **changes)
    rest.restore(state)
    list(rest.run())
    assert torch.equal(weights(rest.finish()), whole)


@pytest.mark.parametrize("pushed", [embeddings_pushed, weights_pushed])
def test_weights_are_pushed_along_their_gradient_and_come_back_to_the_bit(build, data, pushed):
    model = build(dropout=0)
    loss = model_loss(model, data)
    loss.backward()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(Killed), pushed(model, 0.01):  # whatever ends the pass
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert model_loss(model, data) > loss
        raise Killed
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name])
    words = {"encoder.embeddings.word_embeddings.weight"}
    matrices = {n for n, p in model.encoder.named_parameters(prefix="encoder") if p.ndim > 1}
    assert moved == (words if pushed is embeddings_pushed else matrices)


def model_loss(model, data):
    from poolblend.training.batches import collate

    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    logits = model(collate(data[0], np.arange(16)))
    y = torch.tensor(data[1][:16]).float()[:, None]
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, y)


@pytest.mark.parametrize(("pushed", "length"), [(embeddings_pushed, 0.3), (weights_pushed, 0.01)])
def test_the_push_is_as_long_as_it_should_be(build, data, pushed, length):
    model = build()
    model_loss(model, data).backward()
    weight = model.encoder.embeddings.word_embeddings.weight
    before = weight.detach().clone()
    with pushed(model, length):
        step = weight.detach() - before
    expected = length if pushed is embeddings_pushed else length * before.norm()
    torch.testing.assert_close(step.norm(), torch.as_tensor(expected), rtol=1e-3, atol=0)
    torch.testing.assert_close(
        step / step.norm(), weight.grad / weight.grad.norm(), atol=1e-3, rtol=0
    )


def test_a_gradient_that_overflowed_pushes_nothing(build, data):
    model = build()
    model_loss(model, data).backward()
    weight = model.encoder.embeddings.word_embeddings.weight
    before = weight.detach().clone()
    weight.grad[0, 0] = torch.inf
    with embeddings_pushed(model, 0.3):
        assert torch.equal(weight, before)


def test_embeddings_that_do_not_learn_cannot_be_pushed(build):
    refused = pytest.raises(UserError, match="train.fgm: the word embeddings do not learn")
    with refused, embeddings_pushed(build(), 0.3):
        pass


@pytest.mark.parametrize(
    ("changes", "expected"), [({"fgm": 0.5}, "sum"), ({"awp": 0.05}, "pushed")]
)
def test_fgm_adds_the_adversarial_gradient_and_awp_takes_it_alone(
    build, data, fitting, changes, expected
):
    model = build(dropout=0)
    model_loss(model, data)  # without dropout from here on
    fit = fitting(model, data, batch_size=64, **changes)
    step = fit._steps[0][0]
    gradients = {}
    for adversarial in (False, True):
        fit._optim.zero_grad()
        fit._gradients.of_step(step, fit._accelerator, fit._optim, adversarial=adversarial)
        gradients[adversarial] = gradient(model)
    push = embeddings_pushed if "fgm" in changes else weights_pushed
    fit._optim.zero_grad()
    fit._gradients.of_step(step, fit._accelerator, fit._optim, adversarial=False)
    with push(model, next(iter(changes.values()))):
        fit._optim.zero_grad()
        fit._gradients.of_step(step, fit._accelerator, fit._optim, adversarial=False)
    pushed = gradient(model)
    assert not torch.allclose(pushed, gradients[False], rtol=1e-3)
    wanted = gradients[False] + pushed if "fgm" in changes else pushed
    torch.testing.assert_close(gradients[True], wanted, rtol=1e-4, atol=1e-6)


def gradient(model):
    return torch.cat([p.grad.flatten().clone() for p in model.parameters()])


@pytest.mark.parametrize(("start", "fired"), [(0.0, 24), (0.5, 12), (0.99, 1)])
def test_adversarial_steps_begin_where_they_should(build, data, fitting, monkeypatch, start, fired):
    calls = []
    once = Gradients._add_adversarial
    monkeypatch.setattr(
        Gradients, "_add_adversarial", lambda self, *args: calls.append(1) or once(self, *args)
    )
    fit = fitting(build(), data, fgm=0.1, adversarial_start=start)
    list(fit.run())
    assert len(calls) == fit.n_steps - fit.adversarial_from == fired


def test_an_out_of_memory_pass_leaves_no_pushed_weights(build, data, fitting, monkeypatch):
    """The adversarial pass is the one that fails; the step begun anew is that of a whole batch."""
    ends = []
    for broken in (False, True):
        model = build(dropout=0)
        model_loss(model, data)
        fit = fitting(model, data, batch_size=64, epochs=1, optimizer="sgd", awp=0.05)
        if broken:
            add_up, calls = fit._gradients._add_up, []

            def once(parts, accelerator, add_up=add_up, calls=calls):
                calls.append(len(parts))
                if calls == [1, 1]:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return add_up(parts, accelerator)

            monkeypatch.setattr(fit._gradients, "_add_up", once)
        list(fit.run())
        ends.append(weights(model))
    assert fit.pieces == 2
    torch.testing.assert_close(*ends, rtol=0, atol=1e-5)


def test_the_moving_average_is_its_formula_and_is_what_is_kept(build, data, fitting):
    fit = fitting(build(), data, ema=0.95)
    seen, mean = [], None
    for n, _ in enumerate(steps(fit)):
        now = weights(fit.model)
        share = 1 - min(0.95, (1 + n) / (10 + n))
        mean = now.clone() if mean is None else mean + share * (now - mean)
        seen.append(now)
    with fit.evaluated() as model:
        torch.testing.assert_close(weights(model), mean, rtol=0, atol=1e-6)
    assert not torch.equal(mean, seen[-1])
    assert torch.equal(weights(fit.model), seen[-1])  # training goes on from its own weights
    torch.testing.assert_close(weights(fit.finish()), mean, rtol=0, atol=1e-6)


def steps(fit):
    """Yields after each step of the whole training."""
    seen = []
    run = fit.run(after_step=lambda: seen.append(1))
    once = fit._train_step
    queue = []

    def step(batches):
        loss = once(batches)
        queue.append(copy.deepcopy(weights(fit.model)))
        return loss

    fit._train_step = step
    for _ in run:
        pass
    model = fit.model
    final = weights(model)
    for vector in queue:
        torch.nn.utils.vector_to_parameters(vector, model.parameters())
        yield
    assert torch.equal(final, weights(model))


def test_buffers_that_count_are_copied_into_the_moving_average():
    module = torch.nn.BatchNorm1d(2)
    average = moving_average(module, 0.5)
    average.update_parameters(module)
    module.num_batches_tracked += 5
    average.update_parameters(module)
    assert average.module.num_batches_tracked == 5


def test_the_plain_average_is_the_mean_of_the_last_epochs_ends(build, data, fitting):
    fit = fitting(build(), data, epochs=4, swa_epochs=3, schedule="linear")
    ends = []
    for epoch in fit.run():
        ends.append(weights(fit.model))
        with fit.evaluated() as model:
            expected = ends[0] if epoch.number == 1 else torch.stack(ends[1:]).mean(dim=0)
            torch.testing.assert_close(weights(model), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        weights(fit.finish()), torch.stack(ends[1:]).mean(0), rtol=0, atol=1e-6
    )


def test_while_weights_are_averaged_the_rates_stay(build, data, fitting):
    fit = fitting(build(), data, epochs=4, swa_epochs=2, warmup=0.0)
    rates = []
    list(fit.run(after_step=lambda: rates.append(fit._schedule.get_last_lr()[0])))
    half = len(rates) // 2
    assert rates[0] > rates[half - 1] == rates[half] == rates[-1] > 0
    everything = fitting(build(), data, swa_epochs=3, warmup=0.2)
    list(everything.run())
    assert everything._schedule.get_last_lr()[0] == pytest.approx(1e-3)


def test_samples_of_dropout_average_their_losses(build, data, fitting):
    """Over many masks the loss settles: at the mean of losses, not at the loss of a mean."""
    model = build(dropout=0.5)
    fit = fitting(model, data, batch_size=64, dropout_samples=400)
    step = fit._steps[0][0]
    for module in model.encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        model.head.linear.weight.mul_(40)
    model.train()
    many = [loss_of(fit, step) for _ in range(3)]
    single = fitting(model, data, batch_size=64)
    singles = [loss_of(single, step) for _ in range(400)]
    assert np.std(many) < np.std(singles) / 5
    assert np.mean(many) == pytest.approx(np.mean(singles), rel=0.02)


def loss_of(fit, step):
    return fit._gradients.of_step(step, fit._accelerator, fit._optim, adversarial=False)


def test_rdrop_is_the_mean_of_two_passes_and_their_distance(build, data, fitting):
    fit = fitting(build(), data, batch_size=64, rdrop=3.0)
    passes = iter([torch.full((64, 1), 1.0), torch.full((64, 1), -0.5)])
    gradients = fit._gradients
    gradients.model = lambda batch, samples: next(passes).clone()[None]
    y = torch.tensor(data[1]).float()[:, None]
    losses = gradients._losses(SimpleNamespace(), np.arange(64), torch.device("cpu"))
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    a, b = torch.full((64, 1), 1.0), torch.full((64, 1), -0.5)
    p, q = a.sigmoid(), b.sigmoid()
    kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    kl_back = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    expected = (bce(a, y, reduction="none") + bce(b, y, reduction="none")) / 2
    torch.testing.assert_close(losses, (expected + 3.0 * (kl + kl_back) / 2)[:, 0])


def test_rdrop_needs_dropout(build, data, fitting):
    model = build(dropout=0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with pytest.raises(UserError, match="train.rdrop compares two passes under dropout"):
        fitting(model, data, rdrop=1.0)


def test_weights_scale_the_losses_of_their_rows(build, data, fitting):
    """A row of weight 2 counts as if it stood there twice."""
    fit = fitting(build(dropout=0), data, batch_size=64)
    model_loss(fit.model, data)
    gradients, rows = fit._gradients, np.arange(64)
    plain = gradients._losses(batch_of(data), rows, torch.device("cpu"))
    gradients._weights = torch.arange(64, dtype=torch.float32)[:, None]
    weighted = gradients._losses(batch_of(data), rows, torch.device("cpu"))
    torch.testing.assert_close(weighted, plain * torch.arange(64))


def batch_of(data):
    from poolblend.training.batches import collate

    return collate(data[0], np.arange(64))
