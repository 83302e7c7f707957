"""The optimizer's steps, and those that fp16 skips because the gradients have overflowed."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator

from poolblend.training.losses import PATIENCE, DivergedError

MOST_SKIPPED = 0.9  # of a training's steps


class Updates:
    """Steps of an optimizer that `accelerator` has prepared, and of its schedule.

    `skipped` counts the steps that fp16 left out: nothing has changed in them, and the schedule
    waits. `cure` is the advice when too many are.
    """

    def __init__(
        self, accelerator: Accelerator, optimizer: Any, schedule: Any, cure: str, skipped: int = 0
    ) -> None:
        self.optimizer, self.schedule, self.cure = optimizer, schedule, cure
        self.skipped, self._in_a_row = skipped, 0
        self._scaler = accelerator.scaler
        self._scale = self._scaler.get_scale() if self._scaler is not None else 1.0

    def step(self) -> bool:
        """Apply the gradients and drop them; False where fp16 skipped the step.

        In fp16 this waits for the device: the schedule depends on the answer. Raises DivergedError
        where too many steps in a row are skipped.
        """
        counts = self._step()
        if counts:
            self.schedule.step()
        self.optimizer.zero_grad()
        self._in_a_row = 0 if counts else self._in_a_row + 1
        self.skipped += not counts
        if self._in_a_row > PATIENCE:
            raise DivergedError(
                f"the gradients overflowed in fp16 in {self._in_a_row} steps in a row; {self.cure}"
            )
        return counts

    def _step(self) -> bool:
        self.optimizer.step()
        if self._scaler is None:
            return True
        # accelerate's own flag counts a fused optimizer's skipped step as done.
        before, self._scale = self._scale, self._scaler.get_scale()
        return self._scale >= before

    def check(self, n_steps: int) -> None:
        """Raise DivergedError where nearly all of a training's steps were skipped."""
        if self.skipped > MOST_SKIPPED * n_steps:
            raise DivergedError(
                f"the gradients overflowed in fp16 in {self.skipped} of {n_steps} steps, which "
                f"were skipped; {self.cure}"
            )
