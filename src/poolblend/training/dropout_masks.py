"""Dropout on a CPU from 16 random bits a value: half the time of torch's own, which draws 32.

The bits come from torch's global generator, so that a training resumes to the same bits.

Shape legend: B rows, A attention heads, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 2**16  # of the probability; the scale is that of the level
TORCHS_DROPOUT, TORCHS_ATTENTION = F.dropout, F.scaled_dot_product_attention


@contextmanager
def dropout_from_bits() -> Iterator[None]:
    """Inside this context every dropout on a CPU draws so, in all threads; attention's, too.

    torch's attention computes in fp32 where there is dropout; here it stays in bf16 under autocast.
    torch's functions are replaced meanwhile: its function modes do not reach what gradient
    checkpointing computes again.
    """
    F.dropout, F.scaled_dot_product_attention = _dropout, _attention
    try:
        yield
    finally:
        F.dropout, F.scaled_dot_product_attention = TORCHS_DROPOUT, TORCHS_ATTENTION


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or inplace or not _can_draw(input, p):
        return TORCHS_DROPOUT(input, p, training, inplace)
    return _drop(input, p)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """torch's scaled_dot_product_attention; tokens that may see none get any finite values."""
    if is_causal or enable_gqa or not _can_draw(query, dropout_p):
        return TORCHS_ATTENTION(
            query,
            key,
            value,
            attn_mask,
            dropout_p,
            is_causal,
            scale=scale,
            enable_gqa=enable_gqa,
        )
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    score_BATT = (query * scale) @ key.transpose(-2, -1)
    lowest = torch.finfo(score_BATT.dtype).min
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        score_BATT = score_BATT.masked_fill(~attn_mask, lowest)
    elif attn_mask is not None:
        score_BATT = score_BATT + attn_mask.clamp(min=lowest)
    return _drop(score_BATT.softmax(dim=-1), dropout_p) @ value


def _drop(input: Tensor, p: float) -> Tensor:
    dropped = _level(p)
    kept = _random_bits(input.numel()).view(input.shape) >= dropped - LEVELS // 2
    scale = LEVELS / (LEVELS - dropped)
    if input.dtype in (torch.bfloat16, torch.float16):  # a mask would round the scale
        return torch.where(kept, input, 0).mul_(scale)
    return input * torch.where(kept, scale, 0.0)


def _can_draw(input: Tensor, p: float) -> bool:
    on_cpu = input.device.type == "cpu" and input.is_floating_point()
    return on_cpu and 0 < _level(p) < LEVELS


def _level(p: float) -> int:
    return round(p * LEVELS)


def _random_bits(n: int) -> Tensor:
    """`n` random int16."""
    four = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None)
    return four.view(torch.int16)[:n]
