"""Poolers that join two views of a row side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from poolblend.modeling.poolers import masked
from poolblend.modeling.poolers.contract import POOLERS, EncoderShape, Pooler, Tokens


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
