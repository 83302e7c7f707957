"""What a frozen encoder keeps: its embeddings and first layers, whatever the training does."""

import pytest
import torch
from torch.testing import assert_close

from poolblend.errors import UserError
from poolblend.modeling.checkpointing import checkpoint_activations
from poolblend.modeling.freezing import freeze
from poolblend.training.optimizers import OPTIMIZERS, parameter_groups
from rig.families import FAMILIES, N_LAYERS, depth_of

every_family = pytest.mark.parametrize("name", FAMILIES)
WITHOUT_DROPOUT = ("albert", "modernbert", "llama", "qwen3", "mistral", "gemma")
RATES = dict(lr=1e-2, head_lr=1e-2, weight_decay=0.1)


def depth_for(name, n_layers):
    """As many layers as can be frozen of this family."""
    return n_layers if FAMILIES[name].layers else 0


@every_family
def test_frozen_weights_stay_and_all_others_change(family_model, rows, padded, name):
    model, n = family_model(name, pooler="attention"), depth_for(name, 2)
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
def test_what_is_frozen_gives_the_same_states_in_every_training_pass(
    family_model, rows, padded, name
):
    model, n = family_model(name), depth_for(name, 1)
    freeze(model, n)
    batch = padded(rows(7, 4))
    model.eval()
    states = [_states(model, batch)]
    for _ in range(2):
        model.train()
        states.append(_states(model, batch))
    for layer in range(n + 1):
        assert_close(states[1][layer], states[0][layer], rtol=0, atol=0)
        assert_close(states[2][layer], states[0][layer], rtol=0, atol=0)
    if name not in WITHOUT_DROPOUT:
        assert not torch.equal(states[1][-1], states[2][-1])


def _states(model, batch):
    inputs = dict(input_ids=batch.ids_BT, attention_mask=batch.attention_BT.long())
    return model.encoder(**inputs, output_hidden_states=True).hidden_states


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


@pytest.mark.parametrize(
    ("name", "n", "line"),
    [
        ("bert", 4, f"train.freeze_layers is 4, but the encoder has {N_LAYERS} layers"),
        (
            "albert",
            1,
            "train.freeze_layers is 1, but the layers of AlbertModel share .* set it to 0",
        ),
    ],
)
def test_more_layers_than_can_be_frozen_are_refused(family_model, name, n, line):
    with pytest.raises(UserError, match=line):
        freeze(family_model(name), n)


def test_all_layers_may_be_frozen(family_model):
    model = family_model("modernbert")
    freeze(model, N_LAYERS)
    learning = [key for key, p in model.named_parameters() if p.requires_grad]
    assert learning == ["encoder.final_norm.weight", "head.linear.weight", "head.linear.bias"]


def test_an_encoder_without_lists_of_layers_cannot_be_frozen(family_model):
    model = family_model("bert")
    model.encoder.encoder.layer = torch.nn.Sequential(*model.encoder.encoder.layer)
    with pytest.raises(
        UserError, match="the embeddings of BertModel cannot be told from its layers"
    ):
        freeze(model, 0)
