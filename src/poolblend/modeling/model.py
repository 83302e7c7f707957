"""Backbone, pooler and head as one module: token ids in, one row of logits per text out.

Shape legend: B batch, T tokens, H hidden, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from poolblend.modeling.backbone import Backbone
from poolblend.modeling.poolers import Pooler, Tokens, build_pooler

Mask = Literal["attention", "content", "none"]
Norm = Literal["none", "layer", "batch"]


class Batch(NamedTuple):
    """Rows of a table as padded tensors, each (B, T); the masks are True where a token counts."""

    ids_BT: Tensor
    attention_BT: Tensor  # all but padding
    content_BT: Tensor  # the text's own tokens: no padding, no special tokens

    def to(self, device: torch.device) -> Batch:
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


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


class TextModel(nn.Module):
    """What one fold trains: an encoder, a pooler, a head."""

    def __init__(self, encoder: Any, pooler: Pooler, head: Head, mask: Mask) -> None:
        super().__init__()
        self.encoder, self.pooler, self.head, self.mask = encoder, pooler, head, mask

    def forward(self, batch: Batch) -> Tensor:
        """Logits, (B, K)."""
        return self.head(self.pool(batch))

    def pool(self, batch: Batch) -> Tensor:
        """One vector per row, (B, width of the pooler)."""
        last_only = self.pooler.layers == (-1,)
        output = self.encoder(
            input_ids=batch.ids_BT,
            attention_mask=batch.attention_BT.long(),
            output_hidden_states=not last_only,
        )
        hidden = (
            (output.last_hidden_state,)
            if last_only
            else tuple(output.hidden_states[layer] for layer in self.pooler.layers)
        )
        return self.pooler(Tokens(hidden, self._counted(batch), batch.attention_BT, batch.ids_BT))

    def _counted(self, batch: Batch) -> Tensor:
        if self.mask == "none":
            return torch.ones_like(batch.attention_BT)
        if self.mask == "attention":
            return batch.attention_BT
        # An empty text has no content: its special tokens are all there is to pool.
        empty_B1 = ~batch.content_BT.any(dim=1, keepdim=True)
        return batch.content_BT | (batch.attention_BT & empty_B1)


def build_model(
    backbone: Backbone,
    *,
    pooler: str,
    pooler_args: Mapping[str, Any],
    mask: Mask,
    n_outputs: int,
    dropout: float,
    norm: Norm,
) -> tuple[TextModel, bool]:
    """The model, and whether its pooler could take over what it wanted of the encoder's own."""
    pooling = build_pooler(pooler, backbone.shape, dict(pooler_args))
    adopted = pooling.adopt(backbone.own_pooler)
    head = Head(pooling.width, n_outputs, dropout, norm)
    return TextModel(backbone.encoder, pooling, head, mask), adopted
