import pytest
import torch

from poolblend.modeling import backbone
from poolblend.modeling.model import Batch, build_model

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
    bare = backbone.Backbone(base.encoder, base.tokenizer, base.shape, None)
    assert not build_model(bare, **{"pooler": "pooler_output", **SETTINGS})[1]


def test_the_head_computes_in_full_precision_under_autocast(base):
    model = model_of(base)
    model.head.linear.bias.data.fill_(1000.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch())
    assert logits.dtype == torch.float32
    assert (logits != 1000.0).all()


@pytest.mark.parametrize("pooler", ["mean", "pooler_output", "weighted_layer", "concat_layers"])
def test_every_parameter_receives_a_gradient(base, pooler):
    model = model_of(base, pooler=pooler, pooler_args={"n": 2} if pooler == "concat_layers" else {})
    model.train()
    model(batch()).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
