"""Optimizers, their groups of parameters, and schedules."""

import pytest
import torch

from poolblend.errors import UserError
from poolblend.training.optimizers import OPTIMIZERS, parameter_groups
from poolblend.training.recipes.layers import LayerDecay
from poolblend.training.schedules import SCHEDULES, build_schedule

RATES = dict(lr=1e-3, head_lr=1e-2, weight_decay=0.1)


@pytest.fixture
def model(build):
    return build(pooler="attention", norm="layer")


def rates_by_name(model, **changes):
    name_of = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, **RATES | changes)
    return {
        name_of[id(p)]: (group["lr"], group["weight_decay"])
        for group in groups
        for p in group["params"]
    }


def test_every_parameter_is_in_exactly_one_group_and_frozen_ones_in_none(model):
    def grouped():
        groups = parameter_groups(model, **RATES)
        return sorted(id(p) for group in groups for p in group["params"])

    assert grouped() == sorted(id(p) for p in model.parameters())
    model.encoder.embeddings.requires_grad_(False)
    assert grouped() == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_rates_fall_layer_by_layer_and_head_and_pooler_have_their_own(model):
    rates = rates_by_name(model, factor=LayerDecay(layer_decay=0.5).rate)
    assert rates["encoder.encoder.layer.1.output.dense.weight"] == (1e-3, 0.1)
    assert rates["encoder.encoder.layer.0.output.dense.weight"] == (5e-4, 0.1)
    assert rates["encoder.embeddings.word_embeddings.weight"] == (2.5e-4, 0.1)
    assert rates["head.linear.weight"] == (1e-2, 0.1)
    assert {rate for name, (rate, _) in rates.items() if name.startswith("pooler.")} == {1e-2}
    assert {rate for rate, _ in rates_by_name(model, head_lr=None).values()} == {1e-3}


def test_biases_and_norms_are_not_decayed(model):
    rates = rates_by_name(model)
    assert {rates[name][1] for name, p in model.named_parameters() if p.ndim < 2} == {0.0}
    assert {rates[name][1] for name, p in model.named_parameters() if p.ndim > 1} == {0.1}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_steps_downhill(name):
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = OPTIMIZERS[name]([{"params": [weight], "lr": 0.1, "weight_decay": 0.0}])
    weight.square().sum().backward()
    optimizer.step()
    assert (weight < 1).all()


def rates_of(name, **changes):
    """The rate of each of 120 steps, and the one after them; 20 of them warm up."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = build_schedule(name, optimizer, n_steps=120, warmup=1 / 6, **changes)
    rates = []
    for _ in range(120):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return [*rates, schedule.get_last_lr()[0]]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_those_of_transformers_and_stay_where_they_are_told_to(name):
    from transformers import get_scheduler

    rates = rates_of(name)
    assert rates[0] == 0
    assert rates[20] == 1
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    kind = "constant_with_warmup" if name == "constant" else name
    expected = get_scheduler(kind, theirs, num_warmup_steps=20, num_training_steps=120).lr_lambdas
    assert rates == [expected[0](step) for step in range(121)]
    assert rates_of(name, constant_from=60)[60:] == [rates[60]] * 61
    assert rates_of(name, constant_from=10)[20:] == [1] * 101


def test_an_unknown_schedule_names_the_known_ones():
    with pytest.raises(UserError, match=r"did you mean 'linear'\? known: constant, cosine, linear"):
        SCHEDULES["liner"]
