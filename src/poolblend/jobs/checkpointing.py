"""Checkpoints of a training: written when due, resumed from, and one before every stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError

from poolblend.cards.checkpoint import CheckpointCard
from poolblend.cards.inputs import FileHash
from poolblend.cards.provenance import Provenance
from poolblend.errors import Stopped, UserError
from poolblend.jobs.context import Context
from poolblend.store import Checkpoints
from poolblend.training.fit import Fit
from poolblend.training.state import State

log = logging.getLogger(__name__)

WRITING = "a checkpoint"
WORTH = 60.0  # seconds of training after which the end of an epoch is worth a checkpoint
DISK = 100e6  # bytes a second: how long the first checkpoint may take is a guess


class Checkpointer:
    """Writes one `fit` to `checkpoints`; `inputs` is what the training depends on.

    `label` names the training in the log; `epochs` are those finished, as its card will hold them.
    """

    def __init__(
        self,
        context: Context,
        fit: Fit,
        checkpoints: Checkpoints,
        inputs: Mapping[str, Any],
        label: str,
    ) -> None:
        self.fit, self.checkpoints, self.inputs, self.label = fit, checkpoints, inputs, label
        self.watch, self._intervals = context.watch, context.config.checkpoints
        self.epochs: list[dict[str, Any]] = []
        self.resumed: list[int] = []  # the steps at which the training was resumed
        self._written_step = 0
        self._tried_at, self._tried_step = time.monotonic(), 0
        self._asked_at = time.monotonic()
        weights = sum(p.numel() * p.element_size() for p in fit.model.parameters())
        self.watch.took(WRITING, 3 * weights / DISK)

    def resume(self) -> None:
        """Restore the newest checkpoint, if there is one."""
        checkpoint = self.checkpoints.newest()
        if checkpoint is None:
            return
        card = checkpoint.card
        try:
            self.fit.restore(State(checkpoint.tensors(), card.rest))
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UserError(
                f"{checkpoint.folder} cannot be resumed from ({reason}); use the library versions "
                f"in its card, or start the training again: delete {self.checkpoints.folder}"
            ) from None
        self.epochs, self.resumed = list(card.epochs), [*card.resumed, card.step]
        self._written_step = self._tried_step = self.fit.steps_done
        log.info("%s: resumes at step %d of %d", self.label, self.fit.steps_done, self.fit.n_steps)

    def after_step(self) -> None:
        """Between two steps: write what is due, and raise Stopped when that is due."""
        self.after_batch()
        if self._is_due():
            self.write()

    def after_batch(self) -> None:
        """Between two batches of predictions: raise Stopped, with a checkpoint, when it is due."""
        now = time.monotonic()
        self.watch.took("a step", now - self._asked_at)
        self._asked_at = now
        stop = self.watch.due()
        if stop is not None:
            raise self._stopped(stop)

    def after_epoch(self) -> None:
        """Write what took long enough: what is sooner trained again costs more to write."""
        if time.monotonic() - self._tried_at >= WORTH:
            self.write()

    def write(self) -> bool:
        """Write a checkpoint; a disk that cannot take it is warned of, and ends no training."""
        if 0 < self.fit.steps_done == self._written_step:
            return True
        started, state = time.monotonic(), self.fit.state()

        def make_card(place: str, tensors: FileHash) -> CheckpointCard:
            return CheckpointCard(
                place=place,
                step=self.fit.steps_done,
                inputs=dict(self.inputs),
                epochs=tuple(self.epochs),
                resumed=tuple(self.resumed),
                rest=state.rest,
                provenance=Provenance.here(),
                state=tensors,
            )

        try:
            self.checkpoints.save(self.fit.steps_done, state.tensors, make_card)
        except UserError as error:
            log.warning("no checkpoint: %s", error)
            return False
        finally:
            self._tried_at, self._tried_step = time.monotonic(), self.fit.steps_done
            self.watch.took(WRITING, self._tried_at - started)
            self._asked_at = self._tried_at
        self._written_step = self.fit.steps_done
        return True

    def log_skipped(self) -> None:
        """Say how many steps fp16 skipped, if any; the first of a training often are."""
        skipped, steps = self.fit.skipped, self.fit.steps_done
        if skipped:
            log.info(
                "%s: %d of %d steps skipped, whose gradients overflowed in fp16",
                self.label,
                skipped,
                steps,
            )

    def _is_due(self) -> bool:
        minutes, steps = self._intervals.minutes, self._intervals.steps
        by_time = minutes is not None and time.monotonic() - self._tried_at >= 60 * minutes
        return by_time or (steps is not None and self.fit.steps_done - self._tried_step >= steps)

    def _stopped(self, stop: Stopped) -> Stopped:
        """The stop with its place, once a checkpoint is written."""
        if self.fit.steps_done > self._written_step and not self.write():
            last = "at the last checkpoint" if len(self.checkpoints) else "at the fold's first step"
            return Stopped(f"{stop} {last}", stop.status)
        at = f"{self.label} at step {self.fit.steps_done} of {self.fit.n_steps}"
        return Stopped(f"{stop} {at}", stop.status)
