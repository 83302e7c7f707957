"""Dropout from random bits: what dropout is, and what a training does with it."""

import pytest
import torch
from torch import nn

from poolblend.training.dropout_masks import BitDropout, draw_from_bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_p_and_the_mean_stays(p, dtype):
    torch.manual_seed(0)
    out = BitDropout(p)(torch.ones(1000, 1001, dtype=dtype))
    assert out.dtype == dtype
    assert (out == 0).float().mean().item() == pytest.approx(p, abs=0.002)
    kept = out[out != 0]
    assert (kept == kept[0]).all()
    assert kept[0].item() == pytest.approx(
        1 / (1 - p), rel=1e-2 if dtype == torch.bfloat16 else 1e-3
    )
    shares = (out == 0).double().mean(dim=0)
    assert shares.std().item() == pytest.approx((p * (1 - p) / 1000) ** 0.5, rel=0.1)


def test_the_gradient_passes_where_the_value_did():
    x = torch.ones(50, 7, requires_grad=True)
    out = BitDropout(0.3)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_masks_come_from_torchs_generator_and_follow_each_other():
    drop, x = BitDropout(0.5), torch.ones(301)
    torch.manual_seed(3)
    first, second = drop(x), drop(x)
    torch.manual_seed(3)
    assert torch.equal(drop(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_ends_and_prediction_are_those_of_torch(p):
    x = torch.randn(5, 3)
    assert torch.equal(BitDropout(p)(x), nn.Dropout(p)(x))
    assert torch.equal(BitDropout(0.5).eval()(x), x)


def test_a_training_on_a_cpu_draws_from_bits_and_keeps_each_probability(build, data, fitting):
    model = build(dropout=0.25)
    before = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    fitting(model, data)
    drops = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in drops] == before
    assert {type(m) for m in drops} == {BitDropout}
    draw_from_bits(model)
    assert model.state_dict().keys() == build(dropout=0.25).state_dict().keys()
