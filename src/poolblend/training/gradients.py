"""The gradients of one optimizer step; its batches are halved when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from poolblend.modeling.model import Batch, TextModel
from poolblend.training.batches import Encoded, collate
from poolblend.training.devices import free_cached, out_of_memory
from poolblend.training.objectives import Objective
from poolblend.training.recipes import Recipe

log = logging.getLogger(__name__)


class Gradients:
    """Gradients of `model` on the rows `rows` of `encoded`.

    `targets` (N, L) and `weights` (N, 1 or L) are those of these rows.
    `pieces` is how many a batch is cut into: more than one where the device ran out of memory.
    A row whose windows hold more than `window_tokens` is read in passes of at most this size,
    whose activations are computed again for the gradients.
    """

    def __init__(
        self,
        model: TextModel,
        encoded: Encoded,
        rows: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        objective: Objective,
        recipes: Sequence[Recipe],
        accelerator: Accelerator,
        window_tokens: int | None = None,
    ) -> None:
        self.model, self.encoded, self.rows = model, encoded, rows
        self.objective, self.recipes, self.window_tokens = objective, recipes, window_tokens
        self._accelerator = accelerator
        self._targets_NL = torch.from_numpy(targets).float()
        self._weights = torch.from_numpy(weights).float()
        self._forward: Callable[[Batch], list[Tensor]] = lambda batch: [model(batch)]
        for recipe in recipes:
            self._targets_NL = recipe.targets(self._targets_NL, objective)
            self._forward = recipe.forward(self._forward, model)
        self.pieces = 1
        self._smallest = 2 if _normalises_batches(model) else 1

    def of_step(self, batches: Sequence[np.ndarray], step: int, n_steps: int) -> float:
        """Leave the gradients of step number `step` on the model; its rows' mean loss.

        The batches are halved, and the step repeated, as long as memory runs out.
        """
        while True:
            try:
                parts = [part for batch in batches for part in self._parts(batch)]
                loss = self._add_up(parts)
                again = partial(self._add_up, parts)
                for recipe in self.recipes:
                    if step >= recipe.extra_pass_from(n_steps):
                        recipe.extra_pass(self.model, again, self.clear)
                return loss
            except RuntimeError as error:
                largest = max(len(part) for batch in batches for part in self._parts(batch))
                if not out_of_memory(error) or largest // 2 < self._smallest:
                    raise
            # Not in the handler: the error holds on to the failed attempt's tensors.
            self.clear()
            free_cached()
            self.pieces *= 2
            log.warning(
                "out of memory: continuing with batches of %d rows, %d per step",
                largest // 2,
                len(batches) * self.pieces,
            )

    def clear(self) -> None:
        """Drop the gradients."""
        self.model.zero_grad()

    def _parts(self, batch: np.ndarray) -> list[np.ndarray]:
        return np.array_split(batch, max(1, min(self.pieces, len(batch) // self._smallest)))

    def _add_up(self, parts: Sequence[np.ndarray]) -> float:
        """Add up the gradients of the parts; the mean loss over all their rows."""
        n_rows = sum(map(len, parts))
        losses = []
        for part in parts:
            batch = collate(
                self.encoded,
                self.rows[part],
                full_width=self.model.mask == "none",
                window_tokens=self.window_tokens,
            )
            each = self._losses(batch.to(self._accelerator.device), part)
            self._accelerator.backward(each.sum() / n_rows)
            losses.append(each.detach().sum() / n_rows)
        return float(torch.stack(losses).sum())

    def _losses(self, batch: Batch, part: np.ndarray) -> Tensor:
        """One loss per row, (B,): the mean over all passes, and what recipes add to it."""
        targets_BL = self._targets_NL[part].to(self._accelerator.device)
        weights = self._weights[part].to(self._accelerator.device)
        passes = self._forward(batch)
        losses = torch.stack([self.objective.loss(logits, targets_BL) for logits in passes])
        loss_B = (losses.mean(dim=0) * weights).mean(dim=1)
        for recipe in self.recipes:
            loss_B = recipe.loss(loss_B, passes, weights, self.objective)
        return loss_B


def _normalises_batches(model: torch.nn.Module) -> bool:
    return any(isinstance(module, torch.nn.BatchNorm1d) for module in model.modules())
