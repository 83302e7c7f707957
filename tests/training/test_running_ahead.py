"""A step on a GPU reads nothing from it, and a batch is copied while the one before is computed.

There is no GPU: steps run on torch's meta device, whose tensors have sizes but no numbers. It
raises where a number is read (`item`, `nonzero`, a mask's `all`), and where tensors of two devices
meet. Fake CUDA tensors cannot run a step: a torch without CUDA aborts the process at the first of
them that needs a gradient.
"""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from accelerate import PartialState
from torch.utils._python_dispatch import TorchDispatchMode

from poolblend.errors import UserError
from poolblend.modeling.poolers import POOLERS
from poolblend.training import fit, gradients
from poolblend.training.batches import collate
from poolblend.training.losses import DivergedError
from poolblend.training.optimizers import OPTIMIZERS
from poolblend.training.recipes import RECIPES
from rig.trainings import weights

META = torch.device("meta")
READING = ("_local_scalar_dense", "nonzero", "item", "is_nonzero", "equal")


@pytest.fixture
def ahead(monkeypatch):
    """Lets a training treat its device as one that computes while Python goes on."""
    for module in (fit, gradients):
        monkeypatch.setattr(module, "runs_ahead", lambda device: True)


@pytest.fixture
def on_meta(monkeypatch, ahead):
    """Lets new trainings run on the meta device."""
    PartialState()
    monkeypatch.setitem(PartialState._shared_state, "device", META)
    monkeypatch.setattr(torch, "autocast", lambda *args, **how: nullcontext())  # not for meta


def two_steps(training):
    """The first two steps of a training, with all that belongs to them except reading the loss."""
    training.model.train()
    for step in training._steps[0][:2]:
        training._train_step(step)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clip", [1.0, None])
def test_a_step_with_any_optimizer_reads_nothing(on_meta, build, data, fitting, name, clip):
    training = fitting(build(norm="batch"), data, optimizer=name, clip=clip, accumulation=2)
    for group in training._updates.optimizer.param_groups:
        group["fused"] = name != "sgd"  # whose fused form torch lacks on meta
    two_steps(training)
    assert {p.device for p in training.model.parameters()} == {META}


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_with_any_recipe_reads_nothing(on_meta, build, data, fitting, name):
    options = {name: RECIPES[name].model_fields[name].examples[0]}
    try:
        model = build(**options)
    except UserError as error:
        if "needs the package" not in str(error):
            raise
        pytest.skip(str(error))
    two_steps(fitting(model, data, **options))


@pytest.mark.parametrize("name", POOLERS)
@pytest.mark.parametrize("mask", ["attention", "content"])
def test_a_step_with_any_pooler_reads_nothing(on_meta, build, data, fitting, name, mask):
    two_steps(fitting(build(pooler=name, mask=mask), data))


class Watched(TorchDispatchMode):
    """Records the operations that read a number from the device."""

    def __init__(self):
        super().__init__()
        self.reads = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().partition("::")[2].partition(".")[0]
        self.reads += [name] * (name in READING)
        return function(*args, **(kwargs or {}))


def test_losses_are_read_at_the_epochs_end_and_the_training_is_the_same(
    ahead, build, data, fitting, monkeypatch
):
    """On the CPU: the same operations in another order, and the same bits."""
    ends = []
    for often in (50, 3, 1):
        monkeypatch.setattr(fit, "READ_EVERY", often)
        model = build(norm="batch")
        training = fitting(model, data, ema=0.9, epochs=2)
        torch.manual_seed(7)
        with Watched() as watched:
            two_steps(training)
        # Once a step, the warm start of the average: how many steps it has seen, on the CPU.
        assert watched.reads == ["_local_scalar_dense"] * 2
        waiting = len(training._losses._waiting)
        assert waiting == {50: 2, 3: 2, 1: 0}[often]
        assert np.isfinite(training.last_loss)
        assert not training._losses._waiting
        epochs = list(training.run())
        ends.append((weights(model), [epoch.loss for epoch in epochs]))
    assert all(torch.equal(end, ends[0][0]) and losses == ends[0][1] for end, losses in ends[1:])


@pytest.mark.parametrize("at", [3, 12])
def test_a_loss_that_is_read_late_still_names_its_epoch_and_reaches_no_checkpoint(
    ahead, build, data, fitting, at
):
    model = build()
    training, steps = fitting(model, data), []

    def spoil():
        steps.append(None)
        if len(steps) == at:
            with torch.no_grad():
                model.head.linear.weight.fill_(float("nan"))

    with pytest.raises(
        DivergedError, match=rf"the training loss became nan in epoch {at // 8 + 1}"
    ):
        list(training.run(after_step=spoil))
    with pytest.raises(DivergedError, match="the weights became NaN or infinite in epoch"):
        training.state()


def test_the_next_batch_is_copied_before_a_step_ends(ahead, build, data, fitting, monkeypatch):
    events = []

    def collated(encoded, rows, **how):
        events.append(("copied", tuple(rows)))
        return collate(encoded, rows, **how)

    monkeypatch.setattr(gradients, "collate", collated)
    training = fitting(build(), data, accumulation=2, epochs=1)
    step = training._updates.step
    monkeypatch.setattr(training._updates, "step", lambda: events.append("step") or step())
    list(training.run())
    (steps,) = training._steps
    first, *rest = [("copied", tuple(batch)) for step in steps for batch in step]
    expected = [first]
    for n, batch in enumerate(rest, start=1):
        expected += [batch, "step"] if n % 2 == 0 else [batch]
    assert events == [*expected, "step"]
