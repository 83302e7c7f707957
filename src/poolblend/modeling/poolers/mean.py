"""Poolers that average the tokens, alone or joined with a second vector."""

from __future__ import annotations

import torch
from torch import Tensor

from poolblend.modeling.poolers import masked
from poolblend.modeling.poolers.contract import POOLERS, EncoderShape, Pooler, Tokens


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


@POOLERS.register("cls_mean")
class ClsMean(Pooler):
    """The first token joined with the mean of the tokens."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__(shape)
        self.width = 2 * shape.hidden_size

    def pool(self, tokens: Tokens) -> Tensor:
        (x_BTH,) = tokens.hidden
        first_BH = masked.first(x_BTH, tokens.attention_BT)
        return torch.cat([first_BH, masked.mean(x_BTH, tokens.mask_BT)], dim=1)


@POOLERS.register("mean_max")
class MeanMax(Pooler):
    """The mean of the tokens joined with each feature's largest value."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__(shape)
        self.width = 2 * shape.hidden_size

    def pool(self, tokens: Tokens) -> Tensor:
        x_BTH, mask_BT = tokens.hidden[0], tokens.mask_BT
        return torch.cat([masked.mean(x_BTH, mask_BT), masked.maximum(x_BTH, mask_BT)], dim=1)
