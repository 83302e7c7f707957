"""Layers of an encoder: depths, freezing the first, fresh weights for the last."""

import pytest
import torch
from torch.testing import assert_close

from poolblend.errors import UserError
from poolblend.modeling import backbone
from poolblend.modeling.layers import (
    checkpoint_activations,
    frozen_modules,
    layer_depths,
    layer_stacks,
    module_depths,
    reinitialise,
)
from poolblend.training.optimizers import OPTIMIZERS, parameter_groups
from rig.families import FAMILIES, N_LAYERS, depth_of

every_family = pytest.mark.parametrize("name", FAMILIES)
DISTINCT = [name for name, family in FAMILIES.items() if family.layers]
WITHOUT_DROPOUT = ("albert", "modernbert", "llama", "qwen3", "mistral", "gemma")
RATES = dict(lr=1e-2, head_lr=1e-2, weight_decay=0.1)


def freeze(model, n_layers):
    model.freeze(frozen_modules(model.encoder, n_layers))


def states(encoder):
    return {key: value.clone() for key, value in encoder.state_dict().items()}


@every_family
def test_each_module_and_parameter_lies_at_one_depth(family_model, name):
    encoder = family_model(name).encoder
    depths = layer_depths(encoder)
    assert depths == {key: depth_of(name, key) for key, _ in encoder.named_parameters()}
    assert layer_stacks(encoder) == ([FAMILIES[name].layers] if FAMILIES[name].layers else [])
    assert {1, 2, 3} & set(depths.values()) == ({1, 2, 3} if FAMILIES[name].layers else {3})
    modules = module_depths(encoder)
    held = [id(p) for key in modules for p in encoder.get_submodule(key).parameters()]
    assert sorted(held) == sorted(id(p) for p in encoder.parameters())
    for key, depth in modules.items():
        inner = encoder.get_submodule(key).named_parameters()
        assert {depth_of(name, f"{key}.{parameter}") for parameter, _ in inner} <= {depth}
    assert modules.get("drop", 0) == 0  # GPT-2's, of its embeddings


# --- freezing ---------------------------------------------------------------------------------


@every_family
def test_frozen_weights_stay_and_all_others_change(family_model, rows, padded, name):
    model, n = family_model(name, pooler="attention"), 2 if FAMILIES[name].layers else 0
    freeze(model, n)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    optimizer = OPTIMIZERS["adamw"](parameter_groups(model, **RATES))
    for _ in range(2):
        model.train()
        model(padded(rows(5, 3))).square().sum().backward()
        optimizer.step()
    for key, parameter in model.named_parameters():
        encoders = key.startswith("encoder.")
        frozen = encoders and depth_of(name, key.removeprefix("encoder.")) <= n
        assert parameter.equal(before[key]) == frozen, key
        assert parameter.requires_grad != frozen


@every_family
@torch.no_grad()
def test_frozen_layers_give_the_same_states_in_every_training_pass(
    family_model, rows, padded, name
):
    model, n = family_model(name), 1 if FAMILIES[name].layers else 0
    freeze(model, n)
    batch = padded(rows(7, 4))
    inputs = dict(input_ids=batch.ids_BT, attention_mask=batch.attention_BT.long())
    first, *others = (
        model.train(training).encoder(**inputs, output_hidden_states=True).hidden_states
        for training in (False, True, True)
    )
    for hidden in others:
        assert_close(hidden[: n + 1], first[: n + 1], rtol=0, atol=0)
    if name not in WITHOUT_DROPOUT:
        assert not torch.equal(others[0][-1], others[1][-1])


