"""Run an encoder on a few rows: is a row's result the same whatever stands beside it?

Shape legend: B rows, T tokens, H hidden.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poolblend.errors import UserError
from poolblend.modeling.positions import n_positions

LENGTHS = (3, 8, 21, 55)
# A relative difference between a token's states. Rounding in fp32 makes 1e-6, and 2e-5 in some
# trained weights; what reads padding makes 1e-3 and more, and makes it in fp64 as well.
ROUNDING = 1e-5
# What other texts of the same length may make: rounding again.
BESIDE = 1e-3


def padding_effect(encoder: Any, tokenizer: Any) -> float:
    """How far the padding beside a row changes its hidden states; 0 where it is rounding alone.

    It is the largest difference between a token's states (relative, L2) in a row read alone and in
    the row in a batch, padded as the tokenizer pads. Raises ValueError for states that are not
    finite, UserError where rows also depend on others of equal length.
    """
    text = torch.tensor(tokenizer("a text")["input_ids"])
    rows = [text, *_rows(tokenizer, n_positions(encoder))]
    # Not in inference mode, since tensors that the encoder keeps from it could not be trained; some
    # attention draws random numbers, of which the training must not miss any.
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        alone = [_read(encoder, [row], tokenizer)[0] for row in rows]
        if not all(x_TH.isfinite().all() for x_TH in alone):
            raise ValueError("a text's hidden states are not finite; its weights are damaged")
        effect = _difference(_read(encoder, rows, tokenizer), alone)
        if effect <= ROUNDING or _is_rounding(encoder, rows, tokenizer):
            return 0.0
        last = rows[-1]
        both = _read(encoder, [last, last[:1].expand(len(last))], tokenizer)
        beside = _difference(both, alone[-1:])
    if beside > BESIDE:
        raise UserError(
            f"{type(encoder).__name__}: a text's hidden states depend on the other texts of its "
            f"batch, or on chance (relative difference {beside:.1e}), so that no prediction could "
            "be repeated; choose another backbone"
        )
    return effect


def _is_rounding(encoder: Any, rows: Sequence[Tensor], tokenizer: Any) -> bool:
    """Whether the effect is gone in double precision; not all encoders compute in that."""
    precise = copy.deepcopy(encoder).double()
    try:
        alone = [_read(precise, [row], tokenizer)[0] for row in rows]
        return _difference(_read(precise, rows, tokenizer), alone) <= ROUNDING
    except RuntimeError:
        return False


def _rows(tokenizer: Any, limit: float) -> list[Tensor]:
    """Rows of several lengths, of words spread over the vocabulary."""
    words = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))
    lengths = [int(min(length, limit)) for length in LENGTHS]
    return [
        torch.tensor([words[(row + at) * 7919 % len(words)] for at in range(length)])
        for row, length in enumerate(lengths)
    ]


def _read(encoder: Any, rows: Sequence[Tensor], tokenizer: Any) -> list[Tensor]:
    """The last hidden states (T, H) of each row's own tokens, all rows read in one batch."""
    width = max(map(len, rows))
    ids_BT = torch.full((len(rows), width), tokenizer.pad_token_id or 0)
    attention_BT = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        start = width - len(row) if tokenizer.padding_side == "left" else 0
        ids_BT[i, start : start + len(row)] = row
        attention_BT[i, start : start + len(row)] = True
    output = encoder(input_ids=ids_BT, attention_mask=attention_BT.long())
    return [
        x_TH[there_T] for x_TH, there_T in zip(output.last_hidden_state, attention_BT, strict=True)
    ]


def _difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest relative difference of a token's states; `found` may hold more rows."""
    largest = [
        ((a_TH - b_TH).norm(dim=1) / b_TH.norm(dim=1).clamp(min=1e-30)).max()
        for a_TH, b_TH in zip(found, expected, strict=False)
    ]
    return float(torch.stack(largest).max())
