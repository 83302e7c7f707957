"""The interface of poolers, their input, and their registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from poolblend.errors import UserError
from poolblend.registry import Registry


class EncoderShape(NamedTuple):
    """Sizes of an encoder."""

    hidden_size: int
    n_layers: int
    vocab_size: int

    @property
    def n_states(self) -> int:
        """Number of hidden states: the embeddings, then one per layer."""
        return self.n_layers + 1


class Tokens(NamedTuple):
    """One batch of encoded rows.

    `hidden` holds (B, T, H) states of the layers that the pooler asked for, in its order. `mask_BT`
    is True for the tokens that count, `attention_BT` for all but padding; a row has at least one.
    """

    hidden: tuple[Tensor, ...]
    mask_BT: Tensor
    attention_BT: Tensor
    ids_BT: Tensor


class Pooler(nn.Module):
    """One vector per row: `pool` computes it, `forward` returns it in the hidden states' dtype.

    `width` is the vector's length, `layers` the hidden states it reads (embeddings = 0, negative
    from the end). Laws that every pooler keeps: tests/modeling/test_poolers.py.
    """

    layers: tuple[int, ...] = (-1,)

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.width = shape.hidden_size

    def pool(self, tokens: Tokens) -> Tensor:
        """(B, width), in any precision from the hidden states' own to float32."""
        raise NotImplementedError

    def forward(self, tokens: Tokens) -> Tensor:
        """(B, width), in the dtype of the hidden states."""
        return self.pool(tokens).to(tokens.hidden[0].dtype)

    def fit(self, rows: Sequence[np.ndarray]) -> None:
        """Count words, for poolers that need it; `rows` are the training rows' token ids."""

    def adopt(self, own: nn.Module | None) -> bool:
        """Copy weights of the encoder's own pooler; False where they are needed and not there."""
        return True


POOLERS: Registry[type[Pooler]] = Registry("pooler")


def whole(argument: str, value: object, least: int, most: int | None = None) -> int:
    """`value` if it is a whole number from `least` to `most`; UserError otherwise."""
    # `type`, because True is an int to isinstance.
    if type(value) is int and least <= value <= (value if most is None else most):
        return value
    span = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise UserError(f"{argument} is {value!r}; set it to a whole number {span}")
