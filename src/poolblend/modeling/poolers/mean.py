"""Poolers that average the tokens."""

from __future__ import annotations

from torch import Tensor

from poolblend.modeling.poolers import masked
from poolblend.modeling.poolers.contract import POOLERS, Pooler, Tokens


@POOLERS.register("mean")
class Mean(Pooler):
    """The mean of the tokens."""

    def pool(self, tokens: Tokens) -> Tensor:
        return masked.mean(tokens.hidden[0], tokens.mask_BT)


@POOLERS.register("mean_sqrt_len")
class MeanSqrtLen(Pooler):
    """The sum of the tokens over the square root of their number, so that length still shows.

    Source: Cer et al. 2018, Universal Sentence Encoder, arXiv:1803.11175.
    """

    def pool(self, tokens: Tokens) -> Tensor:
        total_BH = masked.total(tokens.hidden[0], tokens.mask_BT)
        return total_BH / masked.count(tokens.mask_BT).sqrt()
