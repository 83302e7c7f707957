"""Poolers that read one token of a row.

BERT-like encoders train the first token to represent the row; in a decoder only the last token has
seen all others. Both are found by the attention mask, since they may be special tokens, which
`mask=content` leaves out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poolblend.modeling.poolers import masked
from poolblend.modeling.poolers.contract import POOLERS, EncoderShape, Pooler, Tokens


@POOLERS.register("cls")
class Cls(Pooler):
    """The first token ([CLS]) of the last layer."""

    def pool(self, tokens: Tokens) -> Tensor:
        return masked.first(tokens.hidden[0], tokens.attention_BT)


@POOLERS.register("last")
class Last(Pooler):
    """The last token of the last layer, which in a decoder has seen all others."""

    def pool(self, tokens: Tokens) -> Tensor:
        return masked.last(tokens.hidden[0], tokens.attention_BT)


@POOLERS.register("pooler_output")
class PoolerOutput(Pooler):
    """The encoder's own pooler: a dense layer and tanh over the first token."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__(shape)
        self.dense = nn.Linear(shape.hidden_size, shape.hidden_size)

    def pool(self, tokens: Tokens) -> Tensor:
        first_BH = masked.first(tokens.hidden[0], tokens.attention_BT)
        return torch.tanh(self.dense(first_BH.to(self.dense.weight.dtype)))

    def adopt(self, own: nn.Module | None) -> bool:
        """Copy the weights of `own`: BERT's pooler holds a `dense` layer, ALBERT's is the layer."""
        dense = own if isinstance(own, nn.Linear) else getattr(own, "dense", None)
        if not isinstance(dense, nn.Linear) or dense.weight.shape != self.dense.weight.shape:
            return False
        self.dense.load_state_dict(dense.state_dict())
        return True
