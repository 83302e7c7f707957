"""Adversarial training: the step's loss once more, where the model is pushed to where it hurts.

Pushed weights come back from copies, to the bit: what is added and subtracted is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from poolblend.errors import UserError
from poolblend.modeling.model import TextModel


@contextmanager
def embeddings_pushed(model: TextModel, length: float) -> Iterator[None]:
    """Push the word embeddings by `length` along their gradient, for as long as this is open.

    Source: the fast gradient method of Miyato et al. 2017, arXiv:1605.07725, on the embedding
    matrix as a whole. Raises UserError where the embeddings have no gradient.
    """
    weight = model.encoder.get_input_embeddings().weight
    if weight.grad is None:
        raise UserError("train.fgm: the word embeddings do not learn; leave it out")
    with _pushed([weight], [torch.tensor(length, device=weight.device)]):
        yield


@contextmanager
def weights_pushed(model: TextModel, size: float) -> Iterator[None]:
    """Push each matrix of the encoder by `size` times its norm along its gradient, while open.

    Source: Wu et al. 2020, Adversarial Weight Perturbation, arXiv:2004.05884.
    """
    matrices = [p for p in model.encoder.parameters() if p.ndim > 1 and p.grad is not None]
    with _pushed(matrices, [size * torch.linalg.vector_norm(p.detach()) for p in matrices]):
        yield


@contextmanager
def _pushed(weights: Sequence[nn.Parameter], lengths: Sequence[Tensor]) -> Iterator[None]:
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, length in zip(weights, lengths, strict=True):
            weight.add_(_along(weight.grad, length))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)


def _along(gradient: Tensor | None, length: Tensor) -> Tensor:
    """The gradient scaled to `length`; nothing where it is zero, or has overflowed in fp16."""
    assert gradient is not None
    norm = torch.linalg.vector_norm(gradient)
    scale = torch.where(norm.isfinite() & (norm > 0), length / norm, 0.0)
    return torch.nan_to_num(gradient, 0.0, 0.0, 0.0) * scale
