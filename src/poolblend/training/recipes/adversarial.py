"""Adversarial training: a second pass per step, with weights moved to where the loss is higher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import Field

from poolblend.errors import UserError
from poolblend.training.recipes.contract import Recipe, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from poolblend.modeling.model import TextModel


class _Adversarial(Recipe):
    adversarial_start: float = Field(
        0.0, ge=0, lt=1, description="Share of the steps after which fgm or awp begins."
    )

    def check_options(self, train: Any, head: Any, task: str) -> None:
        if train.adversarial_start and not (train.fgm or train.awp):
            raise ValueError(
                "train.adversarial_start does nothing without fgm or awp; set one of them"
            )
        if train.fgm and train.awp:
            raise ValueError("train.fgm and awp exclude each other; leave one out")

    def extra_pass_from(self, n_steps: int) -> int:
        return int(self.adversarial_start * n_steps)


@register("fgm")
class Fgm(_Adversarial):
    """Add a second pass, with the embeddings moved this far along their gradient (FGM).

    Source: the fast gradient method of Miyato et al. 2017, arXiv:1605.07725, on the embedding
    matrix as a whole.
    """

    fgm: float | None = Field(None, gt=0, examples=[0.5])

    def check_options(self, train: Any, head: Any, task: str) -> None:
        super().check_options(train, head, task)
        if self.active and train.freeze_layers is not None:
            raise ValueError("train.fgm steps on the embeddings, which freeze_layers freezes")

    def extra_pass(
        self, model: TextModel, backward: Callable[[], object], clear: Callable[[], object]
    ) -> None:
        weight = model.encoder.get_input_embeddings().weight
        if weight.grad is None:
            raise UserError("train.fgm: the word embeddings do not learn; leave it out")
        assert self.fgm is not None
        with moved([weight], [weight.new_full((), self.fgm)]):
            backward()


@register("awp")
class Awp(_Adversarial):
    """Train on a second pass, with each matrix moved by this share of its norm (AWP).

    Source: Wu et al. 2020, Adversarial Weight Perturbation, arXiv:2004.05884.
    """

    awp: float | None = Field(None, gt=0, examples=[0.01])

    def check(self, encoder: Any, train: Any, task: str) -> None:
        n_layers = encoder.config.num_hidden_layers
        if train.freeze_layers == n_layers:
            raise UserError(f"train.awp does nothing where all {n_layers} layers are frozen")

    def extra_pass(
        self, model: TextModel, backward: Callable[[], object], clear: Callable[[], object]
    ) -> None:
        from torch.linalg import vector_norm

        assert self.awp is not None
        matrices = [p for p in model.encoder.parameters() if p.ndim > 1 and p.grad is not None]
        lengths = [self.awp * vector_norm(p.detach()) for p in matrices]
        with moved(matrices, lengths):
            clear()
            backward()


@contextmanager
def moved(weights: Sequence[nn.Parameter], lengths: Sequence[Tensor]) -> Iterator[None]:
    """Inside this context, each weight is moved by its length along its gradient.

    Then it is restored from a copy, because subtracting would leave rounding errors.
    """
    import torch

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
    """The gradient scaled to `length`; 0 where it is zero, or has overflowed in fp16."""
    import torch

    assert gradient is not None
    norm = torch.linalg.vector_norm(gradient)
    scale = torch.where(norm.isfinite() & (norm > 0), length / norm, 0.0)
    return torch.nan_to_num(gradient, 0.0, 0.0, 0.0) * scale
