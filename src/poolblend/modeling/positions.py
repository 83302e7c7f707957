"""Absolute positions: how many an encoder knows, and that padding on the left takes none of them.

Shape legend: B batch, T tokens.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# Of BERT and its kin, of GPT-2, of BART and its kin.
TABLES = ("position_embeddings", "wpe", "embed_positions")


def n_positions(encoder: Any) -> float:
    """How many absolute positions the encoder knows; infinity where it counts them relatively."""
    table = _table(encoder)
    if table is None:
        return float("inf")
    # Some tables begin with entries that no token has (RoBERTa, BART), or (YOSO) are longer than
    # the positions that the encoder counts.
    unused = getattr(table, "offset", 0) or _before(table)
    stated = getattr(encoder.config, "max_position_embeddings", None)
    return min(table.num_embeddings - unused, stated or table.num_embeddings)


def count_from_the_first_token(encoder: Any) -> None:
    """Let the positions of a row padded on the left begin at its first token.

    Encoders that learn a vector per position count from the batch's left edge otherwise, so that a
    row's length, and the rows beside it, would change its outputs.
    """
    table = _table(encoder)
    if table is not None and "position_ids" in inspect.signature(encoder.forward).parameters:
        count = partial(_with_positions, before=_before(table))
        encoder.register_forward_pre_hook(count, with_kwargs=True)


def _with_positions(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], before: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    mask_BT: Tensor | None = kwargs.get("attention_mask")
    if mask_BT is None:
        return args, kwargs
    place_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    first_B1 = mask_BT.argmax(dim=1, keepdim=True)
    return args, {**kwargs, "position_ids": before + (place_T - first_B1).clamp(min=0)}


def _table(encoder: nn.Module) -> nn.Embedding | None:
    for name, module in encoder.named_modules():
        if name.split(".")[-1] in TABLES and isinstance(module, nn.Embedding):
            return module
    return None


def _before(table: nn.Embedding) -> int:
    """The first position: RoBERTa and its kin begin to count behind the padding index."""
    return 0 if table.padding_idx is None else table.padding_idx + 1
