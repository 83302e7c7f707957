"""Recipes that draw dropout more than once for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from poolblend.errors import UserError
from poolblend.training.recipes.contract import Recipe, register

if TYPE_CHECKING:
    from torch import Tensor

    from poolblend.modeling.model import TextModel
    from poolblend.training.objectives import Objective
    from poolblend.training.recipes.contract import Forward


@register("dropout_samples")
class DropoutSamples(Recipe):
    """Average the loss over N dropout masks before the head (multi-sample dropout).

    Source: Inoue 2019, arXiv:1905.09788.
    """

    dropout_samples: int = Field(1, ge=1, examples=[4])

    def check_options(self, train: Any, head: Any, task: str) -> None:
        if self.active and not head.dropout:
            raise ValueError("train.dropout_samples needs a head.dropout above 0")

    def forward(self, forward: Forward, model: TextModel) -> Forward:
        return lambda batch: list(model(batch, samples=self.dropout_samples))


@register("rdrop")
class RDrop(Recipe):
    """Weight of the divergence between two passes under different dropout (R-Drop).

    Source: Liang et al. 2021, arXiv:2106.14448; `rdrop` is half its alpha.
    """

    rdrop: float = Field(0.0, ge=0, examples=[1.0])

    def begin(self, model: TextModel, train: Any) -> None:
        if not _has_dropout(model):
            raise UserError(
                "train.rdrop compares two passes under dropout, of which the model has none; set "
                "head.dropout above 0, or leave it out"
            )

    def forward(self, forward: Forward, model: TextModel) -> Forward:
        return lambda batch: [*forward(batch), *forward(batch)]

    def loss(
        self, loss_B: Tensor, logits: Sequence[Tensor], weights: Tensor, objective: Objective
    ) -> Tensor:
        import torch

        half = len(logits) // 2
        pairs = zip(logits[:half], logits[half:], strict=True)
        apart_B = torch.stack([objective.distance(a, b) for a, b in pairs]).mean(dim=0)
        return loss_B + self.rdrop * weights.mean(dim=1) * apart_B


def _has_dropout(model: TextModel) -> bool:
    """Whether dropout is active in training; frozen modules stay in eval mode."""
    from torch import nn

    model.train()
    drops = (m for m in model.modules() if isinstance(m, nn.Dropout) and m.training)
    return any(module.p > 0 for module in drops)
