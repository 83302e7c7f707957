"""Reading on from stored hidden states gives what reading the whole encoder gives."""

import pytest
import torch
from torch.testing import assert_close

from poolblend.modeling.frozen import pass_over
from poolblend.modeling.layers import checkpoint_activations, frozen_modules, unchanged_layers
from poolblend.modeling.model import States
from rig.families import DECODERS, FAMILIES, N_LAYERS

# T5's first layer makes the bias of all; DeBERTa's convolution is beside its first layer; ALBERT's
# layers are one.
BELOW_ALL = {"t5": range(1, N_LAYERS), "mt5": range(1, N_LAYERS), "deberta-v2": range(1, 2)}
BELOW_ALL |= {"albert": range(1, N_LAYERS)}
PARTLY = [
    (name, depth)
    for name in FAMILIES
    for depth in range(1, N_LAYERS)
    if depth not in BELOW_ALL.get(name, ())
]


def with_states(model, batch, depth):
    """The batch with the states of the first `depth` layers, read from the encoder itself."""
    layers = model.stored_layers(depth)
    with torch.no_grad():
        x_LSH = torch.stack(model.token_states(batch, layers))
    x_LBTH = x_LSH.new_zeros(len(layers), *batch.attention_BT.shape, x_LSH.shape[-1])
    x_LBTH[:, batch.attention_BT] = x_LSH
    return batch._replace(states=States(layers, x_LBTH))


@pytest.mark.parametrize(("pooler", "side"), [("mean", "left"), ("weighted_layer", "right")])
@pytest.mark.parametrize(("name", "depth"), PARTLY)
@torch.no_grad()
def test_layers_above_the_stored_ones_give_the_same_vectors(
    family_model, rows, padded, name, depth, side, pooler
):
    model = family_model(name, side=side, pooler=pooler).eval()
    batch = padded(rows(9, 1, 5), side=side, extra=1)
    whole = model.pool(batch)
    given = with_states(model, batch, depth)
    model.passed_over = pass_over(model.encoder, depth)
    assert_close(model.pool(given), whole, rtol=1e-6, atol=1e-6)
    # The states are what is read: others give other vectors.
    moved = given._replace(states=States(given.states.layers, -given.states.x_LBTH))
    assert (model.pool(moved) - whole).abs().max() > 1e-3
    # Without states the same model computes all its layers.
    assert model.pool(batch).equal(whole)


@pytest.mark.parametrize("pooler", ["mean", "concat_layers"])
@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_where_all_layers_are_stored_the_encoder_is_not_read(
    family_model, rows, padded, monkeypatch, name, pooler
):
    model = family_model(name, pooler=pooler).eval()
    batch = padded(rows(9, 1, 5))
    whole, given = model.pool(batch), with_states(model, batch, N_LAYERS)
    monkeypatch.setattr(model.encoder, "forward", None)
    assert_close(model.pool(given), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "depths"), BELOW_ALL.items())
def test_an_encoder_whose_layers_depend_on_passed_ones_is_noticed(family_model, name, depths):
    encoder = family_model(name).eval().encoder
    assert [depth for depth in range(1, N_LAYERS) if pass_over(encoder, depth) is None] == [*depths]


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("name", ["bert", "modernbert", "bart", "deberta-v3"])
def test_gradients_above_frozen_layers_are_those_without_stored_states(
    family_model, rows, padded, name, checkpointed
):
    found = []
    for stored in (False, True):
        model = family_model(name)
        model.freeze(frozen_modules(model.encoder, 2))
        if checkpointed:
            checkpoint_activations(model.encoder)
        batch = padded(rows(9, 1, 5))
        if stored:
            batch = with_states(model.eval(), batch, 2)
            model.passed_over = pass_over(model.encoder, 2)
        for module in model.train().modules():  # other masks would be drawn
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            for probability in ("dropout", "attention_dropout", "dropout_prob"):
                if isinstance(getattr(module, probability, None), float):
                    setattr(module, probability, 0.0)
        model(batch).square().sum().backward()
        found.append([p.grad for p in model.parameters() if p.requires_grad])
    assert len(found[0]) > 2
    for plain, given in zip(*found, strict=True):
        assert_close(given, plain, rtol=1e-5, atol=1e-6)


def test_a_trial_draws_no_random_number_and_leaves_the_encoder_as_it_was(family_model):
    encoder = family_model("bert").eval().encoder
    before = torch.get_rng_state()
    methods = [layer.forward.__func__ for layer in encoder.encoder.layer]
    assert pass_over(encoder, 1) is not None
    assert torch.get_rng_state().equal(before)
    assert [layer.forward.__func__ for layer in encoder.encoder.layer] == methods


@pytest.mark.parametrize("name", FAMILIES)
def test_a_norm_that_learns_above_all_layers_keeps_the_last_from_being_stored(family_model, name):
    encoder = family_model(name).encoder
    normed = (*DECODERS, "modernbert", "t5", "mt5", "umt5", "mbart", "pegasus", "m2m100")
    assert unchanged_layers(encoder, N_LAYERS) == N_LAYERS - (name in normed)
    assert unchanged_layers(encoder, 1) == 1
