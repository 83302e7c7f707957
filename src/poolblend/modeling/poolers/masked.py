"""Reductions over the tokens that count, safe in half precision.

Values that do not count are replaced, never multiplied by zero, so that NaN or infinity there reach
neither the result nor a gradient. Sums and means are float32. No product is written as a matrix
multiplication, which autocast would run in half precision.
"""

from __future__ import annotations

import torch
from torch import Tensor


def kept(x_BTH: Tensor, mask_BT: Tensor, fill: float = 0.0) -> Tensor:
    """A copy of `x_BTH` with `fill` wherever the mask is False."""
    return x_BTH.masked_fill(~mask_BT[..., None], fill)


def count(mask_BT: Tensor) -> Tensor:
    """How many tokens count, (B, 1) float32."""
    return mask_BT.sum(1, keepdim=True).float()


def first(x_BTH: Tensor, attention_BT: Tensor) -> Tensor:
    """The state of each row's first token, (B, H), with padding on either side."""
    # Of equal values argmax takes the first.
    position_B = attention_BT.int().argmax(1)
    return x_BTH[torch.arange(len(x_BTH), device=x_BTH.device), position_B]


def last(x_BTH: Tensor, attention_BT: Tensor) -> Tensor:
    """The state of each row's last token, (B, H), with padding on either side."""
    position_B = x_BTH.shape[1] - 1 - attention_BT.flip(1).int().argmax(1)
    return x_BTH[torch.arange(len(x_BTH), device=x_BTH.device), position_B]


def total(x_BTH: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum over tokens, (B, H) float32."""
    return kept(x_BTH, mask_BT).sum(1, dtype=torch.float32)


def mean(x_BTH: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over tokens, (B, H) float32."""
    return total(x_BTH, mask_BT) / count(mask_BT)


def weighted_mean(x_BTH: Tensor, weight_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over tokens by non-negative weights, (B, H) float32; the row's weights sum above 0."""
    weight_BT = weight_BT.float().masked_fill(~mask_BT, 0.0)
    share_BT = weight_BT / weight_BT.sum(1, keepdim=True)
    return (share_BT[..., None] * kept(x_BTH, mask_BT)).sum(1)


def maximum(x_BTH: Tensor, mask_BT: Tensor) -> Tensor:
    """Largest value of each feature, (B, H); tied tokens share the gradient."""
    return kept(x_BTH, mask_BT, -torch.inf).amax(1)


def minimum(x_BTH: Tensor, mask_BT: Tensor) -> Tensor:
    """Smallest value of each feature, (B, H); tied tokens share the gradient."""
    return kept(x_BTH, mask_BT, torch.inf).amin(1)
