"""Encoders are tried when they are loaded: what depends on padding, on chance, on neighbours."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from poolblend.errors import UserError
from poolblend.modeling import backbone
from poolblend.modeling.padding import padding_effect


class Stand(nn.Module):
    """Embeddings, plus what `noise` makes of all tokens' states (B, T, H) and mask (B, T)."""

    def __init__(self, noise):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.noise = nn.Embedding(64, 4), noise
        self.config = SimpleNamespace(num_hidden_layers=1)

    def forward(self, input_ids, attention_mask):
        x_BTH = self.words(input_ids)
        return SimpleNamespace(last_hidden_state=x_BTH + self.noise(x_BTH, attention_mask))


@pytest.fixture(scope="module")
def tokenizer(tiny_backbone):
    return backbone.load_tokenizer(tiny_backbone)


def test_a_small_effect_of_padding_is_told_from_rounding(tokenizer):
    mean = Stand(lambda x_BTH, _: 8e-5 * x_BTH.mean(dim=1, keepdim=True))
    assert 1e-5 < padding_effect(mean, tokenizer) < 1e-3
    # Of single precision alone, as rounding is.
    rounded = Stand(
        lambda x_BTH, _: 8e-5 * x_BTH.mean(dim=1, keepdim=True) * (x_BTH.dtype == torch.float32)
    )
    assert padding_effect(rounded, tokenizer) == 0
    assert padding_effect(Stand(lambda x_BTH, _: x_BTH), tokenizer) == 0


@pytest.mark.parametrize(
    "noise",
    [
        lambda x_BTH, _: 0.1 * x_BTH.mean(dim=(0, 1)),
        lambda x_BTH, _: 0.1 * torch.randn_like(x_BTH),
    ],
    ids=["the other rows", "chance"],
)
def test_what_cannot_be_repeated_is_refused(tokenizer, noise):
    before = torch.get_rng_state()
    with pytest.raises(UserError, match="depend on the other texts of its batch, or on chance"):
        padding_effect(Stand(noise), tokenizer)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_weights_are_as_before(tokenizer):
    stand = Stand(lambda x_BTH, _: 1e-3 * x_BTH.mean(dim=1, keepdim=True))
    before = stand.words.weight.clone()
    assert padding_effect(stand, tokenizer) > 0
    assert stand.words.weight.dtype == torch.float32
    assert stand.words.weight.equal(before)


def test_an_error_while_it_is_tried_leaves_the_weights_as_they_were(tokenizer):
    class Failing(nn.Linear):
        def forward(self, x_BTH):
            assert self.weight.dtype == torch.float32
            raise RuntimeError("an operation that is missing")

    stand = Stand(lambda x_BTH, _: stand.layers[0](x_BTH))
    stand.layers = nn.ModuleList([Failing(4, 4)])
    stand.bfloat16()
    before = {name: weight.clone() for name, weight in stand.state_dict().items()}
    with pytest.raises(RuntimeError, match="an operation that is missing"):
        padding_effect(stand, tokenizer)
    assert all(weight.equal(before[name]) for name, weight in stand.state_dict().items())
    assert not stand.layers[0]._forward_hooks
    assert not stand.layers[0]._forward_pre_hooks
