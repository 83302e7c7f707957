from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from poolblend.modeling import backbone
from poolblend.modeling.model import Batch, States, TextModel, Windows, build_model
from poolblend.modeling.poolers import EncoderShape, build_pooler
from poolblend.training.batches import to_device

SETTINGS = dict(pooler_args={}, mask="attention", n_outputs=3, dropout=0.0, norm="none")


@pytest.fixture
def base(tiny_backbone):
    return backbone.load(tiny_backbone)


def batch(rows=((2, 5, 6, 7, 3), (2, 8, 3)), width=8, pad=0):
    """Token ids 2 and 3 are [CLS] and [SEP]; the rest of a row is content."""
    ids = torch.full((len(rows), width), pad)
    attention = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        attention[i, : len(row)] = True
    return Batch(ids, attention, attention & (ids != 2) & (ids != 3))


def model_of(base, **changes):
    torch.manual_seed(0)
    return build_model(base, **{"pooler": "mean", **SETTINGS, **changes})[0].eval()


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_logits_are_one_row_per_text_and_do_not_depend_on_padding(base, norm):
    model = model_of(base, norm=norm)
    logits = model(batch())
    assert logits.shape == (2, 3)
    torch.testing.assert_close(logits, model(batch(width=12, pad=9)))
    torch.testing.assert_close(logits[:1], model(batch(rows=((2, 5, 6, 7, 3),), width=5)))


def test_the_mask_says_which_tokens_count(base):
    pooled = {
        mask: model_of(base, mask=mask).pool(batch()) for mask in ("attention", "content", "none")
    }
    hidden = base.encoder(
        input_ids=batch().ids_BT, attention_mask=batch().attention_BT.long()
    ).last_hidden_state
    torch.testing.assert_close(pooled["attention"][0], hidden[0, :5].mean(dim=0))
    torch.testing.assert_close(pooled["content"][0], hidden[0, 1:4].mean(dim=0))
    torch.testing.assert_close(pooled["none"][0], hidden[0].mean(dim=0))


def test_an_empty_text_pools_its_special_tokens(base):
    model = model_of(base, mask="content")
    empty = batch(rows=((2, 3), (2, 5, 3)))
    hidden = base.encoder(
        input_ids=empty.ids_BT, attention_mask=empty.attention_BT.long()
    ).last_hidden_state
    torch.testing.assert_close(model.pool(empty)[0], hidden[0, :2].mean(dim=0))


def test_pooler_output_is_transformers_own(base, tiny_backbone):
    from transformers import AutoModel

    whole = AutoModel.from_pretrained(tiny_backbone, dtype=torch.float32).eval()
    expected = whole(
        input_ids=batch().ids_BT, attention_mask=batch().attention_BT.long()
    ).pooler_output
    model, adopted = build_model(base, **{"pooler": "pooler_output", **SETTINGS})
    assert adopted
    torch.testing.assert_close(model.eval().pool(batch()), expected)


def test_a_pooler_that_finds_no_own_one_says_so(base):
    bare = replace(base, own_pooler=None)
    assert not build_model(bare, **{"pooler": "pooler_output", **SETTINGS})[1]


def test_the_head_computes_in_full_precision_under_autocast(base):
    model = model_of(base)
    model.head.linear.bias.data.fill_(1000.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch())
    assert logits.dtype == torch.float32
    assert (logits != 1000.0).all()


def test_the_types_of_a_pairs_tokens_reach_an_encoder_that_knows_several(base):
    model, types_BT = model_of(base), torch.tensor([[0, 0, 1, 1, 1, 0, 0, 0]] * 2)
    typed = batch()._replace(types_BT=types_BT)
    hidden = base.encoder(
        input_ids=typed.ids_BT, attention_mask=typed.attention_BT.long(), token_type_ids=types_BT
    ).last_hidden_state
    torch.testing.assert_close(model.pool(typed)[0], hidden[0, :5].mean(dim=0))
    assert not torch.allclose(model.pool(typed), model.pool(batch()))


@pytest.mark.parametrize("config", [{"type_vocab_size": 1}, {}])
def test_types_reach_no_encoder_that_knows_one_or_none(config):
    """RoBERTa knows one; DistilBERT and GPT-2 do not state a number."""

    class Encoder(torch.nn.Module):
        def forward(self, input_ids, attention_mask, output_hidden_states):
            return SimpleNamespace(last_hidden_state=torch.zeros(*input_ids.shape, 4))

    encoder = Encoder()
    encoder.config = SimpleNamespace(**config)
    pooler = build_pooler("mean", EncoderShape(hidden_size=4, n_layers=1, vocab_size=9), {})
    model = TextModel(encoder, pooler, torch.nn.Identity(), "attention")
    typed = batch()._replace(types_BT=torch.ones(2, 8, dtype=torch.long))
    assert model.pool(typed).shape == (2, 4)


def test_states_are_read_from_where_the_windows_hold_them(base):
    model = model_of(base)
    ids_WT = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    windows = Windows(ids_WT, ids_WT != 0, torch.tensor([[0, 1, 2, 5, 6]]))
    windowed = batch(rows=((2, 5, 6, 7, 3),), width=5)._replace(windows=windows)
    hidden = base.encoder(input_ids=ids_WT, attention_mask=(ids_WT != 0).long()).last_hidden_state
    expected = torch.cat([hidden[0, :3], hidden[1, 1:3]]).mean(dim=0)
    torch.testing.assert_close(model.pool(windowed)[0], expected)


def test_a_batch_moves_as_a_whole():
    whole = batch()._replace(
        types_BT=batch().ids_BT,
        columns_BF=torch.zeros(2, 3),
        windows=Windows(*batch()[:3]),
        states=States((0, 1), torch.zeros(2, 2, 8, 4)),
    )
    moved = to_device(whole, torch.device("meta"))
    tensors = [*moved[:5], *moved.windows[:3], moved.states.x_LBTH]
    assert [tensor.device.type for tensor in tensors] == ["meta"] * 9
    assert [tuple(tensor.shape) for tensor in tensors[3:5]] == [(2, 8), (2, 3)]
    moved = to_device(batch(), torch.device("meta"))
    assert moved[3:] == (None,) * len(moved[3:])
