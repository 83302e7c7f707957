"""The loop: fine-tune a model on some rows.

Shape legend: B batch, N rows, K outputs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from poolblend.errors import UserError
from poolblend.modeling.adapters import merge_for_good, merged
from poolblend.modeling.checkpointing import checkpoint_activations
from poolblend.modeling.model import TextModel
from poolblend.training import state
from poolblend.training.averaging import is_due, weight_average
from poolblend.training.batches import Encoded, padding_share, plan_steps
from poolblend.training.devices import accelerator, choose_device, resolve_precision
from poolblend.training.gradients import Gradients
from poolblend.training.objectives import Objective
from poolblend.training.optim import build_optimizer, build_schedule, parameter_groups
from poolblend.training.options import FitOptions
from poolblend.training.state import Position, State, under

AVERAGE, NOTE = "average.", "note."


class DivergedError(UserError):
    """A training whose loss or predictions are no longer finite; its checkpoints lead there."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch did: mean loss over its rows, seconds, share of padding among its tokens."""

    number: int
    loss: float
    seconds: float
    padding: float


class Fit:
    """One fine-tuning of `model`, in place, on `rows` of `encoded`.

    Aligned with `encoded` are the objective's `targets` (N, L), and `weights` (N, 1 or L), which
    scale the losses. `window_tokens` bounds what the encoder reads at once of one row's windows.
    Between two optimizer steps, `state` says all that another process needs to
    go on from there with `restore`, to the same bits. `notes` are tensors of the caller's that are
    kept with it.
    """

    def __init__(
        self,
        model: TextModel,
        encoded: Encoded,
        rows: np.ndarray,
        targets: np.ndarray,
        objective: Objective,
        options: FitOptions,
        weights: np.ndarray | None = None,
        window_tokens: int | None = None,
    ) -> None:
        self.encoded, self.rows, self.options = encoded, rows, options
        self.position = Position()
        self.last_loss = self.last_rate = math.nan  # of the last step; the rate that is `lr`'s
        self.notes: dict[str, Tensor] = {}
        self._accelerator = accelerator(resolve_precision(options.precision, choose_device()))
        if options.gradient_checkpointing:
            checkpoint_activations(model.encoder)
        targets = targets[rows]
        weights = np.ones((len(rows), 1)) if weights is None else weights[rows]
        self.objective = objective.fitted(targets, weights)
        targets = self.objective.counted(targets)
        _start_at_base_rates(model, self.objective, targets, weights)
        self._gradients = Gradients(
            model, encoded, rows, targets, weights, self.objective, options.losses, window_tokens
        )
        self._steps = plan_steps(
            encoded.lengths_N[rows],
            options.epochs,
            options.batch_size,
            options.accumulation,
            options.seed,
        )
        optim = _optimizer(model, options)
        self._schedule = build_schedule(
            options.schedule,
            optim,
            n_steps=self.n_steps,
            warmup=options.warmup,
            hold_from=sum(map(len, self._steps[: -options.swa_epochs]))
            if options.swa_epochs
            else None,
        )
        model.to(self._accelerator.device)
        self._average = weight_average(model, options)
        self.model, self._optim = self._accelerator.prepare(model, optim)
        self._gradients.model = self.model

    @property
    def n_steps(self) -> int:
        return sum(map(len, self._steps))

    @property
    def steps_done(self) -> int:
        return sum(map(len, self._steps[: self.position.epoch])) + self.position.step

    @property
    def pieces(self) -> int:
        """Into how many a batch is cut, more than one where the device ran out of memory."""
        return self._gradients.pieces

    @property
    def adversarial_from(self) -> int:
        """The first step, counted from 0, whose gradients are adversarial."""
        return self.options.adversarial_from(self.n_steps)

    def state(self) -> State:
        """Where the training is, between two steps; valid until the next one."""
        live = state.capture(
            self.model, self._optim, self._schedule, self._accelerator.scaler, self.position
        )
        average = {} if self._average is None else self._average.state_dict()
        kept = {f"{AVERAGE}{k}": v for k, v in average.items()}
        kept |= {f"{NOTE}{k}": v for k, v in self.notes.items()}
        own = {"pieces": self.pieces, "unit": self.objective.told_unit}
        return State(live.tensors | kept, live.rest | own)

    def restore(self, saved: State) -> None:
        """Go on from there. Raises KeyError, TypeError, ValueError or RuntimeError if it cannot."""
        if saved.rest.get("unit") != self.objective.told_unit:
            raise ValueError("values were learned in another unit")
        self.position = state.restore(
            saved, self.model, self._optim, self._schedule, self._accelerator.scaler
        )
        if self._average is not None:
            self._average.load_state_dict(under(AVERAGE, saved.tensors))
        self.notes = under(NOTE, saved.tensors)
        self._gradients.pieces = saved.rest["pieces"]

    def run(
        self, *, progress: str | None = None, after_step: Callable[[], None] | None = None
    ) -> Iterator[Epoch]:
        """Train what is left, yielding after each epoch what it did.

        A state taken while the caller holds an epoch yields that epoch again. `progress` labels a
        progress bar. Raises DivergedError when the loss is no longer finite.
        """
        with tqdm(
            total=self.n_steps,
            initial=self.steps_done,
            desc=progress,
            unit=" step",
            disable=None if progress else True,
        ) as bar:
            while self.position.epoch < self.options.epochs:
                epoch = self.position.epoch
                self.model.train()
                for step in self._steps[epoch][self.position.step :]:
                    self._train_step(step)
                    bar.set_postfix(loss=f"{self.last_loss:.3f}", refresh=False)
                    bar.update()
                    if after_step is not None:
                        after_step()
                yield Epoch(
                    epoch + 1,
                    self.position.loss / len(self.rows),
                    self.position.seconds,
                    padding_share(
                        self.encoded.lengths_N[self.rows],
                        [batch for step in self._steps[epoch] for batch in step],
                        self.encoded.max_length,
                    ),
                )
                self.position = Position(epoch + 1)

    @contextmanager
    def evaluated(self) -> Iterator[TextModel]:
        """The model as it would be kept now: of averaged weights, with adapters merged."""
        with merged(self._kept.encoder):
            yield self._kept

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of the weights that would be kept now, for `finish`."""
        return {name: tensor.clone() for name, tensor in self._kept.state_dict().items()}

    def finish(self, weights: Mapping[str, Tensor] | None = None) -> TextModel:
        """End the training: the model to be kept, with the weights of a snapshot if given."""
        kept = self._kept
        self._accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self._accelerator.free_memory()
        if weights is not None:
            kept.load_state_dict(weights)
        merge_for_good(kept.encoder)
        return kept

    @property
    def _kept(self) -> TextModel:
        if self._average is None or self._average.n_averaged == 0:
            return self.model
        averaged: TextModel = self._average.module  # type: ignore[assignment]
        return averaged

    def try_step(self) -> None:
        """Do the first step of the plan, to see whether it can be done; no position is kept.

        Raises DivergedError where its loss is not finite, and whatever model and device raise.
        """
        self.model.train()
        self._step(self._steps[0][0])
        if self._average is not None:
            self._average.update_parameters(self.model)

    def _train_step(self, step: Sequence[np.ndarray]) -> None:
        started = time.perf_counter()
        loss = self._step(step)
        self.last_loss = loss
        self.position.step += 1
        self.position.loss += loss * sum(map(len, step))
        if self._average is not None and is_due(
            self.options, self.position, len(self._steps[self.position.epoch])
        ):
            self._average.update_parameters(self.model)
        self.position.seconds += time.perf_counter() - started

    @property
    def cure(self) -> str:
        """What may help a training that diverges."""
        resolved = resolve_precision(self.options.precision, choose_device())
        return "lower train.lr" + ", or set train.precision=fp32" * (resolved != "fp32")

    def _step(self, step: Sequence[np.ndarray]) -> float:
        """Change the weights once; the mean loss before that."""
        adversarial = self.steps_done >= self.adversarial_from
        loss = self._gradients.of_step(
            step, self._accelerator, self._optim, adversarial=adversarial
        )
        if not np.isfinite(loss):
            raise DivergedError(
                f"the training loss became {loss} in epoch {self.position.epoch + 1}; {self.cure}"
            )
        if self.options.clip is not None:
            self._accelerator.clip_grad_norm_(self.model.parameters(), self.options.clip)
        group = self._optim.param_groups[0]
        self.last_rate = self.options.lr * group["lr"] / group["initial_lr"]
        self._optim.step()
        self._schedule.step()
        self._optim.zero_grad()
        return loss


def _optimizer(model: TextModel, options: FitOptions) -> torch.optim.Optimizer:
    groups = parameter_groups(
        model,
        lr=options.lr,
        head_lr=options.head_lr,
        layer_decay=options.layer_decay,
        weight_decay=options.weight_decay,
    )
    return build_optimizer(options.optimizer, groups)


def _start_at_base_rates(
    model: TextModel, objective: Objective, targets: np.ndarray, weights: np.ndarray
) -> None:
    if objective.prior is not None:
        with torch.no_grad():
            model.head.linear.bias.copy_(torch.from_numpy(objective.prior(targets, weights)))
