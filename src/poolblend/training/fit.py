"""The loop: fine-tune a model on some rows.

Shape legend: B batch, N rows, K outputs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from poolblend.errors import UserError
from poolblend.modeling.model import TextModel
from poolblend.training import state
from poolblend.training.batches import Encoded, collate, padding_share, training_batches
from poolblend.training.devices import (
    Precision,
    accelerator,
    choose_device,
    free_cached,
    out_of_memory,
    resolve_precision,
)
from poolblend.training.objectives import Objective
from poolblend.training.optim import build_optimizer, build_schedule, parameter_groups
from poolblend.training.state import Position, State

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Epoch:
    """What one epoch did: mean loss over its rows, seconds, share of padding among its tokens."""

    number: int
    loss: float
    seconds: float
    padding: float


@dataclass(frozen=True)
class FitOptions:
    """How a model is fine-tuned; the keys of a config's `train:` section, and a seed.

    Batches and their order come from `seed`; dropout from torch's global generator, which the
    caller seeds before it builds the model. `accumulation` batches make one optimizer step, whose
    loss is the mean over all their rows.
    """

    epochs: int
    batch_size: int
    accumulation: int
    optimizer: str
    lr: float
    head_lr: float | None
    layer_decay: float
    weight_decay: float
    schedule: str
    warmup: float
    clip: float | None
    precision: Precision
    gradient_checkpointing: bool
    seed: int


class Fit:
    """One fine-tuning of `model`, in place, on `rows` of `encoded`; `y` is aligned with `encoded`.

    Between two optimizer steps, `state` says all that another process needs to go on from there
    with `restore`, to the same bits.
    """

    def __init__(
        self,
        model: TextModel,
        encoded: Encoded,
        rows: np.ndarray,
        y: np.ndarray,
        objective: Objective,
        options: FitOptions,
    ) -> None:
        self.encoded, self.rows, self.objective = encoded, rows, objective
        self.options = options
        self.position = Position()
        self.pieces = 1  # of a batch; more where the device ran out of memory
        self._smallest = 2 if _normalises_batches(model) else 1
        self._accelerator = accelerator(resolve_precision(options.precision, choose_device()))
        if options.gradient_checkpointing:
            _checkpoint_activations(model.encoder)
        _start_at_base_rates(model, objective, y[rows])
        generator = np.random.default_rng(options.seed)
        lengths = encoded.lengths_N[rows]
        self._plan = [
            training_batches(lengths, options.batch_size, generator) for _ in range(options.epochs)
        ]
        self._steps = [_chunks(batches, options.accumulation) for batches in self._plan]
        optim = build_optimizer(
            options.optimizer,
            parameter_groups(
                model,
                lr=options.lr,
                head_lr=options.head_lr,
                layer_decay=options.layer_decay,
                weight_decay=options.weight_decay,
            ),
        )
        self._schedule = build_schedule(
            options.schedule, optim, n_steps=self.n_steps, warmup=options.warmup
        )
        self.model, self._optim = self._accelerator.prepare(model, optim)
        targets = torch.from_numpy(y[rows])
        # Apple's GPUs have no float64.
        self._targets = targets.float() if targets.is_floating_point() else targets

    @property
    def n_steps(self) -> int:
        return sum(map(len, self._steps))

    @property
    def steps_done(self) -> int:
        return sum(map(len, self._steps[: self.position.epoch])) + self.position.step

    def state(self) -> State:
        """Where the training is, between two steps; valid until the next one."""
        live = state.capture(
            self.model, self._optim, self._schedule, self._accelerator.scaler, self.position
        )
        return State(live.tensors, live.rest | {"pieces": self.pieces})

    def restore(self, saved: State) -> None:
        """Go on from there. Raises KeyError, TypeError, ValueError or RuntimeError if it cannot."""
        self.position = state.restore(
            saved, self.model, self._optim, self._schedule, self._accelerator.scaler
        )
        self.pieces = saved.rest["pieces"]

    def run(
        self, *, progress: str | None = None, after_step: Callable[[], None] | None = None
    ) -> Iterator[Epoch]:
        """Train what is left, yielding after each epoch what it did.

        A state taken while the caller holds an epoch yields that epoch again. `progress` labels a
        progress bar. Raises UserError when the loss is no longer finite.
        """
        with tqdm(
            total=self.n_steps,
            initial=self.steps_done,
            desc=progress,
            unit="step",
            disable=None if progress else True,
        ) as bar:
            while self.position.epoch < self.options.epochs:
                epoch = self.position.epoch
                self.model.train()
                for step in self._steps[epoch][self.position.step :]:
                    loss = self._train_step(step)
                    bar.update()
                    bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                    if after_step is not None:
                        after_step()
                yield Epoch(
                    epoch + 1,
                    self.position.loss / len(self.rows),
                    self.position.seconds,
                    padding_share(self.encoded.lengths_N[self.rows], self._plan[epoch]),
                )
                self.position = Position(epoch + 1)
        self._accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self._accelerator.free_memory()

    def _train_step(self, step: Sequence[np.ndarray]) -> float:
        started = time.perf_counter()
        loss = self._backward(step)
        if not np.isfinite(loss):
            raise UserError(
                f"the training loss became {loss} in epoch {self.position.epoch + 1}; lower "
                "train.lr, or set train.precision=fp32"
            )
        if self.options.clip is not None:
            self._accelerator.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self._optim.step()
        self._schedule.step()
        self._optim.zero_grad()
        self.position.step += 1
        self.position.loss += loss * sum(map(len, step))
        self.position.seconds += time.perf_counter() - started
        return loss

    def _backward(self, step: Sequence[np.ndarray]) -> float:
        """Gradients of one step; its batches are halved for as long as the memory is too small."""
        while True:
            try:
                return self._add_gradients([p for batch in step for p in self._parts(batch)])
            except RuntimeError as error:
                largest = max(len(part) for batch in step for part in self._parts(batch))
                if not out_of_memory(error) or largest // 2 < self._smallest:
                    raise
            # Not in the handler: the error holds on to the failed attempt's tensors.
            self._optim.zero_grad()
            free_cached()
            self.pieces *= 2
            log.warning(
                "out of memory: going on with batches of %d rows, %d of them to a step",
                -(-self.options.batch_size // self.pieces),
                self.options.accumulation * self.pieces,
            )

    def _parts(self, batch: np.ndarray) -> list[np.ndarray]:
        return np.array_split(batch, max(1, min(self.pieces, len(batch) // self._smallest)))

    def _add_gradients(self, parts: Sequence[np.ndarray]) -> float:
        """Add up the gradients of the parts; the mean loss over all their rows."""
        n_rows = sum(map(len, parts))
        losses = []
        for part in parts:
            inputs = collate(
                self.encoded, self.rows[part], full_width=self.model.mask == "none"
            ).to(self._accelerator.device)
            each = self.objective.loss(
                self.model(inputs), self._targets[part].to(self._accelerator.device)
            )
            self._accelerator.backward(each.sum() / n_rows)
            losses.append(each.detach().sum() / n_rows)
        return float(torch.stack(losses).sum())


def _normalises_batches(model: torch.nn.Module) -> bool:
    return any(isinstance(module, torch.nn.BatchNorm1d) for module in model.modules())


def _checkpoint_activations(encoder: Any) -> None:
    # Renamed in transformers 5.23, where the old name warns.
    enable = getattr(encoder, "activation_checkpointing_enable", None)
    (enable or encoder.gradient_checkpointing_enable)()


def _start_at_base_rates(model: TextModel, objective: Objective, y: np.ndarray) -> None:
    bias = model.head.linear.bias
    with torch.no_grad():
        bias.copy_(torch.from_numpy(objective.prior(y, len(bias))))


def _chunks(batches: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [batches[i : i + size] for i in range(0, len(batches), size)]
