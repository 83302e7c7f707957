"""The loop: fine-tune a model on some rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from poolblend.modeling.layers import checkpoint_activations
from poolblend.modeling.model import TextModel
from poolblend.printing import hide_bars
from poolblend.training import state
from poolblend.training.batches import Encoded, padding_share, plan_steps
from poolblend.training.devices import (
    accelerator,
    choose_device,
    resolve_precision,
    runs_ahead,
    use_deterministic,
)
from poolblend.training.gradients import Gradients
from poolblend.training.losses import PATIENCE, DivergedError, Losses
from poolblend.training.objectives import Objective
from poolblend.training.optimizers import build_optimizer
from poolblend.training.options import Train
from poolblend.training.recipes import active_recipes
from poolblend.training.schedules import build_schedule
from poolblend.training.state import Position, State, under
from poolblend.training.updates import Updates

__all__ = ["DivergedError", "Epoch", "Fit"]

RECIPE, NOTE = "recipe.", "note."
READ_EVERY = 50  # steps whose losses a GPU keeps


@dataclass(frozen=True)
class Epoch:
    """One epoch: mean loss over its rows, seconds, share of padding among its tokens."""

    number: int
    loss: float
    seconds: float
    padding: float


class Fit:
    """One fine-tuning of `model`, in place, on `rows` of `encoded`.

    The objective's `targets` (N, L) and `weights` (N, 1 or L), which scale the losses, have the
    rows of `encoded`. Batches and their order come from `seed`; dropout from torch's global
    generator, which the caller seeds before building the model. `window_tokens` limits how many
    tokens of one row's windows the encoder reads at once.

    Between two optimizer steps, `state` returns everything that another process needs to resume
    with `restore`, bit for bit. `notes` are tensors of the caller that are saved with it.
    """

    def __init__(
        self,
        model: TextModel,
        encoded: Encoded,
        rows: np.ndarray,
        targets: np.ndarray,
        objective: Objective,
        options: Train,
        seed: int,
        weights: np.ndarray | None = None,
        window_tokens: int | None = None,
    ) -> None:
        self.encoded, self.rows = encoded, rows
        self.options, self.seed = options, seed
        self.recipes = active_recipes(options)
        self.position = Position()
        self.last_rate = math.nan  # of the last step: the one that `lr` has become
        self.notes: dict[str, Tensor] = {}
        use_deterministic(options.deterministic)
        self._accelerator = accelerator(resolve_precision(options.precision, choose_device()))
        self._losses = Losses(
            self.cure,
            every=READ_EVERY if runs_ahead(self._accelerator.device) else 1,
            patience=0 if self._accelerator.scaler is None else PATIENCE,
        )
        if options.gradient_checkpointing:
            checkpoint_activations(model.encoder)
        targets = targets[rows]
        weights = np.ones((len(rows), 1)) if weights is None else weights[rows]
        self.objective = objective.fitted(targets, weights)
        targets = self.objective.scale(targets)
        _start_at_base_rates(model, self.objective, targets, weights)
        self._steps = plan_steps(
            encoded.lengths_N[rows],
            options.epochs,
            options.batch_size,
            options.accumulation,
            seed,
        )
        model.to(self._accelerator.device)
        optimizer = build_optimizer(model, options, self.recipes)
        steps = [len(epoch) for epoch in self._steps]
        constant = (recipe.constant_rate_from(steps) for recipe in self.recipes)
        schedule = build_schedule(
            options.schedule,
            optimizer,
            n_steps=self.n_steps,
            warmup=options.warmup,
            constant_from=next((step for step in constant if step is not None), None),
        )
        for recipe in self.recipes:
            recipe.begin(model, options)
        self.model, optimizer = self._accelerator.prepare(model, optimizer)
        self._updates = Updates(self._accelerator, optimizer, schedule, self.cure)
        self._gradients = Gradients(
            self.model,
            encoded,
            rows,
            targets,
            weights,
            self.objective,
            self.recipes,
            self._accelerator,
            window_tokens,
            options.clip,
        )

    @property
    def n_steps(self) -> int:
        return sum(map(len, self._steps))

    @property
    def steps_done(self) -> int:
        return sum(map(len, self._steps[: self.position.epoch])) + self.position.step

    @property
    def pieces(self) -> int:
        """The number of pieces of a batch; above 1 after the device ran out of memory."""
        return self._gradients.pieces

    @property
    def skipped(self) -> int:
        """The number of steps that fp16 skipped, because their gradients had overflowed."""
        return self._updates.skipped

    @property
    def last_loss(self) -> float:
        """The loss of the last step; reading it waits for the device."""
        self._losses.read(self.position)
        return self._losses.last

    def state(self) -> State:
        """The state of the training; valid until the next step.

        Raises DivergedError where the weights are not finite: no checkpoint may hold such.
        """
        self._losses.read(self.position)
        weights = [weight.isfinite().all() for weight in self.model.parameters()]
        if not torch.stack(weights).all():
            raise DivergedError(
                f"the weights became NaN or infinite in epoch {self.position.epoch + 1}; "
                f"{self.cure}"
            )
        live = state.capture(self.model, *self._moving, self.position)
        kept = {f"{NOTE}{name}": tensor for name, tensor in self.notes.items()}
        for recipe in self.recipes:
            kept |= {f"{RECIPE}{recipe.name}.{k}": v for k, v in recipe.state().items()}
        own = {
            "pieces": self.pieces,
            "skipped": self.skipped,
            "target_scaler": self.objective.scaler_json,
        }
        return State(live.tensors | kept, live.rest | own)

    def restore(self, saved: State) -> None:
        """Resume; KeyError, TypeError, ValueError or RuntimeError where `saved` does not fit."""
        if saved.rest.get("target_scaler") != self.objective.scaler_json:
            raise ValueError("targets were scaled differently")
        self.position = state.restore(saved, self.model, *self._moving)
        for recipe in self.recipes:
            recipe.restore(under(f"{RECIPE}{recipe.name}.", saved.tensors))
        self.notes = under(NOTE, saved.tensors)
        self._gradients.pieces = saved.rest["pieces"]
        skipped = saved.rest.get("skipped", 0)
        self._updates = Updates(self._accelerator, *self._moving[:2], self.cure, skipped)

    def run(
        self, *, progress: str | None = None, after_step: Callable[[], None] | None = None
    ) -> Iterator[Epoch]:
        """Do the remaining epochs, and yield a summary after each.

        A state captured after an epoch was yielded yields that epoch again. `progress` labels a
        progress bar. Raises DivergedError when the loss is no longer finite, or when fp16 skipped
        nearly all steps.
        """
        with tqdm(
            total=self.n_steps,
            initial=self.steps_done,
            desc=progress,
            unit=" step",
            disable=hide_bars() if progress else True,
        ) as bar:
            while self.position.epoch < self.options.epochs:
                epoch = self.position.epoch
                self.model.train()
                for step in self._steps[epoch][self.position.step :]:
                    self._train_step(step)
                    bar.set_postfix(loss=f"{self._losses.last:.3f}", refresh=False)
                    bar.update()
                    if after_step is not None:
                        after_step()
                if epoch + 1 == self.options.epochs:
                    self._updates.check(self.n_steps)
                yield Epoch(
                    epoch + 1,
                    self.position.loss / max(1, len(self.rows) - self.position.rows_lost),
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
        """The model as it would be saved now."""
        with ExitStack() as stack:
            for recipe in self.recipes:
                stack.enter_context(recipe.evaluating(self._kept))
            yield self._kept

    def end_epoch(self, merit: float | None, pred_NK: np.ndarray) -> bool:
        """Whether training ends after this epoch; to be called once for each that `run` yields.

        `merit` is the epoch's score, larger is better; None where it is undefined. `pred_NK` are
        the predictions that were scored.
        """
        ends = [recipe.after_epoch(merit, pred_NK, self._snapshot) for recipe in self.recipes]
        return any(ends)

    @property
    def kept_epoch(self) -> tuple[int, list[np.ndarray]] | None:
        """The number of the epoch that is kept, and each epoch's predictions; None: the last is."""
        found = (recipe.kept_epoch() for recipe in self.recipes)
        return next((each for each in found if each is not None), None)

    def finish(self) -> TextModel:
        """End the training: the model to be kept."""
        kept = self._kept
        self._accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self._accelerator.free_memory()
        for recipe in self.recipes:
            recipe.finish(kept)
        return kept

    def _snapshot(self) -> dict[str, Tensor]:
        kept, frozen = self._kept, state.frozen_weights(self._kept)
        return {k: v.clone() for k, v in kept.state_dict().items() if k not in frozen}

    @property
    def _kept(self) -> TextModel:
        found = (recipe.kept() for recipe in self.recipes)
        return next((model for model in found if model is not None), self.model)

    def try_step(self) -> None:
        """Do the first step of the plan as if it were the last, to test whether it works.

        All recipes take part in it. The position is not changed. Raises DivergedError where its
        loss is not finite, and whatever model and device raise.
        """
        self.model.train()
        strict = Losses(self.cure, every=1, patience=0)
        self._step(self._steps[0][0], self.n_steps - 1, strict, Position())
        for recipe in self.recipes:
            recipe.after_step(self.model, self.options.epochs - 1, ends_epoch=True)

    def _train_step(self, step: Sequence[np.ndarray]) -> None:
        started = time.perf_counter()
        position = self.position
        counts = self._step(step, self.steps_done, self._losses, position)
        position.step += 1
        ends_epoch = position.step == len(self._steps[position.epoch])
        if counts or ends_epoch:
            for recipe in self.recipes:
                recipe.after_step(self.model, position.epoch, ends_epoch=ends_epoch)
        if ends_epoch:
            self._losses.read(position)
        position.seconds += time.perf_counter() - started

    @property
    def cure(self) -> str:
        """Advice for a training that diverges."""
        resolved = resolve_precision(self.options.precision, choose_device())
        return "lower train.lr" + ", or set train.precision=fp32" * (resolved != "fp32")

    def _step(
        self, step: Sequence[np.ndarray], number: int, losses: Losses, position: Position
    ) -> bool:
        """Do step number `number`, and add its loss; whether it counts: fp16 may have skipped it.

        Nothing is read from a GPU, except in fp16 whether the step counts.
        """
        upcoming = self._steps[position.epoch][position.step + 1 :][:1]
        loss = self._gradients.of_step(step, number, self.n_steps, *upcoming)
        losses.add(loss, sum(map(len, step)), position)
        group = self._updates.optimizer.param_groups[0]
        self.last_rate = self.options.lr * group["lr"] / group["initial_lr"]
        return self._updates.step()

    @property
    def _moving(self) -> tuple[Any, Any, Any]:
        """Optimizer, schedule and fp16's loss scaler."""
        return self._updates.optimizer, self._updates.schedule, self._accelerator.scaler


def _start_at_base_rates(
    model: TextModel, objective: Objective, targets: np.ndarray, weights: np.ndarray
) -> None:
    bias_L = objective.prior(targets, weights)
    if bias_L is not None:
        with torch.no_grad():
            model.head.linear.bias.copy_(torch.from_numpy(bias_L))
