"""The gradients of one optimizer step: its batches, halved where the memory is too small.

Shape legend: B batch, N rows, S samples of dropout, L logits.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from poolblend.errors import UserError
from poolblend.modeling.model import Batch, TextModel
from poolblend.training.adversarial import embeddings_pushed, weights_pushed
from poolblend.training.batches import Encoded, collate
from poolblend.training.devices import free_cached, out_of_memory
from poolblend.training.objectives import Objective
from poolblend.training.options import LossOptions

log = logging.getLogger(__name__)


class Gradients:
    """Gradients of `model` on the rows `rows` of `encoded`.

    `targets` (N, L) and `weights` (N, 1 or L) are those of these rows.
    `pieces` is how many a batch is cut into: more than one where the device ran out of memory.
    A row whose windows hold more than `window_tokens` is read in passes of as many, whose
    activations are computed again for the gradients.
    """

    def __init__(
        self,
        model: TextModel,
        encoded: Encoded,
        rows: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        objective: Objective,
        options: LossOptions,
        window_tokens: int | None = None,
    ) -> None:
        self.model, self.encoded, self.rows = model, encoded, rows
        self.objective, self.options, self.window_tokens = objective, options, window_tokens
        self._targets_NL = torch.from_numpy(targets).float()
        self._weights = torch.from_numpy(weights).float()
        self.pieces = 1
        self._smallest = 2 if _normalises_batches(model) else 1
        if options.rdrop and not _drops(model):
            raise UserError(
                "train.rdrop compares two passes under dropout, of which the model has none; set "
                "head.dropout above 0, or leave it out"
            )

    def of_step(
        self,
        batches: Sequence[np.ndarray],
        accelerator: Accelerator,
        optimizer: torch.optim.Optimizer,
        *,
        adversarial: bool,
    ) -> float:
        """Leave one step's gradients on the model; the mean loss over all the batches' rows.

        With `adversarial`, those of the step's adversarial pass, or of both, are left. The batches
        are halved, and the step begun anew, for as long as the memory is too small.
        """
        while True:
            try:
                parts = [part for batch in batches for part in self._parts(batch)]
                loss = self._add_up(parts, accelerator)
                if adversarial:
                    self._add_adversarial(parts, accelerator, optimizer)
                return loss
            except RuntimeError as error:
                largest = max(len(part) for batch in batches for part in self._parts(batch))
                if not out_of_memory(error) or largest // 2 < self._smallest:
                    raise
            # Not in the handler: the error holds on to the failed attempt's tensors.
            optimizer.zero_grad()
            free_cached()
            self.pieces *= 2
            log.warning(
                "out of memory: going on with batches of %d rows, %d of them to a step",
                largest // 2,
                len(batches) * self.pieces,
            )

    def _parts(self, batch: np.ndarray) -> list[np.ndarray]:
        return np.array_split(batch, max(1, min(self.pieces, len(batch) // self._smallest)))

    def _add_adversarial(
        self,
        parts: Sequence[np.ndarray],
        accelerator: Accelerator,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Add the gradients at pushed embeddings; or replace all by those at pushed weights."""
        if self.options.fgm:
            with embeddings_pushed(self.model, self.options.fgm):
                self._add_up(parts, accelerator)
        elif self.options.awp:
            with weights_pushed(self.model, self.options.awp):
                optimizer.zero_grad()
                self._add_up(parts, accelerator)

    def _add_up(self, parts: Sequence[np.ndarray], accelerator: Accelerator) -> float:
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
            each = self._losses(batch.to(accelerator.device), part, accelerator.device)
            accelerator.backward(each.sum() / n_rows)
            losses.append(each.detach().sum() / n_rows)
        return float(torch.stack(losses).sum())

    def _losses(self, batch: Batch, part: np.ndarray, device: torch.device) -> Tensor:
        """One loss per row, (B,): the mean over samples of dropout, and over R-Drop's two passes.

        Source of the latter: Liang et al. 2021, arXiv:2106.14448; `rdrop` is half its alpha.
        """
        targets_BL = self._targets_NL[part].to(device)
        weights = self._weights[part].to(device)
        passes = [
            self.model(batch, samples=self.options.dropout_samples)
            for _ in range(2 if self.options.rdrop else 1)
        ]
        losses = [
            self.objective.loss(logits, targets_BL, self.options.label_smoothing)
            for logits_SBL in passes
            for logits in logits_SBL
        ]
        loss_B = (torch.stack(losses).mean(dim=0) * weights).mean(dim=1)
        if self.options.rdrop:
            apart = [self.objective.distance(a, b) for a, b in zip(*passes, strict=True)]
            share_B = self.options.rdrop * weights.mean(dim=1)
            loss_B = loss_B + share_B * torch.stack(apart).mean(dim=0)
        return loss_B


def _normalises_batches(model: torch.nn.Module) -> bool:
    return any(isinstance(module, torch.nn.BatchNorm1d) for module in model.modules())


def _drops(model: torch.nn.Module) -> bool:
    """Whether anything is dropped in training: what is frozen stays in eval mode."""
    model.train()
    drops = (m for m in model.modules() if isinstance(m, torch.nn.Dropout) and m.training)
    return any(module.p > 0 for module in drops)
