"""Backbone, pooler and head as one module: token ids in, one row of logits per text out.

Shapes: W windows, F extra columns, K outputs, S samples of dropout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from poolblend.modeling.adapters import is_half, stored_tensors
from poolblend.modeling.backbone import Backbone
from poolblend.modeling.frozen import PassedOver
from poolblend.modeling.heads import Head, empty_head
from poolblend.modeling.masks import known_padding
from poolblend.modeling.options import FrozenKind, Mask, Norm
from poolblend.modeling.passes import passes_of, read_in_passes
from poolblend.modeling.poolers import Pooler, Tokens, build_pooler


class Windows(NamedTuple):
    """The windows in which the encoder reads a batch's rows, padded to the longest."""

    ids_WT: Tensor
    attention_WT: Tensor
    at_BT: Tensor  # the place of each token of the rows among all windows' tokens, W * T
    most: int | None = None  # windows in one pass of the encoder; None: all of them
    padded: bool | None = None  # whether any is; None: not known without reading the mask


class States(NamedTuple):
    """Stored hidden states of some of the encoder's layers: (L, B, T, H).

    With windows, the rows are the windows.
    """

    layers: tuple[int, ...]  # 0: the embeddings
    x_LBTH: Tensor


class Batch(NamedTuple):
    """Rows of a table as padded tensors; the masks are True where a token counts."""

    ids_BT: Tensor
    attention_BT: Tensor  # False for padding
    content_BT: Tensor  # the text's own tokens: no padding, no special tokens
    types_BT: Tensor | None = None  # which text of a pair; None where there are no pairs
    columns_BF: Tensor | None = None  # the row's extra columns, float32
    windows: Windows | None = None  # of rows that are longer than the encoder reads at once
    padded: bool | None = None  # as in Windows, of the rows
    states: States | None = None  # of frozen layers, which need not be computed


def types_for(encoder: Any, batch: Batch) -> Tensor | None:
    """The batch's token types where the encoder has more than one."""
    # Others have no types, only one, or (GPT-2) look them up among the words.
    config = getattr(encoder, "config", None)
    return batch.types_BT if getattr(config, "type_vocab_size", 0) > 1 else None