@pytest.mark.parametrize("name", [name for name, f in FAMILIES.items() if f.checkpoints])
def test_gradients_come_through_checkpoints_above_frozen_embeddings(
    family_model, rows, padded, name
):
    found = []
    for checkpointed in (False, True):
        model = family_model(name)
        freeze(model, 0)
        if checkpointed:
            checkpoint_activations(model.encoder)
        model.train()
        torch.manual_seed(5)
        model(padded(rows(5, 3))).square().sum().backward()
        found.append({k: p.grad for k, p in model.named_parameters() if p.requires_grad})
        assert all(grad is not None for grad in found[-1].values())
    assert_close(found[1], found[0])


def test_freezing_adds_up_and_evaluation_leaves_it(family_model):
    model = family_model("bert")
    freeze(model, 0)
    model.freeze([model.pooler])
    model.eval().train()
    assert model.training
    assert not model.pooler.training
    assert not model.encoder.embeddings.training
    assert model.encoder.encoder.layer[0].training


def test_all_layers_may_be_frozen(family_model):
    model = family_model("modernbert")
    freeze(model, N_LAYERS)
    learning = [key for key, p in model.named_parameters() if p.requires_grad]
    assert learning == ["encoder.final_norm.weight", "head.linear.weight", "head.linear.bias"]


def test_an_encoder_without_lists_of_layers_cannot_be_frozen(family_model):
    model = family_model("bert")
    model.encoder.encoder.layer = torch.nn.Sequential(*model.encoder.encoder.layer)
    with pytest.raises(
        UserError, match="embeddings of BertModel cannot be distinguished from its layers"
    ):
        freeze(model, 0)


# --- fresh weights ----------------------------------------------------------------------------


@pytest.fixture
def trained(family_folder):
    """Function of a family's name: its encoder as loaded, with 0.5 added to every weight."""

    def encoder(name):
        model = backbone.load(family_folder(name)).encoder
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.5)
        return model

    return encoder


@pytest.mark.parametrize("name", DISTINCT)
def test_the_last_layers_are_drawn_as_their_family_does_and_all_else_stays(
    trained, family_folder, name
):
    encoder, n = trained(name), 2
    before = states(encoder)
    torch.manual_seed(0)
    reinitialise(encoder, n)
    drawn = dict(backbone.build(family_folder(name)).encoder.named_parameters())
    for key, parameter in encoder.named_parameters():
        fresh = N_LAYERS - n < depth_of(name, key) <= N_LAYERS
        assert parameter.equal(before[key]) != fresh, key
        if fresh and len(drawn[key].unique()) > 1:
            # GPT-2 draws the weights before its residual stream from a narrower distribution.
            assert parameter.std().item() == pytest.approx(drawn[key].std().item(), rel=0.4), key
            assert abs(parameter.mean()) < drawn[key].std() / 2
            assert not parameter.equal(drawn[key])
        elif fresh:  # biases 0, norms 1, or 0 where 1 is added to them
            assert parameter.equal(drawn[key]), key
            assert parameter.unique().tolist() in ([0], [1])


def test_fresh_weights_come_from_the_global_generator(trained):
    encoders = [trained("bert") for _ in range(3)]
    for encoder, seed in zip(encoders, (1, 1, 2), strict=True):
        torch.manual_seed(seed)
        reinitialise(encoder, 1)
    first, same, other = (e.encoder.layer[-1].output.dense.weight for e in encoders)
    assert first.equal(same)
    assert not first.equal(other)


def test_no_layers_means_no_fresh_weights(trained):
    encoder = trained("bert")
    before = states(encoder)
    reinitialise(encoder, 0)
    assert all(value.equal(before[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("key", ["freeze", "reinit"])
def test_more_layers_than_there_are_are_refused(family_model, key):
    act = frozen_modules if key == "freeze" else reinitialise
    line = f"train.{key}_layers is 4, but the encoder has {N_LAYERS} layers; lower it"
    with pytest.raises(UserError, match=line):
        act(family_model("bert").encoder, 4)
    line = f"train.{key}_layers is 1, but the layers of AlbertModel share .* set it to 0"
    with pytest.raises(UserError, match=line):
        act(family_model("albert").encoder, 1)
