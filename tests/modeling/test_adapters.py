"""LoRA: what learns, what it changes, and that merging is exact or undone."""

import sys

import pytest
import torch
from safetensors.torch import load, save
from torch.testing import assert_close

from poolblend.errors import UserError
from poolblend.modeling.adapters import add_factors, add_lora, merged, take_factors
from poolblend.modeling.layers import layer_depths
from poolblend.training.optimizers import OPTIMIZERS, parameter_groups
from rig.families import FAMILIES, depth_of

pytest.importorskip("peft")

every_family = pytest.mark.parametrize("name", FAMILIES)
LORA = dict(r=2, alpha=8.0, dropout=0.0)
RATES = dict(lr=1e-2, head_lr=1e-2, weight_decay=0.1)


def train(model, batch, steps=2):
    optimizer = OPTIMIZERS["adamw"](parameter_groups(model, **RATES))
    for _ in range(steps):
        model.train()
        model(batch).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@every_family
def test_only_adapters_pooler_and_head_learn_and_merging_keeps_what_they_learnt(
    family_model, rows, padded, name
):
    model, batch = family_model(name, pooler="attention").eval(), padded(rows(6, 3))
    encoder, plain = model.encoder, family_model(name).encoder
    with torch.no_grad():
        unadapted = model(batch)
    pretrained = {key: value.clone() for key, value in encoder.state_dict().items()}
    add_lora(encoder, **LORA)
    assert type(encoder) is type(plain)
    assert_close(model(batch), unadapted)  # adapters begin as nothing
    learning = {key for key, p in encoder.named_parameters() if p.requires_grad}
    assert learning
    assert all(".lora_" in key for key in learning)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    train(model, batch)
    for key, parameter in model.named_parameters():
        learns = not key.startswith("encoder.") or ".lora_" in key
        assert parameter.equal(before[key]) != learns, key
    with torch.no_grad():
        adapted = model(batch)
        assert (adapted - unadapted).abs().max() > 1e-3
        factors = take_factors(encoder)
        assert all(value.equal(pretrained[key]) for key, value in encoder.state_dict().items())
        add_factors(encoder, factors, LORA["alpha"] / LORA["r"])
        assert_close(model(batch), adapted, rtol=1e-4, atol=1e-5)
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert encoder.state_dict().keys() == plain.state_dict().keys()
    assert [str(module) for module in encoder.modules()] == [str(m) for m in plain.modules()]
    assert vars(encoder).keys() == vars(plain).keys()
    plain.load_state_dict(load(save(encoder.state_dict())))
    plain.load_state_dict(pretrained)
    add_factors(plain, factors, LORA["alpha"] / LORA["r"])
    merged_weights = encoder.state_dict()
    assert all(value.equal(merged_weights[key]) for key, value in plain.state_dict().items())


@every_family
def test_merged_for_a_while_all_weights_are_afterwards_bit_for_bit_as_before(
    family_model, rows, padded, name
):
    model, batch = family_model(name), padded(rows(6, 3))
    add_lora(model.encoder, **LORA)
    train(model, batch)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        adapted = model(batch)
        with merged(model.encoder):
            assert any(not v.equal(before[k]) for k, v in model.state_dict().items())
            for key, parameter in model.encoder.named_parameters():
                if ".lora_" in key:
                    parameter.fill_(torch.nan)  # bypassed
            assert_close(model(batch), adapted, rtol=1e-4, atol=1e-5)
            for key, parameter in model.named_parameters():
                if ".lora_" in key:
                    parameter.copy_(before[key])
        assert all(value.equal(before[key]) for key, value in model.state_dict().items())
        assert_close(model(batch), adapted, rtol=0, atol=0)


def test_an_error_within_undoes_the_merge_too_and_without_adapters_nothing_changes(family_model):
    for adapted in (True, False):
        encoder = family_model("bert").encoder
        if adapted:
            add_lora(encoder, **LORA)
        before = {key: value.clone() for key, value in encoder.state_dict().items()}
        with pytest.raises(KeyError), merged(encoder):
            raise KeyError
        assert all(value.equal(before[key]) for key, value in encoder.state_dict().items())


@every_family
def test_every_linear_layer_within_the_layers_is_adapted_by_default(family_model, name):
    encoder = family_model(name).encoder
    linear = {
        key
        for key, module in encoder.named_modules()
        if hasattr(module, "weight")
        and module.weight.ndim == 2
        and not isinstance(module, torch.nn.Embedding)  # T5's relative positions
        and depth_of(name, f"{key}.weight") > 0
    }
    add_lora(encoder, **LORA)
    assert {key for key, module in encoder.named_modules() if hasattr(module, "lora_A")} == linear


