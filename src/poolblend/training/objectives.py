"""What is minimised: a loss over logits, what they predict, and the head's bias before training.

Shape legend: B batch, N rows, K outputs, L logits, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from poolblend.errors import UserError
from poolblend.training.units import Unit


@dataclass(frozen=True)
class Objective:
    """A loss with what belongs to it; targets are float, one per logit, and may be soft.

    Where logits are `values`, loss and activation count them in `unit`, which `fitted` sets.
    """

    n_logits: int
    targets: Callable[[np.ndarray], np.ndarray]  # encoded labels or values -> targets (N, L)
    from_predictions: Callable[[np.ndarray], np.ndarray]  # (N, K), soft labels too -> (N, L)
    loss: Callable[[Tensor, Tensor, float], Tensor]  # logits, targets (B, L), smoothing -> (B, L)
    activation: Callable[[Tensor], Tensor]  # logits (B, L) -> predictions (B, K)
    prior: Callable[[np.ndarray, np.ndarray], np.ndarray] | None  # targets, weights -> bias (L,)
    distance: Callable[[Tensor, Tensor], Tensor]  # two logits (B, L) -> (B,), 0 where they agree
    values: bool = False
    unit: Unit | None = None

    def fitted(self, targets_NL: np.ndarray, weights: np.ndarray) -> Objective:
        """This objective for the training on these targets, of weights (N, 1 or L)."""
        return replace(self, unit=Unit.of(targets_NL, weights)) if self.values else self

    @property
    def told_unit(self) -> dict[str, list[float]] | None:
        """The unit as a card holds it; None where there is none."""
        return None if self.unit is None else self.unit.to_json()

    def counted(self, targets_NL: np.ndarray) -> np.ndarray:
        """Targets as the loss takes them."""
        return targets_NL if self.unit is None else self.unit.count(targets_NL)

    def restored(self, activated_NK: np.ndarray) -> np.ndarray:
        """Predictions of what `activation` made."""
        return activated_NK if self.unit is None else self.unit.restore(activated_NK)


def _cross_entropy(logits: Tensor, y_BL: Tensor, smoothing: float) -> Tensor:
    y_BL = y_BL.to(logits.dtype)
    return F.cross_entropy(logits, y_BL, reduction="none", label_smoothing=smoothing)[:, None]


def _binary_cross_entropy(logits: Tensor, y_BL: Tensor, smoothing: float) -> Tensor:
    y_BL = y_BL.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, y_BL, reduction="none")


def _smooth_l1(values: Tensor, y_BL: Tensor, smoothing: float) -> Tensor:
    return F.smooth_l1_loss(values, y_BL.to(values.dtype), reduction="none")


def _squared_error(values: Tensor, y_BL: Tensor, smoothing: float) -> Tensor:
    return F.mse_loss(values, y_BL.to(values.dtype), reduction="none")


# Half the Kullback-Leibler divergences of both directions, in the closed form of their sum.
def _softmax_divergence(a: Tensor, b: Tensor) -> Tensor:
    apart = a.softmax(dim=1) - b.softmax(dim=1)
    return (apart * (a.log_softmax(dim=1) - b.log_softmax(dim=1))).sum(dim=1) / 2


def _sigmoid_divergence(a: Tensor, b: Tensor) -> Tensor:
    return ((a.sigmoid() - b.sigmoid()) * (a - b)).mean(dim=1) / 2


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(dim=1)


# A head that starts at the base rates spends no step on learning them, which matters for rare
# labels. Rates count each outcome once more than it was seen.
def _log_rates(y_NL: np.ndarray, weights: np.ndarray) -> np.ndarray:
    counts = (y_NL * weights).sum(axis=0) + 1
    return np.log(counts / counts.sum())


def _log_odds(y_NL: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = np.broadcast_to(weights, y_NL.shape).sum(axis=0)
    rates = ((y_NL * weights).sum(axis=0) + 1) / (total + 2)
    return np.log(rates / (1 - rates))


def _as_it_is(value: Any) -> Any:
    return value


def _columns(y: np.ndarray) -> np.ndarray:
    return y.reshape(len(y), -1).astype(np.float64)


def _one_hot(n: int, y: np.ndarray) -> np.ndarray:
    return np.eye(n)[y]


def _probabilities(n: int) -> Objective:
    """One logit per class, of which one is true."""
    return Objective(
        n_logits=n,
        targets=partial(_one_hot, n),
        from_predictions=_as_it_is,
        loss=_cross_entropy,
        activation=lambda logits: logits.softmax(dim=1),
        prior=_log_rates,
        distance=_softmax_divergence,
    )


def _decisions(n: int) -> Objective:
    """One logit per label, each true or not."""
    return Objective(
        n_logits=n,
        targets=_columns,
        from_predictions=_as_it_is,
        loss=_binary_cross_entropy,
        activation=torch.sigmoid,
        prior=_log_odds,
        distance=_sigmoid_divergence,
    )


def _values(name: str, n: int, targets: Callable[[np.ndarray], np.ndarray] = _columns) -> Objective:
    """Values, of which logits of 0 are the means."""
    return Objective(
        n_logits=n,
        targets=targets,
        from_predictions=_as_it_is,
        loss=_squared_error if name == "mse" else _smooth_l1,
        activation=_as_it_is,
        prior=None,
        distance=_squared_distance,
        values=True,
    )


# An ordinal task predicts a value on the scale of its classes, whichever way it is learned.


def _scale(classes: Sequence[float], y: np.ndarray) -> np.ndarray:
    return np.asarray(classes, dtype=np.float64)[y][:, None]


def _shares_above(classes: Sequence[float], value_N1: np.ndarray) -> np.ndarray:
    """How much of a value lies above each class but the last, (N, C-1): 1, …, a share, 0, …"""
    low, high = np.asarray(classes[:-1], np.float64), np.asarray(classes[1:], np.float64)
    return np.clip((value_N1 - low) / (high - low), 0, 1)


def _expected_class(classes: Sequence[float]) -> Objective:
    """One logit per class; the prediction is the expected class."""
    scale_C = torch.tensor(classes, dtype=torch.float32)

    def between(value_N1: np.ndarray) -> np.ndarray:
        """A value between two classes as shares of both."""
        above = _shares_above(classes, value_N1)
        edges = np.ones((len(above), 1))
        return np.hstack([edges, above]) - np.hstack([above, 0 * edges])

    return Objective(
        n_logits=len(classes),
        targets=partial(_one_hot, len(classes)),
        from_predictions=between,
        loss=_cross_entropy,
        activation=lambda x: (x.softmax(dim=1) * scale_C.to(x.device)).sum(dim=1, keepdim=True),
        prior=_log_rates,
        distance=_softmax_divergence,
    )


def _cumulative(classes: Sequence[float]) -> Objective:
    """One logit per step of the scale: is the class above it? (Frank and Hall 2001.)

    The prediction is the expected class: the lowest, and each step's size times its probability.
    """
    scale_C = torch.tensor(classes, dtype=torch.float32)

    def expected(logits: Tensor) -> Tensor:
        steps = scale_C.diff().to(logits.device)
        return float(classes[0]) + (logits.sigmoid() * steps).sum(dim=1, keepdim=True)

    return Objective(
        n_logits=len(classes) - 1,
        targets=lambda y: (y[:, None] > np.arange(len(classes) - 1)).astype(np.float64),
        from_predictions=partial(_shares_above, classes),
        loss=_binary_cross_entropy,
        activation=expected,
        prior=_log_odds,
        distance=_sigmoid_divergence,
    )


# The first of each is what `auto` means.
FITTING = {
    "binary": ("binary_cross_entropy",),
    "multiclass": ("cross_entropy",),
    "multilabel": ("binary_cross_entropy",),
    "regression": ("smooth_l1", "mse"),
    "ordinal": ("smooth_l1", "mse", "cross_entropy", "cumulative"),
}


def resolve_loss(task_kind: str, loss: str, *, smoothing: float = 0.0) -> str:
    """The loss's own name; UserError where it, or label smoothing, does not fit the task."""
    fitting = FITTING[task_kind]
    if loss != "auto" and loss not in fitting:
        raise UserError(
            f"train.loss: {loss} does not fit a {task_kind} task; choose {' or '.join(fitting)}"
        )
    name = fitting[0] if loss == "auto" else loss
    if smoothing and name in ("smooth_l1", "mse"):
        raise UserError(
            f"train.label_smoothing is {smoothing}, but {name} learns values, not labels; set it "
            "to 0"
        )
    return name


def choose_objective(
    task_kind: str, loss: str = "auto", *, n_outputs: int = 1, classes: Sequence[Any] = ()
) -> Objective:
    """The objective of a task with `n_outputs` outputs; UserError where the loss does not fit it.

    `classes` are the labels in order: values, for an ordinal task.
    """
    name = resolve_loss(task_kind, loss)
    if task_kind != "ordinal":
        if name == "cross_entropy":
            return _probabilities(n_outputs)
        return _decisions(n_outputs) if name == "binary_cross_entropy" else _values(name, n_outputs)
    if name == "cumulative":
        return _cumulative(classes)
    if name == "cross_entropy":
        return _expected_class(classes)
    return _values(name, 1, partial(_scale, classes))
