"""Steps that fp16 skips: nothing changes in them, they are counted, and too many are an error."""

import json
from types import SimpleNamespace

import pytest
import torch

from poolblend.errors import UserError
from poolblend.training import devices, fit
from poolblend.training.gradients import clip_ as fit_clip
from poolblend.training.losses import DivergedError, Losses
from poolblend.training.optimizers import OPTIMIZERS
from poolblend.training.state import Position
from poolblend.training.updates import Updates
from rig.trainings import weights, written


@pytest.fixture
def scaled(monkeypatch):
    """Lets new trainings scale their losses as in fp16; computing stays in fp32, on the CPU."""

    def accelerator(precision):
        made = devices.accelerator("fp32")
        made.scaler = torch.amp.GradScaler("cpu")

        def unscale_gradients():
            for optimizer in made._optimizers:
                made.scaler.unscale_(optimizer.optimizer)

        made.unscale_gradients = unscale_gradients
        return made

    monkeypatch.setattr(fit, "accelerator", accelerator)


@pytest.fixture
def overflowing(build, data, fitting, scaled):
    """Makes a training whose gradients overflow in the steps of these numbers, from 0."""

    def overflowing(steps, **options):
        model, backward = build(), []
        model.head.linear.weight.register_hook(
            lambda gradient: gradient * (float("inf") if len(backward) - 1 in steps else 1.0)
        )
        training = fitting(model, data, **options)
        add_up = training._gradients._add_up
        training._gradients._add_up = lambda parts: backward.append(None) or add_up(parts)
        return training

    return overflowing


def moments(training):
    state = training._updates.optimizer.state_dict()["state"]
    return [value.clone() for moment in state.values() for value in moment.values()]


@pytest.mark.parametrize("clip", [1.0, None])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("first", [0, 2])
def test_a_step_that_overflows_changes_nothing_and_is_counted(overflowing, name, clip, first):
    training = overflowing({first}, optimizer=name, clip=clip, ema=0.9, epochs=1)
    seen = [(weights(training.model), moments(training), 0, 0)]

    def after_step():
        done = training._updates.schedule.last_epoch
        average = int(training.recipes[0]._average.n_averaged)
        seen.append((weights(training.model), moments(training), done, average))

    (epoch,) = training.run(after_step=after_step)
    before, after, later = seen[first], seen[first + 1], seen[first + 2]
    assert torch.equal(before[0], after[0])
    assert all(torch.equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    assert before[2:] == after[2:] == (first, first)  # neither schedule nor average move
    assert later[2:] == (first + 1, first + 1)
    assert training.skipped == 1
    assert not torch.equal(seen[-1][0], seen[0][0])
    assert seen[-1][0].isfinite().all()
    assert all(moment.isfinite().all() for moment in seen[-1][1])
    assert training._accelerator.scaler.get_scale() == 2.0**15
    assert 0 < epoch.loss < 2


def test_a_training_that_resumes_goes_on_counting(overflowing, build):
    training = overflowing({1, 2})
    next(training.run())
    again = overflowing(set())
    again.restore(written(training.state()))
    assert again.skipped == training.skipped == 2
    list(again.run())
    assert again.skipped == 2


def test_a_training_that_skips_nearly_every_step_fails_in_one_line(overflowing):
    training = overflowing(set(range(8)), epochs=1)
    line = r"the gradients overflowed in fp16 in 8 of 8 steps, which were skipped; lower train.lr"
    with pytest.raises(DivergedError, match=line):
        list(training.run())
    training = overflowing(set(range(7)), epochs=1)
    list(training.run())
    assert training.skipped == 7


def test_many_skipped_steps_in_a_row_end_the_training(overflowing):
    training = overflowing(set(range(3, 100)), epochs=20)
    with pytest.raises(DivergedError, match="overflowed in fp16 in 21 steps in a row; lower"):
        list(training.run())
    assert training.steps_done == 23


def test_in_fp16_one_loss_that_overflows_is_left_out_of_the_mean_and_a_run_is_an_error():
    position, losses = Position(), Losses("lower train.lr", every=2, patience=2)
    for value in (1.0, float("inf"), float("nan"), 3.0):
        losses.add(torch.tensor(value), 8, position)
    assert (position.loss, position.rows_lost, losses.last) == (32.0, 16, 3.0)
    with pytest.raises(UserError, match="the training loss became inf in epoch 1; lower train.lr"):
        for _ in range(4):
            losses.add(torch.tensor(float("inf")), 8, position)
    assert json.dumps(position.__dict__)


def test_memory_that_ends_in_clipping_halves_the_batch_and_the_step_stays_the_same(
    build, data, fitting, without_dropout, scaled, monkeypatch
):
    ends = []
    for broken in (False, True):
        model = without_dropout(build(dropout=0))
        training = fitting(model, data, batch_size=16, epochs=1, optimizer="sgd")
        calls = []

        def clip_(*given, clip_=fit_clip, calls=calls, broken=broken):
            clip_(*given)
            calls.append(None)
            if broken and len(calls) == 1:
                raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be")

        monkeypatch.setattr("poolblend.training.gradients.clip_", clip_)
        list(training.run())
        ends.append(weights(model))
        assert training.pieces == (2 if broken else 1)
    torch.testing.assert_close(*ends, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_first_step_needs_no_more_memory_than_the_others(name):
    """Its moments are there before it: it cannot run out of memory half way."""
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = OPTIMIZERS[name]([{"params": [weight], "lr": 0.1, "weight_decay": 0.0}])
    held = {key: value.data_ptr() for key, value in optimizer.state[weight].items()}
    assert held
    weight.square().sum().backward()
    optimizer.step()
    assert {key: value.data_ptr() for key, value in optimizer.state[weight].items()} == held


def test_without_a_scaler_every_step_counts():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = OPTIMIZERS["sgd"]([{"params": [weight], "lr": 0.1}])
    weight.grad = torch.full((1,), float("inf"))
    schedule = SimpleNamespace(step=lambda: None)
    updates = Updates(SimpleNamespace(scaler=None), optimizer, schedule, "cure")
    assert updates.step()
    assert updates.skipped == 0
