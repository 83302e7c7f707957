"""The laws that every registered pooler keeps; registering enrols it, with its default arguments.

Shapes: L layers, B rows, T tokens, H hidden units.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from poolblend.config import Config
from poolblend.config.members import MemberSpec, counts_tokens
from poolblend.modeling.poolers import POOLERS, EncoderShape, Pooler, Tokens, build_pooler

SHAPE = EncoderShape(hidden_size=8, n_layers=5, vocab_size=40)
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("attention", {"hidden": 5}),
    ("concat_layers", {"n": 1}),
    ("gem", {"p": 0.5}),
    ("mean_kmax", {"k": 1}),
    ("mean_kmax", {"k": 99}),
    ("weighted", {"by": "features"}),
    ("weighted_layer", {"layer_start": 0, "tokens": "cls"}),
]
CASES = [(name, {}) for name in POOLERS] + VARIANTS
HALVES = [torch.bfloat16, torch.float16]

every_pooler = pytest.mark.parametrize(("name", "args"), CASES, ids=lambda part: str(part or "-"))
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)


class Row(NamedTuple):
    """An unpadded row; its first and last token may be special ones that do not count."""

    hidden_LTH: Tensor
    ids_T: Tensor
    counted_T: Tensor


def make_rows(lengths: tuple[int, ...] = (1, 6, 3, 2, 5), scale: float = 1.0) -> list[Row]:
    """One row per length, every second one with special tokens that do not count."""
    random = torch.Generator().manual_seed(0)
    rows = []
    for place, n in enumerate(lengths):
        hidden_LTH = scale * torch.randn(SHAPE.n_states, n, SHAPE.hidden_size, generator=random)
        counted_T = torch.ones(n, dtype=torch.bool)
        if place % 2 and n > 2:
            counted_T[[0, -1]] = False
        ids_T = torch.randint(1, SHAPE.vocab_size, (n,), generator=random)
        rows.append(Row(hidden_LTH, ids_T, counted_T))
    return rows


ROWS = make_rows()


def batch(
    pooler: Pooler,
    rows: list[Row],
    dtype: torch.dtype = torch.float32,
    *,
    left: bool = False,
    extra: int = 0,
    fill: float = 0.0,
) -> Tokens:
    """The rows side by side, padded with `fill` to the longest and `extra` tokens more."""
    b, t = len(rows), max(len(row.ids_T) for row in rows) + extra
    hidden_LBTH = torch.full((SHAPE.n_states, b, t, SHAPE.hidden_size), fill)
    mask_BT, attention_BT = torch.zeros(2, b, t, dtype=torch.bool)
    ids_BT = torch.zeros(b, t, dtype=torch.long)
    for place, row in enumerate(rows):
        n = len(row.ids_T)
        held = slice(t - n, t) if left else slice(n)
        hidden_LBTH[:, place, held] = row.hidden_LTH
        mask_BT[place, held] = row.counted_T
        attention_BT[place, held] = True
        ids_BT[place, held] = row.ids_T
    hidden = tuple(hidden_LBTH[layer].to(dtype).requires_grad_() for layer in pooler.layers)
    return Tokens(hidden, mask_BT, attention_BT, ids_BT)


def make(name: str, args: dict[str, Any]) -> Pooler:
    """The pooler, fitted, its parameters moved away from where they start."""
    torch.manual_seed(0)
    pooler = build_pooler(name, SHAPE, args)
    pooler.fit([row.ids_T.numpy() for row in ROWS])
    with torch.no_grad():
        for parameter in pooler.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return pooler


def backward(out: Tensor) -> None:
    """Gradients of a loss that every part of the output has its own say in."""
    weights = torch.linspace(-1, 2, out.numel()).view_as(out)
    (out.float() * weights).sum().backward()


@every_dtype
@every_pooler
def test_output_has_the_declared_width_and_dtype_and_is_finite(name, args, dtype):
    pooler = make(name, args)
    assert all(-SHAPE.n_states <= layer < SHAPE.n_states for layer in pooler.layers)
    for rows in (ROWS, make_rows((1,)), make_rows((6, 6), scale=1e3), make_rows((1, 1), scale=0)):
        out = pooler(batch(pooler, rows, dtype))
        assert out.shape == (len(rows), pooler.width)
        assert out.dtype == dtype
        assert out.isfinite().all()


@every_dtype
@every_pooler
def test_padding_content_and_length_and_side_change_nothing(name, args, dtype):
    pooler = make(name, args)
    expected = pooler(batch(pooler, ROWS, dtype))
    for left in (False, True):
        for fill in (3e4, -3e4, math.inf, math.nan):
            assert_close(
                pooler(batch(pooler, ROWS, dtype, left=left, extra=3, fill=fill)), expected
            )


@every_dtype
@every_pooler
def test_row_order_is_irrelevant(name, args, dtype):
    pooler = make(name, args)
    out = pooler(batch(pooler, ROWS, dtype))
    assert_close(pooler(batch(pooler, ROWS[::-1], dtype)), out.flip(0))


@every_pooler
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple),
    left=st.booleans(),
    extra=st.integers(0, 4),
)
def test_a_row_in_a_batch_equals_the_row_alone(name, args, lengths, left, extra):
    pooler = make(name, args)
    rows = make_rows(lengths)
    alone = torch.cat([pooler(batch(pooler, [row])) for row in rows])
    assert_close(pooler(batch(pooler, rows, left=left, extra=extra, fill=9.0)), alone)


@pytest.mark.parametrize(("name", "args"), CASES, ids=lambda part: str(part or "-"))
def test_the_config_knows_which_poolers_do_not_read_the_mask(name, args):
    pooler = build_pooler(name, SHAPE, args).eval()
    tokens = batch(pooler, ROWS)
    all_count = tokens._replace(mask_BT=tokens.attention_BT)
    spec = MemberSpec(pooler=name, pooler_args=args)
    (member,) = Config(members=[spec]).resolve_members()
    assert counts_tokens(member) == (not torch.equal(pooler(tokens), pooler(all_count)))


@every_dtype
@every_pooler
def test_the_input_is_not_modified(name, args, dtype):
    pooler = make(name, args)
    tokens, untouched = (batch(pooler, ROWS, dtype, extra=2, fill=7.0) for _ in range(2))
    pooler(tokens)
    assert_close(tokens, untouched, rtol=0, atol=0)


@every_dtype
@every_pooler
def test_gradient_is_finite_and_reaches_no_padding_and_nothing_uncounted(name, args, dtype):
    pooler = make(name, args)
    for left in (False, True):
        tokens = batch(pooler, ROWS, dtype, left=left, extra=2, fill=math.nan)
        backward(pooler(tokens))
        order_BT = tokens.attention_BT.cumsum(1)
        place_B1 = order_BT[:, -1:] if name == "last" else 1  # of the one token read uncounted
        read_BT = tokens.attention_BT & (order_BT == place_B1)
        for x_BTH in tokens.hidden:
            assert x_BTH.grad.isfinite().all()
            assert not x_BTH.grad[~(tokens.mask_BT | read_BT)].any()
            assert x_BTH.grad.flatten(1).any(1).all()
        assert all(p.grad.isfinite().all() for p in pooler.parameters())


@every_dtype
@every_pooler
def test_every_parameter_is_saved_and_receives_a_gradient(name, args, dtype):
    pooler = make(name, args)
    plain = [v for m in pooler.modules() for v in vars(m).values() if isinstance(v, Tensor)]
    assert not plain, "a tensor that is neither parameter nor buffer is not saved"
    backward(pooler(batch(pooler, ROWS, dtype)))
    for key, parameter in pooler.named_parameters():
        assert key in pooler.state_dict()
        assert parameter.grad.any(), key


@every_pooler
def test_saving_and_loading_gives_the_same_numbers(name, args):
    pooler = make(name, args)
    other = build_pooler(name, SHAPE, args)
    other.load_state_dict(safetensors.torch.load(safetensors.torch.save(pooler.state_dict())))
    tokens = batch(pooler, ROWS)
    assert_close(other(tokens), pooler(tokens), rtol=0, atol=0)


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("kept_in", ["float32", "half", "autocast"])
@every_pooler
def test_half_precision_agrees_with_full_and_trains(name, args, kept_in, half):
    """Parameters in float32, in half, or in float32 under autocast, as the training loop has it."""
    pooler = make(name, args)
    expected = pooler(batch(pooler, ROWS))
    pooler.to(half if kept_in == "half" else torch.float32)
    for dtype in (half, torch.float32):
        with torch.autocast("cpu", half) if kept_in == "autocast" else nullcontext():
            out = pooler(batch(pooler, ROWS, dtype))
        assert out.dtype == dtype
        assert_close(out.float(), expected, rtol=0.05, atol=0.05)
        pooler.zero_grad()
        backward(out)
        assert all(p.grad.isfinite().all() and p.grad.any() for p in pooler.parameters())


@pytest.mark.parametrize("half", HALVES, ids=str)
@every_pooler
def test_reductions_of_long_rows_keep_float32_accuracy(name, args, half):
    """A half-precision sum of 3000 tokens near 50 overflows (fp16) or stands still (bf16)."""
    pooler = make(name, args)
    (row,) = make_rows((3000,))
    tokens = batch(pooler, [row._replace(hidden_LTH=row.hidden_LTH + 50)], half)
    full = pooler(tokens._replace(hidden=tuple(x_BTH.float() for x_BTH in tokens.hidden)))
    assert_close(pooler(tokens), full.to(half), rtol=torch.finfo(half).eps, atol=1e-6)


@pytest.mark.parametrize("half", HALVES, ids=str)
@every_pooler
def test_autocast_rounds_linear_layers_and_nothing_else(name, args, half, monkeypatch):
    pooler = make(name, args)
    tokens = batch(pooler, ROWS)
    expected = pooler(tokens)
    rounding = F.linear

    def exact(*operands):
        with torch.autocast("cpu", enabled=False):
            return rounding(*operands)

    monkeypatch.setattr(F, "linear", exact)
    with torch.autocast("cpu", half):
        assert_close(pooler(tokens), expected)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("name", "args"), [("attention", {}), ("weighted", {"by": "features"})])
def test_scores_of_any_size_leave_a_row_its_own_finite_mean(name, args, sign):
    pooler = make(name, args)
    with torch.no_grad():
        for parameter in pooler.parameters():
            parameter.mul_(1e4)
        parameter.mul_(sign)
    rows = make_rows((6, *[1] * 9))
    alone = torch.cat([pooler(batch(pooler, [row])) for row in rows])
    assert alone.isfinite().all()
    assert_close(pooler(batch(pooler, rows)), alone)
