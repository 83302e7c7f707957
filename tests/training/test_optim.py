import pytest
import torch

from poolblend.modeling import backbone
from poolblend.modeling.model import build_model
from poolblend.training.optim import build_optimizer, build_schedule, parameter_groups

RATES = dict(lr=1e-3, head_lr=1e-2, layer_decay=0.5, weight_decay=0.1)


@pytest.fixture
def model(tiny_backbone):
    base = backbone.load(tiny_backbone)
    return build_model(
        base,
        pooler="attention",
        pooler_args={},
        mask="attention",
        n_outputs=2,
        dropout=0,
        norm="layer",
    )[0]


def rates_by_name(model, **changes):
    name_of = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, **RATES | changes)
    return {
        name_of[id(p)]: (group["lr"], group["weight_decay"])
        for group in groups
        for p in group["params"]
    }


def test_every_parameter_is_in_exactly_one_group(model):
    groups = parameter_groups(model, **RATES)
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())


def test_rates_fall_layer_by_layer_and_head_and_pooler_have_their_own(model):
    rates = rates_by_name(model)
    assert rates["encoder.encoder.layer.1.output.dense.weight"] == (1e-3, 0.1)
    assert rates["encoder.encoder.layer.0.output.dense.weight"] == (5e-4, 0.1)
    assert rates["encoder.embeddings.word_embeddings.weight"] == (2.5e-4, 0.1)
    assert rates["head.linear.weight"] == (1e-2, 0.1)
    assert {rate for name, (rate, _) in rates.items() if name.startswith("pooler.")} == {1e-2}


def test_biases_and_norms_are_not_decayed(model):
    rates = rates_by_name(model)
    assert {rates[name][1] for name, p in model.named_parameters() if p.ndim < 2} == {0.0}
    assert {rates[name][1] for name, p in model.named_parameters() if p.ndim > 1} == {0.1}


def test_without_a_head_rate_everything_learns_at_lr(model):
    rates = rates_by_name(model, head_lr=None, layer_decay=1.0)
    assert {rate for rate, _ in rates.values()} == {1e-3}


def test_frozen_parameters_are_left_out(model):
    model.encoder.embeddings.requires_grad_(False)
    assert not [name for name in rates_by_name(model) if "embeddings" in name]


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_each_optimizer_steps_downhill(name):
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = build_optimizer(name, [{"params": [weight], "lr": 0.1, "weight_decay": 0.0}])
    weight.square().sum().backward()
    optimizer.step()
    assert (weight < 1).all()


@pytest.mark.parametrize(
    ("name", "halfway", "end"), [("linear", 0.5, 0), ("cosine", 0.5, 0), ("constant", 1, 1)]
)
def test_schedules_warm_up_then_decay_as_named(name, halfway, end):
    optimizer = build_optimizer("sgd", [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": 1.0}])
    schedule = build_schedule(name, optimizer, n_steps=120, warmup=1 / 6)
    rates = []
    for _ in range(120):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == 0
    assert rates[10] == pytest.approx(0.5)
    assert rates[20] == pytest.approx(1)
    assert rates[70] == pytest.approx(halfway)
    assert schedule.get_last_lr()[0] == pytest.approx(end, abs=1e-6)
