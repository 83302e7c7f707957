"""The gradients of one optimizer step; its batches are halved when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from poolblend.modeling.model import Batch, TextModel
from poolblend.training.batches import Encoded, collate, to_device
from poolblend.training.devices import free_cached, out_of_memory, runs_ahead
from poolblend.training.dropout_masks import dropout_from_bits
from poolblend.training.objectives import Objective
from poolblend.training.recipes import Recipe

log = logging.getLogger(__name__)


class Labelled(NamedTuple):
    """Rows on the device, with the targets (B, L) and the weights (B, 1 or L) of their losses."""

    batch: Batch
    targets_BL: Tensor
    weights: Tensor


class Gradients:
    """Gradients of `model` on the rows `rows` of `encoded`.

    `targets` (N, L) and `weights` (N, 1 or L) are those of these rows. `clip` is the largest norm
    of all gradients together; None: any.
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
        clip: float | None = None,
    ) -> None:
        self.model, self.encoded, self.rows = model, encoded, rows
        self.objective, self.recipes, self.window_tokens = objective, recipes, window_tokens
        self.clip, self._accelerator = clip, accelerator
        on_cpu = accelerator.device.type == "cpu"
        self._dropout = dropout_from_bits if on_cpu else nullcontext
        self._targets_NL = torch.from_numpy(targets).float()
        self._weights = torch.from_numpy(weights).float()
        self._forward: Callable[[Batch], list[Tensor]] = lambda batch: [model(batch)]
        for recipe in recipes:
            self._targets_NL = recipe.targets(self._targets_NL, objective)
            self._forward = recipe.forward(self._forward, model)
        self.pieces = 1
        self._smallest = 2 if _normalises_batches(model) else 1
        self._fetched: tuple[np.ndarray, Labelled] | None = None

    def of_step(
        self,
        batches: Sequence[np.ndarray],
        step: int,
        n_steps: int,
        upcoming: Sequence[np.ndarray] = (),
    ) -> Tensor:
        """Leave the gradients of step number `step` on the model, clipped; its rows' mean loss.

        The batches are halved, and all of it repeated, as long as memory runs out: until the
        optimizer steps, nothing but gradients has changed. `upcoming` are the next step's batches.
        """
        while True:
            try:
                parts = [part for batch in batches for part in self._parts(batch)]
                loss = self._add_up(parts)
                again = partial(self._add_up, parts)
                for recipe in self.recipes:
                    if step >= recipe.extra_pass_from(n_steps):
                        recipe.extra_pass(self.model, again, self.clear)
                self._clip()
                if upcoming:
                    self._prefetch(self._parts(upcoming[0])[0])
                return loss
            except RuntimeError as error:
                largest = max(len(part) for batch in batches for part in self._parts(batch))
                if not out_of_memory(error) or largest // 2 < self._smallest:
                    raise
            # Not in the handler: the error holds on to the failed attempt's tensors.
            self.clear()
            self._fetched = None
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

    def _add_up(self, parts: Sequence[np.ndarray]) -> Tensor:
        """Add up the gradients of the parts; the mean loss over all their rows, on the device."""
        n_rows = sum(map(len, parts))
        losses = []
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            rows = self._fetch(part)
            with self._dropout():  # the backward pass may repeat some of the forward pass
                each = self._losses(*rows)
                self._accelerator.backward(each.sum() / n_rows)
            losses.append(each.detach().sum() / n_rows)
            if following is not None:
                self._prefetch(following)
        return torch.stack(losses).sum()

    def _prefetch(self, part: np.ndarray) -> None:
        """Give a GPU its next rows while it is still busy with the ones before."""
        if runs_ahead(self._accelerator.device):
            self._fetch(part)

    def _fetch(self, part: np.ndarray) -> Labelled:
        """The rows on the device; those of the last call are kept."""
        if self._fetched is None or not np.array_equal(self._fetched[0], part):
            batch = collate(
                self.encoded,
                self.rows[part],
                full_width=self.model.mask == "none",
                window_tokens=self.window_tokens,
            )
            rows = Labelled(batch, self._targets_NL[part], self._weights[part])
            self._fetched = part, to_device(rows, self._accelerator.device)
        return self._fetched[1]

    def _losses(self, batch: Batch, targets_BL: Tensor, weights: Tensor) -> Tensor:
        """One loss per row, (B,): the mean over all passes, and what recipes add to it."""
        passes = self._forward(batch)
        losses = torch.stack([self.objective.loss(logits, targets_BL) for logits in passes])
        loss_B = (losses.mean(dim=0) * weights).mean(dim=1)
        for recipe in self.recipes:
            loss_B = recipe.loss(loss_B, passes, weights, self.objective)
        return loss_B

    def _clip(self) -> None:
        if self.clip is None:
            return
        scaler = self._accelerator.scaler
        try:
            self._accelerator.unscale_gradients()
            clip_(list(self.model.parameters()), self.clip)
        except RuntimeError:
            if scaler is not None:  # or it would refuse to do so again
                scaler.update(scaler.get_scale())
            raise


def clip_(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scale the gradients such that their norm is at most `largest`, as torch's clip_grad_norm_.

    Gradients that are small enough are not written again where asking costs no wait.
    """
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not runs_ahead(norm.device) and largest / (norm + 1e-6) >= 1:
        return
    clip_grads_with_norm_(parameters, largest, norm)


def _normalises_batches(model: torch.nn.Module) -> bool:
    return any(isinstance(module, torch.nn.BatchNorm1d) for module in model.modules())
