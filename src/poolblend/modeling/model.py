"""Backbone, pooler and head as one module: token ids in, one row of logits per text out.

Shape legend: B batch, T tokens, H hidden, W windows, F extra columns, K outputs,
S samples of dropout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from poolblend.modeling.backbone import Backbone
from poolblend.modeling.frozen_heads import FrozenKind, empty_head
from poolblend.modeling.heads import Head, Norm
from poolblend.modeling.passes import passes_of, read_in_passes
from poolblend.modeling.poolers import Pooler, Tokens, build_pooler

Mask = Literal["attention", "content", "none"]


class Windows(NamedTuple):
    """The windows in which the encoder reads a batch's rows, padded to the longest."""

    ids_WT: Tensor
    attention_WT: Tensor
    at_BT: Tensor  # where among all windows' tokens, W * T, each token of the rows is read
    most: int | None = None  # how many the encoder reads in one pass; None: all of them

    def to(self, device: torch.device, non_blocking: bool = False) -> Windows:
        ids_WT, attention_WT, at_BT = (
            tensor.to(device, non_blocking=non_blocking) for tensor in self[:3]
        )
        return Windows(ids_WT, attention_WT, at_BT, self.most)


class Batch(NamedTuple):
    """Rows of a table as padded tensors; the masks are True where a token counts."""

    ids_BT: Tensor
    attention_BT: Tensor  # all but padding
    content_BT: Tensor  # the text's own tokens: no padding, no special tokens
    types_BT: Tensor | None = None  # of which of a pair's texts; None where there are no pairs
    columns_BF: Tensor | None = None  # what else is known of a row, float32
    windows: Windows | None = None  # where a row is longer than the encoder is to read at once

    def to(self, device: torch.device) -> Batch:
        moved: list[Any] = [
            None if part is None else part.to(device, non_blocking=True) for part in self
        ]
        return Batch(*moved)


class TextModel(nn.Module):
    """What one fold trains: an encoder, a pooler, a head.

    With `equal_lengths` the encoder reads only rows of as many tokens together, without padding.
    """

    _frozen: tuple[nn.Module, ...] = ()

    def __init__(
        self,
        encoder: Any,
        pooler: Pooler,
        head: nn.Module,
        mask: Mask,
        *,
        equal_lengths: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.pooler, self.mask = encoder, pooler, mask
        self.head: Any = head
        # Where padding counts, every row has the same width, whatever stands beside it.
        self.equal_lengths = equal_lengths and mask != "none"

    def freeze(self, modules: Iterable[nn.Module]) -> None:
        """Keep these modules as they are: nothing in them learns, or is dropped out."""
        self._frozen = (*self._frozen, *modules)
        for module in self._frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> TextModel:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        if self._frozen:
            # Not its modules: BART drops out of its embeddings by its own flag.
            self.encoder.training = False
        return self

    def forward(self, batch: Batch, samples: int | None = None) -> Tensor:
        """Logits, (B, K); with `samples`, under as many masks of the head's dropout, (S, B, K)."""
        features = self.pool(batch)
        if batch.columns_BF is not None:
            # In fp32, as heads compute: half precision would round the columns.
            features = torch.cat([features.float(), batch.columns_BF], dim=1)
        if samples is None:
            return self.head(features)
        return torch.stack([self.head(features) for _ in range(samples)])

    def pool(self, batch: Batch) -> Tensor:
        """One vector per row, (B, width of the pooler)."""
        hidden = self._hidden(batch)
        return self.pooler(Tokens(hidden, self._counted(batch), batch.attention_BT, batch.ids_BT))

    def _hidden(self, batch: Batch) -> tuple[Tensor, ...]:
        """States of the layers that the pooler reads, each (B, T, H), whatever the windows."""
        windows = batch.windows
        ids_BT, attention_BT = windows[:2] if windows else (batch.ids_BT, batch.attention_BT)
        inputs = (ids_BT, attention_BT, batch.types_BT if self._takes_types(batch) else None)
        most = windows.most if windows else None
        if most is None and not self.equal_lengths:
            hidden = self._read(*inputs)
        else:
            # All windows of a long text would be kept for its gradients.
            recompute = most is not None and torch.is_grad_enabled()
            passes = passes_of(attention_BT, most=most or len(ids_BT), equal=self.equal_lengths)
            hidden = read_in_passes(self._read, passes, *inputs, recompute=recompute)
        if windows is None:
            return hidden
        return tuple(x_WTH.flatten(0, 1)[windows.at_BT] for x_WTH in hidden)

    def _read(
        self, ids_BT: Tensor, attention_BT: Tensor, types_BT: Tensor | None
    ) -> tuple[Tensor, ...]:
        last_only = self.pooler.layers == (-1,)
        output = self.encoder(
            input_ids=ids_BT,
            attention_mask=attention_BT.long(),
            output_hidden_states=not last_only,
            **({} if types_BT is None else {"token_type_ids": types_BT}),
        )
        if last_only:
            return (output.last_hidden_state,)
        return tuple(output.hidden_states[layer] for layer in self.pooler.layers)

    def _takes_types(self, batch: Batch) -> bool:
        # Others take no types, know one only, or (GPT-2) look them up among the words.
        config = getattr(self.encoder, "config", None)
        return batch.types_BT is not None and getattr(config, "type_vocab_size", 0) > 1

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
    n_columns: int = 0,
    kind: Literal["linear"] | FrozenKind = "linear",
    n_support: int = 0,
    dropout: float = 0.0,
    norm: Norm = "none",
) -> tuple[TextModel, bool]:
    """The model, and whether its pooler could take over what it wanted of the encoder's own.

    `kind` is the head's; one of `svr` has `n_support` support vectors.
    """
    pooling = build_pooler(pooler, backbone.shape, dict(pooler_args))
    adopted = pooling.adopt(backbone.own_pooler)
    width = pooling.width + n_columns
    head: nn.Module
    if kind == "linear":
        head = Head(width, n_outputs, dropout, norm)
    else:
        head = empty_head(kind, width, n_outputs, n_support)
    model = TextModel(backbone.encoder, pooling, head, mask, equal_lengths=backbone.reads_padding)
    return model, adopted