class TextModel(nn.Module):
    """The model of one fold: an encoder, a pooler, a head.

    With `equal_lengths` the encoder reads rows of equal length together, without padding.
    """

    _frozen: tuple[nn.Module, ...] = ()
    passed_over: PassedOver | None = None  # layers that a batch's states stand for; None: all
    factors: Mapping[str, Tensor] = MappingProxyType({})  # of adapters that were trained

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
        # With mask=none every row is padded to the same width, and its padding is read.
        self.equal_lengths = equal_lengths and mask != "none"

    def freeze(self, modules: Iterable[nn.Module]) -> None:
        """Freeze these modules: their weights do not learn, their dropout is off."""
        self._frozen = (*self._frozen, *modules)
        for module in self._frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> TextModel:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        if self._frozen:
            # The encoder's own flag alone: BART's controls the dropout of its embeddings.
            self.encoder.training = False
        return self

    def stored(self, *, on_base: bool) -> dict[str, Tensor]:
        """The tensors that a fold stores: all, or those that its encoder's base does not have."""
        half = is_half(self.encoder)
        return stored_tensors(self.state_dict(), self.factors, on_base=on_base, half=half)

    def forward(self, batch: Batch, samples: int | None = None) -> Tensor:
        """Logits, (B, K); with `samples`, one set for each dropout mask of the head, (S, B, K)."""
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
        """Hidden states of the layers that the pooler reads, each (B, T, H)."""
        states = self._encode(batch, self.pooler.layers)
        if batch.windows is None:
            return states
        return tuple(x_WTH.flatten(0, 1)[batch.windows.at_BT] for x_WTH in states)

    def token_states(self, batch: Batch, layers: tuple[int, ...]) -> list[Tensor]:
        """States of these layers for all tokens of the batch's rows, or windows, each (tokens, H).

        They are in the order of the rows, without padding.
        """
        read_BT = batch.windows.attention_WT if batch.windows else batch.attention_BT
        return [x_BTH[read_BT] for x_BTH in self._encode(batch, layers)]

    def stored_layers(self, depth: int) -> tuple[int, ...]:
        """The layers whose states are all that is needed of the first `depth` layers."""
        n_layers: int = self.encoder.config.num_hidden_layers
        pooled = {layer % (n_layers + 1) for layer in self.pooler.layers}
        if depth < n_layers:  # the layers above are computed
            pooled = {layer for layer in pooled if layer < depth} | {depth}
        return tuple(sorted(pooled))

    def _encode(self, batch: Batch, layers: tuple[int, ...]) -> tuple[Tensor, ...]:
        """States of these layers for the batch's rows, or windows, each (B, T, H)."""
        windows, stored = batch.windows, batch.states
        ids_BT, attention_BT = windows[:2] if windows else (batch.ids_BT, batch.attention_BT)
        inputs: tuple[Any, ...] = (ids_BT, attention_BT, types_for(self.encoder, batch))
        read: Any = partial(self._read, layers)
        if stored is not None:
            read = partial(self._read_on, layers, stored.layers)
            inputs += tuple(stored.x_LBTH)
        most = windows.most if windows else None
        if most is None and not self.equal_lengths:
            with known_padding((windows or batch).padded):
                return read(*inputs)
        # Recomputing avoids keeping the activations of all windows of a long text.
        recompute = most is not None and torch.is_grad_enabled()
        passes = passes_of(attention_BT, most=most or len(ids_BT), equal=self.equal_lengths)
        return read_in_passes(read, passes, *inputs, recompute=recompute)

    def _read(
        self, layers: tuple[int, ...], ids_BT: Tensor, attention_BT: Tensor, types_BT: Tensor | None
    ) -> tuple[Tensor, ...]:
        last_only = layers == (-1,)
        output = self.encoder(
            input_ids=ids_BT,
            attention_mask=attention_BT.long(),
            output_hidden_states=not last_only,
            **({} if types_BT is None else {"token_type_ids": types_BT}),
        )
        if last_only:
            states: tuple[Tensor, ...] = (output.last_hidden_state,)
        else:
            # In some encoders of transformers 5.0, the last of these lacks its final norm.
            states = (*output.hidden_states[:-1], output.last_hidden_state)
        # Poolers and heads are in fp32 whatever the encoder is.
        half = is_half(self.encoder)
        return tuple(states[layer].float() if half else states[layer] for layer in layers)

    def _read_on(
        self,
        layers: tuple[int, ...],
        stored_layers: tuple[int, ...],
        ids_BT: Tensor,
        attention_BT: Tensor,
        types_BT: Tensor | None,
        *stored_BTH: Tensor,
    ) -> tuple[Tensor, ...]:
        """What `_read` returns: stored states, and those of the layers that are not passed over."""
        stored = dict(zip(stored_layers, stored_BTH, strict=True))
        wanted = [layer % (self.encoder.config.num_hidden_layers + 1) for layer in layers]
        if self.passed_over is None:
            return tuple(stored[layer] for layer in wanted)
        with self.passed_over.given(self.encoder, stored[self.passed_over.depth]):
            read = self._read(layers, ids_BT, attention_BT, types_BT)
        return tuple(stored.get(layer, x_BTH) for layer, x_BTH in zip(wanted, read, strict=True))

    def _counted(self, batch: Batch) -> Tensor:
        if self.mask == "none":
            return torch.ones_like(batch.attention_BT)
        if self.mask == "attention":
            return batch.attention_BT
        # An empty text has no content, so its special tokens are pooled.
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
    """The model, and the result of the pooler's `adopt`: False if weights it needs are missing.

    `kind` is the head's; `svr` has `n_support` support vectors.
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
