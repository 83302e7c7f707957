"""Objectives: a loss over logits, their predictions, and the head's bias before training.

To add a loss, write a subclass of `Objective` under `@register("name")` here.

Shapes: C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from poolblend.errors import UserError
from poolblend.registry import Registry
from poolblend.training.target_scaler import TargetScaler


class Objective:
    """A loss and its conversions; targets are float, one per logit, and may be soft.

    For an ordinal task, predictions are always values on the scale of its classes.
    """

    tasks: ClassVar[tuple[str, ...]] = ()  # kinds of tasks that it fits
    default_of: ClassVar[tuple[str, ...]] = ()  # of these tasks, it is what `auto` means
    learns_values: ClassVar[bool] = False  # logits are values, standardised by `scaler`

    n_logits: int
    n_outcomes: int  # the number of labels over which label smoothing spreads
    scaler: TargetScaler | None = None  # set by `fitted`

    def __init__(self, task_kind: str, n_outputs: int, classes: Sequence[Any]) -> None:
        """`classes` are the labels in order: values, for an ordinal task."""
        self.ordinal = task_kind == "ordinal"
        self.classes = np.asarray(classes, np.float64) if self.ordinal else np.empty(0)
        self.n_logits = n_outputs

    def targets(self, y: np.ndarray) -> np.ndarray:
        """Targets (N, L) of encoded labels or values."""
        return y.reshape(len(y), -1).astype(np.float64)

    def from_predictions(self, pred_NK: np.ndarray) -> np.ndarray:
        """Targets (N, L) of predictions, or of soft labels."""
        return pred_NK

    def loss(self, logits: Tensor, y_BL: Tensor) -> Tensor:
        """Losses (B, 1 or L) of logits (B, L)."""
        raise NotImplementedError

    def activation(self, logits: Tensor) -> Tensor:
        """Predictions (B, K) of logits (B, L); values are still standardised."""
        raise NotImplementedError

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """The distance between two passes' logits (B, L), (B,): 0 where they agree."""
        raise NotImplementedError

    def prior(self, targets_NL: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
        """Logits (L,) that predict the base rates; None where 0 does.

        The head then need not learn them, which matters for rare labels. One is added to each
        count.
        """
        return None

    def fitted(self, targets_NL: np.ndarray, weights: np.ndarray) -> Objective:
        """This objective for the training on these targets, with weights (N, 1 or L)."""
        scaler = TargetScaler.fit(targets_NL, weights) if self.learns_values else None
        return self.with_scaler(scaler)

    def with_scaler(self, scaler: TargetScaler | None) -> Objective:
        """This objective with the scaler of an earlier training."""
        other = copy.copy(self)
        other.scaler = scaler
        return other

    def scale(self, targets_NL: np.ndarray) -> np.ndarray:
        """Targets on the scale of the loss."""
        return targets_NL if self.scaler is None else self.scaler.transform(targets_NL)

    def unscale(self, activated_NK: np.ndarray) -> np.ndarray:
        """Predictions of what `activation` returned."""
        return activated_NK if self.scaler is None else self.scaler.inverse_transform(activated_NK)

    @property
    def scaler_json(self) -> dict[str, list[float]] | None:
        """The scaler as a card holds it; None where there is none."""
        return None if self.scaler is None else self.scaler.to_json()

    def _shares_above(self, value_N1: np.ndarray) -> np.ndarray:
        """The share of a value above each class but the last, (N, C-1): 1, …, a share, 0, …"""
        low, high = self.classes[:-1], self.classes[1:]
        return np.clip((value_N1 - low) / (high - low), 0, 1)

    def _scale_C(self, device: torch.device) -> Tensor:
        return torch.tensor(self.classes, dtype=torch.float32, device=device)


LOSSES: Registry[type[Objective]] = Registry("loss")
register = LOSSES.register


@register("cross_entropy")
class CrossEntropy(Objective):
    """One logit per class, of which one is true; an ordinal task predicts the expected class."""

    tasks = ("multiclass", "ordinal")
    default_of = ("multiclass",)

    def __init__(self, task_kind: str, n_outputs: int, classes: Sequence[Any]) -> None:
        super().__init__(task_kind, n_outputs, classes)
        self.n_logits = self.n_outcomes = len(classes) if self.ordinal else n_outputs

    def targets(self, y: np.ndarray) -> np.ndarray:
        return np.eye(self.n_logits)[y]

    def from_predictions(self, pred_NK: np.ndarray) -> np.ndarray:
        if not self.ordinal:
            return pred_NK
        # A value between two classes is split between both.
        above = self._shares_above(pred_NK)
        edges = np.ones((len(above), 1))
        return np.hstack([edges, above]) - np.hstack([above, 0 * edges])

    def loss(self, logits: Tensor, y_BL: Tensor) -> Tensor:
        return F.cross_entropy(logits, y_BL.to(logits.dtype), reduction="none")[:, None]

    def activation(self, logits: Tensor) -> Tensor:
        shares_BC = logits.softmax(dim=1)
        if not self.ordinal:
            return shares_BC
        return (shares_BC * self._scale_C(logits.device)).sum(dim=1, keepdim=True)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        # Half the Kullback-Leibler divergences of both directions, in the closed form of their sum.
        apart = a.softmax(dim=1) - b.softmax(dim=1)
        return (apart * (a.log_softmax(dim=1) - b.log_softmax(dim=1))).sum(dim=1) / 2

    def prior(self, targets_NL: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
        counts = (targets_NL * weights).sum(axis=0) + 1
        return np.log(counts / counts.sum())


@register("binary_cross_entropy")
class BinaryCrossEntropy(Objective):
    """One logit per label, each true or not."""

    tasks: ClassVar[tuple[str, ...]] = ("binary", "multilabel")
    default_of: ClassVar[tuple[str, ...]] = ("binary", "multilabel")
    n_outcomes = 2

    def loss(self, logits: Tensor, y_BL: Tensor) -> Tensor:
        target = y_BL.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")

    def activation(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return ((a.sigmoid() - b.sigmoid()) * (a - b)).mean(dim=1) / 2

    def prior(self, targets_NL: np.ndarray, weights: np.ndarray) -> np.ndarray | None:
        total = np.broadcast_to(weights, targets_NL.shape).sum(axis=0)
        rates = ((targets_NL * weights).sum(axis=0) + 1) / (total + 2)
        return np.log(rates / (1 - rates))


@register("cumulative")
class Cumulative(BinaryCrossEntropy):
    """One logit per step of an ordinal scale, which says whether the class is above it.

    The prediction is the expected class: the lowest, and each step's size times its probability.
    Source: Frank and Hall 2001.
    """

    tasks = ("ordinal",)
    default_of = ()

    def __init__(self, task_kind: str, n_outputs: int, classes: Sequence[Any]) -> None:
        super().__init__(task_kind, n_outputs, classes)
        self.n_logits = len(classes) - 1

    def targets(self, y: np.ndarray) -> np.ndarray:
        return (y[:, None] > np.arange(self.n_logits)).astype(np.float64)

    def from_predictions(self, pred_NK: np.ndarray) -> np.ndarray:
        return self._shares_above(pred_NK)

    def activation(self, logits: Tensor) -> Tensor:
        steps = self._scale_C(logits.device).diff()
        lowest = float(self.classes[0])
        return lowest + (logits.sigmoid() * steps).sum(dim=1, keepdim=True)


class _Values(Objective):
    tasks = ("regression", "ordinal")
    learns_values = True

    def targets(self, y: np.ndarray) -> np.ndarray:
        return self.classes[y][:, None] if self.ordinal else super().targets(y)

    def activation(self, logits: Tensor) -> Tensor:
        return logits

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean(dim=1)


@register("smooth_l1")
class SmoothL1(_Values):
    """Values by the Huber loss: squared errors up to one spread, absolute ones beyond."""

    default_of = ("regression", "ordinal")

    def loss(self, logits: Tensor, y_BL: Tensor) -> Tensor:
        return F.smooth_l1_loss(logits, y_BL.to(logits.dtype), reduction="none")


@register("mse")
class MeanSquaredError(_Values):
    """Values by their squared errors."""

    def loss(self, logits: Tensor, y_BL: Tensor) -> Tensor:
        return F.mse_loss(logits, y_BL.to(logits.dtype), reduction="none")


def resolve_loss(task_kind: str, loss: str) -> str:
    """The loss's own name; UserError where it does not fit the task."""
    if loss == "auto":
        return next(name for name in LOSSES if task_kind in LOSSES[name].default_of)
    if task_kind not in LOSSES[loss].tasks:
        fitting = [name for name in LOSSES if task_kind in LOSSES[name].tasks]
        raise UserError(
            f"train.loss: {loss} does not fit a {task_kind} task; choose {' or '.join(fitting)}"
        )
    return loss


def choose_objective(
    task_kind: str, loss: str = "auto", *, n_outputs: int = 1, classes: Sequence[Any] = ()
) -> Objective:
    """The objective of a task with `n_outputs` outputs; UserError where the loss does not fit it.

    `classes` are the labels in order: values, for an ordinal task.
    """
    return LOSSES[resolve_loss(task_kind, loss)](task_kind, n_outputs, classes)
