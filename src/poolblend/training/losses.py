"""The losses of a training's steps, read from the device a few at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from poolblend.errors import UserError
from poolblend.training.state import Position

# How many losses in a row may overflow in fp16, and how many steps be skipped. Each step that is
# skipped halves the loss scale, which begins at 2 ** 16.
PATIENCE = 20


class DivergedError(UserError):
    """A training whose loss, weights or predictions are no longer finite."""


class Losses:
    """The losses of an epoch's steps, added up in its position.

    Reading a number waits until a GPU has done all that it was given. So losses stay on the device
    and are read `every` so many steps, and whenever somebody asks. `patience` is how many in a row
    may be infinite or NaN; `cure` is the advice when more are.
    """

    def __init__(self, cure: str, *, every: int, patience: int) -> None:
        self.cure, self.every, self.patience = cure, every, patience
        self.last = math.nan  # the last that was read
        self._waiting: list[tuple[Tensor, int]] = []
        self._not_finite = 0  # in a row

    def add(self, loss: Tensor, n_rows: int, position: Position) -> None:
        """Add a step's mean loss (a scalar) over its rows; DivergedError as `read`."""
        self._waiting.append((loss, n_rows))
        if len(self._waiting) >= self.every:
            self.read(position)

    def read(self, position: Position) -> None:
        """Add what has been waiting to the position; DivergedError where too many are not finite.

        A loss that is not finite does not count, nor do its rows.
        """
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        values = torch.stack([loss for loss, _ in waiting]).tolist()
        for value, (_, n_rows) in zip(values, waiting, strict=True):
            self.last = value
            if math.isfinite(value):
                self._not_finite = 0
                position.loss += value * n_rows
                continue
            self._not_finite += 1
            position.rows_lost += n_rows
            if self._not_finite > self.patience:
                raise DivergedError(
                    f"the training loss became {value} in epoch {position.epoch + 1}; {self.cure}"
                )
