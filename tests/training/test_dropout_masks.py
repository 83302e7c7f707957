"""Dropout from random bits: what dropout is, and what a training does with it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from poolblend.training import dropout_masks
from poolblend.training.dropout_masks import dropout_from_bits


def drop(x, p):
    with dropout_from_bits():
        return nn.Dropout(p)(x)


def attend(query, key, value, **options):
    with dropout_from_bits():
        return F.scaled_dot_product_attention(query, key, value, **options)


@pytest.fixture
def heads():
    torch.manual_seed(0)
    return [torch.randn(3, 2, 5, 8, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_p_and_the_mean_stays(p, dtype):
    torch.manual_seed(0)
    out = drop(torch.ones(1000, 1001, dtype=dtype), p)
    assert out.dtype == dtype
    assert (out == 0).float().mean().item() == pytest.approx(p, abs=0.002)
    kept = out[out != 0]
    assert (kept == kept[0]).all()
    assert kept[0].item() == pytest.approx(
        1 / (1 - p), rel=1e-2 if dtype == torch.bfloat16 else 1e-3
    )
    shares = (out == 0).double().mean(dim=0)
    assert shares.std().item() == pytest.approx((p * (1 - p) / 1000) ** 0.5, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_passes_where_the_value_did(dtype):
    x = torch.ones(50, 7, dtype=dtype, requires_grad=True)
    out = drop(x, 0.3)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_masks_come_from_torchs_generator_and_follow_each_other():
    x = torch.ones(301)
    torch.manual_seed(3)
    first, second = drop(x, 0.5), drop(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(drop(x, 0.5), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_ends_and_prediction_are_those_of_torch(p):
    x = torch.randn(5, 3)
    assert torch.equal(drop(x, p), nn.Dropout(p)(x))
    with dropout_from_bits():
        assert torch.equal(nn.Dropout(0.5).eval()(x), x)


def masks():
    seen = torch.arange(5) < torch.tensor([5, 3, 1])[:, None]
    seen_B11T = seen[:, None, None, :]
    added = torch.zeros(3, 1, 1, 5).masked_fill(~seen_B11T, torch.finfo(torch.float32).min)
    biased = torch.randn(1, 2, 5, 5) + torch.zeros(3, 1, 1, 5).masked_fill(~seen_B11T, -torch.inf)
    return {"none": None, "bool": seen_B11T, "added": added, "biased": biased}


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("mask", ["none", "bool", "added", "biased"])
def test_attention_that_drops_nothing_is_that_of_torch(heads, mask, scale, monkeypatch):
    options = {"attn_mask": masks()[mask], "scale": scale}
    expected = F.scaled_dot_product_attention(*heads, **options)
    gradients = torch.autograd.grad(expected.square().sum(), heads)
    monkeypatch.setattr(dropout_masks, "_drop", lambda input, p: input)
    got = attend(*heads, dropout_p=0.5, **options)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
    for one, other in zip(torch.autograd.grad(got.square().sum(), heads), gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_attention_drops_weights_with_its_probability(heads):
    query, key, _ = heads
    unit = torch.eye(5).expand(3, 2, 5, 5)  # so that the outputs are the weights
    weights = F.scaled_dot_product_attention(query, key, unit)
    total = sum(attend(query, key, unit, dropout_p=0.4) for _ in range(3000)) / 3000
    torch.testing.assert_close(total, weights, atol=0.05, rtol=0.1)
    once = attend(query, key, unit, dropout_p=0.4)
    kept = once != 0
    torch.testing.assert_close(once[kept], weights[kept] / 0.6, atol=1e-4, rtol=1e-4)


def test_a_token_that_may_see_nothing_stays_finite(heads):
    nothing = torch.zeros(3, 1, 5, 5, dtype=torch.bool)
    for mask in (nothing, torch.zeros(3, 1, 5, 5).masked_fill(~nothing, -torch.inf)):
        out = attend(*heads, attn_mask=mask, dropout_p=0.1)
        assert out.isfinite().all()
        assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), heads))


@pytest.mark.parametrize("options", [{"dropout_p": 0.0}, {"dropout_p": 0.2, "is_causal": True}])
def test_other_attention_is_torchs_own(heads, options):
    torch.manual_seed(1)
    expected = F.scaled_dot_product_attention(*heads, **options)
    torch.manual_seed(1)
    assert torch.equal(attend(*heads, **options), expected)


def test_a_training_on_a_cpu_draws_from_bits(build, data, fitting, monkeypatch):
    drawn = []
    own = dropout_masks._drop
    monkeypatch.setattr(
        dropout_masks, "_drop", lambda x, p: drawn.append((x.dim(), p)) or own(x, p)
    )
    list(fitting(build(dropout=0.25), data).run())
    assert {dim for dim, _ in drawn} >= {2, 3, 4}  # vectors, hidden states, attention's weights
    assert 0.25 in {p for _, p in drawn}
