"""Poolers of each feature's extreme values, and the power mean between mean and max.

Shapes: R ranks from the largest value down.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from poolblend.errors import UserError
from poolblend.modeling.poolers import masked
from poolblend.modeling.poolers.contract import POOLERS, EncoderShape, Pooler, Tokens, whole


@POOLERS.register("max")
class Max(Pooler):
    """Each feature's largest value over the tokens."""

    def pool(self, tokens: Tokens) -> Tensor:
        return masked.maximum(tokens.hidden[0], tokens.mask_BT)


@POOLERS.register("min")
class Min(Pooler):
    """Each feature's smallest value over the tokens."""

    def pool(self, tokens: Tokens) -> Tensor:
        return masked.minimum(tokens.hidden[0], tokens.mask_BT)


@POOLERS.register("mean_kmax")
class MeanKMax(Pooler):
    """The mean of the tokens joined with the mean of each feature's k largest values.

    For a row of fewer than `k` tokens, the second half of the vector is the mean as well.
    """

    def __init__(self, shape: EncoderShape, *, k: int = 4) -> None:
        super().__init__(shape)
        self.k = whole("k", k, least=1)
        self.width = 2 * shape.hidden_size

    def pool(self, tokens: Tokens) -> Tensor:
        x_BTH, mask_BT = tokens.hidden[0], tokens.mask_BT
        ranks = min(self.k, x_BTH.shape[1])
        largest_BRH = masked.kept(x_BTH, mask_BT, -torch.inf).topk(ranks, dim=1).values
        held_BR = torch.arange(ranks, device=x_BTH.device) < masked.count(mask_BT)
        return torch.cat([masked.mean(x_BTH, mask_BT), masked.mean(largest_BRH, held_BR)], dim=1)


@POOLERS.register("gem")
class GeM(Pooler):
    """The generalised mean (mean of x^p)^(1/p), from mean to max as the learned p grows.

    Values below `FLOOR` count as `FLOOR`, as in the source, so that any p is defined: only positive
    values of a feature matter. The log of p is learned, so p stays positive; the mean is computed
    in logarithms, so that no power overflows or underflows.
    Source: Radenović et al. 2018, arXiv:1711.02512.
    """

    FLOOR = 1e-6

    def __init__(self, shape: EncoderShape, *, p: float = 3.0) -> None:
        super().__init__(shape)
        if type(p) not in (int, float) or not 0 < p < math.inf:
            raise UserError(f"p is {p!r}; set it to a number above 0")
        self.log_p = nn.Parameter(torch.tensor(math.log(p)))

    def pool(self, tokens: Tokens) -> Tensor:
        p = self.log_p.float().exp()
        x_BTH = masked.kept(tokens.hidden[0], tokens.mask_BT).float()
        powers_BTH = masked.kept(p * x_BTH.clamp(min=self.FLOOR).log(), tokens.mask_BT, -torch.inf)
        return ((powers_BTH.logsumexp(1) - masked.count(tokens.mask_BT).log()) / p).exp()
