"""Poolers that read several layers of the encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poolblend.errors import unknown
from poolblend.modeling.poolers import masked
from poolblend.modeling.poolers.contract import POOLERS, EncoderShape, Pooler, Tokens, whole


@POOLERS.register("weighted_layer")
class WeightedLayer(Pooler):
    """A learned mixture of the layers from layer_start up, of their mean or first tokens.

    The weights are a softmax, equal at first. `layer_start` counts the embeddings as 0, negative
    from the end; by default the last four, or all there are. Source: the scalar mix of Peters et
    al. 2018 (ELMo), arXiv:1802.05365.
    """

    def __init__(
        self, shape: EncoderShape, *, layer_start: int | None = None, tokens: str = "mean"
    ) -> None:
        super().__init__(shape)
        if layer_start is None:
            layer_start = max(0, shape.n_states - 4)
        start = whole("layer_start", layer_start, least=-shape.n_states, most=shape.n_layers)
        if tokens not in ("mean", "cls"):
            raise unknown("choice", tokens, ("mean", "cls"), "in 'tokens'")
        self.over = tokens
        self.layers = tuple(range(start % shape.n_states, shape.n_states))
        self.weight_L = nn.Parameter(torch.zeros(len(self.layers)))

    def pool(self, tokens: Tokens) -> Tensor:
        # Mixing commutes with averaging tokens; done last, it never holds (L, B, T, H).
        if self.over == "mean":
            pooled = [masked.mean(x_BTH, tokens.mask_BT) for x_BTH in tokens.hidden]
        else:
            pooled = [masked.first(x_BTH, tokens.attention_BT) for x_BTH in tokens.hidden]
        share_L = self.weight_L.float().softmax(0)
        return (share_L[:, None, None] * torch.stack(pooled)).sum(0)


@POOLERS.register("concat_layers")
class ConcatLayers(Pooler):
    """The first token of the last n layers, joined.

    By default of the last four, or of all there are. Source: Devlin et al. 2019 (BERT), section
    5.3, arXiv:1810.04805.
    """

    def __init__(self, shape: EncoderShape, *, n: int | None = None) -> None:
        super().__init__(shape)
        depth = min(4, shape.n_states) if n is None else whole("n", n, 1, shape.n_states)
        self.layers = tuple(range(-depth, 0))
        self.width = depth * shape.hidden_size

    def pool(self, tokens: Tokens) -> Tensor:
        return torch.cat([masked.first(x_BTH, tokens.attention_BT) for x_BTH in tokens.hidden], 1)