def test_named_layers_alone_are_adapted(family_model):
    encoder = family_model("bert").encoder
    add_lora(encoder, **LORA, modules=["query", "attention.output.dense"])
    adapted = {key for key, module in encoder.named_modules() if hasattr(module, "lora_A")}
    ends = ("attention.self.query", "attention.output.dense")
    assert adapted == {f"encoder.layer.{i}.{end}" for i in range(3) for end in ends}


@pytest.mark.parametrize(
    ("name", "module", "line"),
    [
        (
            "bert",
            "querry",
            "unknown linear layer 'querry' in train.lora.modules; did you mean 'query'",
        ),
        ("bert", "word_embeddings", "known: dense, key, query, value"),
        ("bert", "uery", "known: dense, key, query, value"),
        ("gpt2", "query", "known: c_attn, c_fc, c_proj"),
    ],
)
def test_an_unknown_layer_is_refused_with_those_there_are(family_model, name, module, line):
    encoder = family_model(name).encoder
    with pytest.raises(UserError, match=line):
        add_lora(encoder, **LORA, modules=["dense", module] if name == "bert" else [module])
    assert not [key for key, _ in encoder.named_parameters() if ".lora_" in key]


@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_lie_as_deep_as_their_layers(family_model, name):
    model = family_model(name)
    add_lora(model.encoder, **LORA)
    for key, depth in layer_depths(model.encoder).items():
        assert depth == depth_of(name, key)
    if FAMILIES[name].layers:
        groups = parameter_groups(model, **RATES, factor=lambda depth, top: 0.5 ** (top - depth))
        rates = {id(p): group["lr"] for group in groups for p in group["params"]}
        assert rates.keys() == {id(p) for p in model.parameters() if p.requires_grad}
        top = max(layer_depths(model.encoder).values())
        for key, parameter in model.encoder.named_parameters():
            if parameter.requires_grad:
                assert rates[id(parameter)] == 1e-2 * 0.5 ** (top - depth_of(name, key)), key


def test_rank_scale_and_dropout_are_as_asked(family_model, rows, padded):
    model = family_model("bert")
    add_lora(model.encoder, r=3, alpha=12.0, dropout=0.25, modules=["query"])
    layer = model.encoder.encoder.layer[0].attention.self.query
    assert layer.lora_A["default"].weight.shape == (3, 16)
    assert layer.lora_dropout["default"].p == 0.25
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
        x_BH = torch.randn(4, 16)
        low = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        expected = layer.get_base_layer()(x_BH) + 12 / 3 * x_BH @ low.T
        assert_close(layer.eval()(x_BH), expected, rtol=1e-4, atol=1e-5)


def test_without_peft_the_line_says_how_to_install_it(family_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match="train.lora needs the package peft; pip install peft"):
        add_lora(family_model("bert").encoder, **LORA)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@every_family
def test_in_half_precision_adapters_learn_in_fp32_and_stay_beside_the_weights(
    family_model, rows, padded, name, dtype
):
    model, batch = family_model(name, pooler="mean"), padded(rows(6, 3))
    encoder, precise = model.encoder.to(dtype), family_model(name, pooler="mean")
    precise.load_state_dict({key: value.float() for key, value in model.state_dict().items()})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    add_lora(encoder, **LORA)
    learning = [p for p in encoder.parameters() if p.requires_grad]
    assert {p.dtype for p in learning} == {torch.float32}
    train(model, batch)
    with torch.no_grad(), merged(encoder):
        adapted = model(batch)
        factors = take_factors(encoder)
        scale = LORA["alpha"] / LORA["r"]
        add_factors(encoder, factors, scale)
        assert_close(model(batch), adapted, rtol=1e-3, atol=1e-3)  # what the training computed
        precise.head.load_state_dict(model.head.state_dict())
        add_factors(precise.encoder, factors, scale)
        change = (precise.eval()(batch) - adapted).norm() / adapted.norm()
        assert change < (0.1 if dtype == torch.bfloat16 else 0.02)  # merged in fp32: rounding
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(after[key].equal(before[key]) for key in before if key.startswith("encoder."))


def test_an_adapter_of_another_shape_is_refused(family_model):
    for dtype in (torch.float32, torch.bfloat16):
        encoder = family_model("bert").encoder.to(dtype)
        name = "encoder.layer.0.attention.self.query.weight"
        factors = {f"{name}.lora_A": torch.zeros(2, 8), f"{name}.lora_B": torch.zeros(16, 2)}
        with pytest.raises(RuntimeError, match="of a weight of another shape"):
            add_factors(encoder, factors, 1.0)
