"""Keep a fold's training: write checkpoints when they are due, go on from them, stop in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError

from poolblend.cards.provenance import provenance
from poolblend.errors import Stopped, UserError
from poolblend.jobs.watch import Watch
from poolblend.store import Checkpoint, Checkpoints
from poolblend.training.fit import Fit
from poolblend.training.state import State

log = logging.getLogger(__name__)

WRITING = "a checkpoint"
DISK = 100e6  # bytes a second: how long the first checkpoint may take is a guess


@dataclass(frozen=True)
class Intervals:
    """Between two checkpoints within an epoch: minutes, optimizer steps; None for never."""

    minutes: float | None
    steps: int | None


class Keeper:
    """Keeps one `fit` in `checkpoints`; `inputs` is what the training depends on.

    `label` names the fold in the log; `epochs` are those finished, as the fold's card tells them.
    """

    def __init__(
        self,
        fit: Fit,
        checkpoints: Checkpoints,
        inputs: Mapping[str, Any],
        intervals: Intervals,
        watch: Watch,
        label: str,
    ) -> None:
        self.fit, self.checkpoints, self.inputs = fit, checkpoints, inputs
        self.intervals, self.watch, self.label = intervals, watch, label
        self.epochs: list[dict[str, Any]] = []
        self.resumed: list[int] = []  # the steps at which the training was taken up
        self._written_step = 0
        self._tried_at, self._tried_step = time.monotonic(), 0
        self._asked_at = time.monotonic()
        weights = sum(p.numel() * p.element_size() for p in fit.model.parameters())
        watch.took(WRITING, 3 * weights / DISK)

    def resume(self, checkpoint: Checkpoint | None) -> None:
        """Go on from the checkpoint, if there is one."""
        if checkpoint is None:
            return
        card = checkpoint.card
        try:
            self.fit.restore(State(checkpoint.tensors(), card["rest"]))
            self.epochs, self.resumed = list(card["epochs"]), [*card["resumed"], card["step"]]
        except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UserError(
                f"{checkpoint.folder} cannot be continued from ({reason}); use the library "
                f"versions in its card, or begin the fold anew: delete {self.checkpoints.folder}"
            ) from None
        self._written_step = self._tried_step = self.fit.steps_done
        log.info("%s: goes on at step %d of %d", self.label, self.fit.steps_done, self.fit.n_steps)

    def after_step(self) -> None:
        """Between two steps: write what is due, and raise Stopped when that is due."""
        self._stop_if_due()
        if self._is_due():
            self.write()

    def after_batch(self) -> None:
        """Between two batches of predictions."""
        self._stop_if_due()

    def write(self) -> bool:
        """Write a checkpoint; a disk that cannot take it is told of, and ends no training."""
        if 0 < self.fit.steps_done == self._written_step:
            return True
        started, state = time.monotonic(), self.fit.state()
        told = {"inputs": self.inputs, "epochs": self.epochs, "resumed": self.resumed}
        try:
            self.checkpoints.save(
                self.fit.steps_done, state.tensors, {**told, "rest": state.rest, **provenance()}
            )
        except UserError as error:
            log.warning("no checkpoint: %s", error)
            return False
        finally:
            self._tried_at, self._tried_step = time.monotonic(), self.fit.steps_done
            self.watch.took(WRITING, self._tried_at - started)
            self._asked_at = self._tried_at
        self._written_step = self.fit.steps_done
        return True

    def _stop_if_due(self) -> None:
        now = time.monotonic()
        self.watch.took("a step", now - self._asked_at)
        self._asked_at = now
        stop = self.watch.due()
        if stop is not None:
            raise self._stopped(stop)

    def _is_due(self) -> bool:
        minutes, steps = self.intervals.minutes, self.intervals.steps
        by_time = minutes is not None and time.monotonic() - self._tried_at >= 60 * minutes
        return by_time or (steps is not None and self.fit.steps_done - self._tried_step >= steps)

    def _stopped(self, stop: Stopped) -> Stopped:
        """The stop, once a checkpoint is written, which is said."""
        if self.fit.steps_done > self._written_step and not self.write():
            last = "at the last checkpoint" if len(self.checkpoints) else "at the fold's beginning"
            return Stopped(f"{stop} {last}", stop.status)
        at = f"{self.label} at step {self.fit.steps_done} of {self.fit.n_steps}"
        return Stopped(f"{stop} {at}", stop.status)
