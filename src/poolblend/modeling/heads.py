"""The head after the pooler: one row of logits per vector.

Shape legend: B batch, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from poolblend.modeling.options import Norm


class Head(nn.Module):
    """Dropout, an optional normalisation, a linear layer: (B, width) to (B, K)."""

    def __init__(self, width: int, n_outputs: int, dropout: float, norm: Norm) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        norms: dict[Norm, Callable[[int], nn.Module]] = {
            "none": nn.Identity,
            "layer": nn.LayerNorm,
            "batch": nn.BatchNorm1d,
        }
        self.norm = norms[norm](width)
        self.linear = nn.Linear(width, n_outputs)
        nn.init.normal_(self.linear.weight, std=0.02)  # as encoders initialise their linear layers
        nn.init.zeros_(self.linear.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        # Always in fp32: half precision would leave a few hundred distinct probabilities, ties for
        # every ranking metric, and regression values rounded to three digits.
        with torch.autocast(pooled.device.type, enabled=False):
            return self.linear(self.norm(self.dropout(pooled.float())))
