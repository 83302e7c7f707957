"""Heads after the pooler: a trained linear layer, or a scikit-learn model as tensors.

Shapes: F features, L logits, S support vectors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolblend.modeling.options import FrozenKind, Norm

SUPPORT = "support_SF"  # one row per support vector


class Head(nn.Module):
    """Dropout, an optional normalisation, a linear layer: (B, width) to (B, L)."""

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


class Standardise(nn.Module):
    """(x - mean) / scale of each feature."""

    mean_F: Tensor
    scale_F: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(width))
        self.register_buffer("scale_F", torch.ones(width))

    def forward(self, x_BF: Tensor) -> Tensor:
        return (x_BF - self.mean_F) / self.scale_F


class LinearHead(nn.Module):
    """A linear layer over standardised features, (B, F) to (B, L): ridge and logistic."""

    def __init__(self, width: int, n_outputs: int) -> None:
        super().__init__()
        self.standardise = Standardise(width)
        self.linear = nn.Linear(width, n_outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        with torch.autocast(pooled.device.type, enabled=False):
            x_BF = self.standardise(_precise(pooled))
            weight_LF, bias_L = self.linear.weight.to(x_BF), self.linear.bias.to(x_BF)
            return F.linear(x_BF, weight_LF, bias_L).float()


class KernelHead(nn.Module):
    """Support vector regression with an RBF kernel over standardised features, (B, F) to (B, L).

    exp(-gamma |x - s|^2) summed over the support vectors s, which the outputs share, by each
    output's dual coefficients, plus its intercept.
    """

    support_SF: Tensor
    dual_LS: Tensor
    intercept_L: Tensor
    gamma: Tensor

    def __init__(self, width: int, n_outputs: int, n_support: int) -> None:
        super().__init__()
        self.standardise = Standardise(width)
        self.register_buffer("support_SF", torch.zeros(n_support, width))
        self.register_buffer("dual_LS", torch.zeros(n_outputs, n_support))
        self.register_buffer("intercept_L", torch.zeros(n_outputs))
        self.register_buffer("gamma", torch.ones(()))

    def forward(self, pooled: Tensor) -> Tensor:
        with torch.autocast(pooled.device.type, enabled=False):
            x_BF = self.standardise(_precise(pooled))
            kernel_BS = torch.exp(-self.gamma * torch.cdist(x_BF, self.support_SF.to(x_BF)) ** 2)
            return (kernel_BS @ self.dual_LS.to(x_BF).T + self.intercept_L).float()


def _precise(x: Tensor) -> Tensor:
    """As float64, so that no row's prediction depends on its batch; Apple's GPUs have none."""
    return x.float() if x.device.type == "mps" else x.double()


def empty_head(
    kind: FrozenKind, width: int, n_outputs: int, n_support: int = 0
) -> LinearHead | KernelHead:
    """A head of the kind whose weights are still to be set or loaded."""
    if kind == "svr":
        return KernelHead(width, n_outputs, n_support)
    return LinearHead(width, n_outputs)
