"""Padding must not change a text's hidden states: count positions without it, and test encoders."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from poolblend.errors import UserError
from poolblend.modeling.layers import layer_stacks

# Names of position tables: of BERT and similar encoders, of GPT-2, of BART and similar ones.
TABLES = ("position_embeddings", "wpe", "embed_positions")
LENGTHS = (3, 8, 21, 55)  # of the rows with which an encoder is tested
# Relative differences between a token's states. Rounding in fp32 makes 1e-6, and 2e-5 in some
# trained weights; encoders that read padding make 1e-3 and more, and make it in fp64 as well.
ROUNDING = 1e-5
# The largest allowed effect of other texts of the same length.
OTHER_TEXTS = 1e-3


def n_positions(encoder: Any) -> float:
    """How many absolute positions the encoder knows; infinity where it counts them relatively."""
    table = _position_table(encoder)
    if table is None:
        return float("inf")
    # Some tables begin with entries that no token has (RoBERTa, BART), or (YOSO) are longer than
    # the positions that the encoder counts.
    unused = getattr(table, "offset", 0) or _first_position(table)
    stated = getattr(encoder.config, "max_position_embeddings", None)
    return min(table.num_embeddings - unused, stated or table.num_embeddings)


def count_from_the_first_token(encoder: Any) -> None:
    """Let the positions of a row that is padded on the left begin at its first token.

    Otherwise encoders with learned position vectors count from the batch's left edge, and the
    padding changes a row's outputs.
    """
    table = _position_table(encoder)
    if table is not None and "position_ids" in inspect.signature(encoder.forward).parameters:
        count = partial(_with_positions, first=_first_position(table))
        encoder.register_forward_pre_hook(count, with_kwargs=True)


def _with_positions(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], first: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    mask_BT: Tensor | None = kwargs.get("attention_mask")
    if mask_BT is None:
        return args, kwargs
    place_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    start_B1 = mask_BT.argmax(dim=1, keepdim=True)
    return args, {**kwargs, "position_ids": first + (place_T - start_B1).clamp(min=0)}


def _position_table(encoder: nn.Module) -> nn.Embedding | None:
    for name, module in encoder.named_modules():
        if name.split(".")[-1] in TABLES and isinstance(module, nn.Embedding):
            return module
    return None


def _first_position(table: nn.Embedding) -> int:
    """RoBERTa and similar encoders begin to count after the padding index."""
    return 0 if table.padding_idx is None else table.padding_idx + 1


def padding_effect(encoder: Any, tokenizer: Any) -> float:
    """How far padding changes a row's hidden states; 0 where it is only rounding.

    It is the largest difference between a token's states (relative, L2) in a row read alone and in
    the row in a batch, padded as the tokenizer pads. Raises ValueError for states that are not
    finite, UserError where rows also depend on others of equal length.
    """
    text = torch.tensor(tokenizer("a text")["input_ids"])
    rows = [text, *_rows(tokenizer, n_positions(encoder))]
    # Not in inference mode: tensors that the encoder caches there could not be trained. Some
    # attention draws random numbers; the generator's state is restored for training.
    with torch.no_grad(), torch.random.fork_rng(devices=[]), computed_in(encoder, torch.float32):
        alone = [_read(encoder, [row], tokenizer)[0] for row in rows]
        if not all(x_TH.isfinite().all() for x_TH in alone):
            raise ValueError("a text's hidden states are not finite; its weights are damaged")
        effect = _difference(_read(encoder, rows, tokenizer), alone)
        if effect <= ROUNDING or _is_rounding(encoder, rows, tokenizer):
            return 0.0
        last = rows[-1]
        both = _read(encoder, [last, last[:1].expand(len(last))], tokenizer)
        beside = _difference(both, alone[-1:])
    if beside > OTHER_TEXTS:
        raise UserError(
            f"{type(encoder).__name__}: a text's hidden states depend on the other texts of its "
            f"batch, or on chance (relative difference {beside:.1e}), so that no prediction could "
            "be repeated; choose another backbone"
        )
    return effect


@contextmanager
def computed_in(encoder: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """A context in which the encoder computes in `dtype`, and its weights stay as they are.

    The weights of one layer at a time are converted: an encoder in half precision may fill half of
    the memory.
    """
    layers = [
        layer for name in layer_stacks(encoder) for layer in encoder.get_submodule(name).children()
    ]
    within = {id(tensor) for layer in layers for tensor in _floating(layer)}
    converted: list[list[tuple[Tensor, Tensor]]] = []  # tensors, and the data that they had

    def convert(tensors: Iterable[Tensor]) -> None:
        converted.append([(tensor, tensor.data) for tensor in tensors])
        for tensor, data in converted[-1]:
            tensor.data = data.to(dtype)

    def restore(*_: Any) -> None:
        for tensor, data in converted.pop():
            tensor.data = data

    hooks = []
    for layer in layers:
        hooks.append(layer.register_forward_pre_hook(lambda layer, _: convert(_floating(layer))))
        # Before those of a context around this one.
        hooks.append(layer.register_forward_hook(restore, prepend=True))
    # Some weights outside of layers are used by other modules than their own.
    convert(tensor for tensor in _floating(encoder) if id(tensor) not in within)
    try:
        yield
    finally:
        while converted:
            restore()
        for hook in hooks:
            hook.remove()


def _floating(module: nn.Module) -> Iterator[Tensor]:
    tensors = chain(module.parameters(), module.buffers())
    return (tensor for tensor in tensors if tensor.is_floating_point())


def _is_rounding(encoder: Any, rows: Sequence[Tensor], tokenizer: Any) -> bool:
    """Whether the effect disappears in double precision; False for encoders without it."""
    try:
        with computed_in(encoder, torch.float64):
            alone = [_read(encoder, [row], tokenizer)[0] for row in rows]
            return _difference(_read(encoder, rows, tokenizer), alone) <= ROUNDING
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
    hidden_BTH = encoder(input_ids=ids_BT, attention_mask=attention_BT.long()).last_hidden_state
    return [x_TH[held_T] for x_TH, held_T in zip(hidden_BTH, attention_BT, strict=True)]


def _difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest relative difference of a token's states; `found` may hold more rows."""
    largest = [
        ((a_TH - b_TH).norm(dim=1) / b_TH.norm(dim=1).clamp(min=1e-30)).max()
        for a_TH, b_TH in zip(found, expected, strict=False)
    ]
    return float(torch.stack(largest).max())
