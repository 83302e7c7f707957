"""What is minimised: a loss over logits, its activation, and the head's bias before training.

Shape legend: B batch, N rows, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from poolblend.errors import UserError


class Objective(NamedTuple):
    """A loss with what belongs to it."""

    loss: Callable[[Tensor, Tensor], Tensor]  # logits (B, K), targets -> one loss per row (B,)
    activation: Callable[[Tensor], Tensor]  # logits (B, K) -> predictions (B, K)
    prior: Callable[[np.ndarray, int], np.ndarray]  # training targets, K -> first bias (K,)


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


def _binary_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    targets = y.reshape(logits.shape).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)


def _smooth_l1(values: Tensor, y: Tensor) -> Tensor:
    return F.smooth_l1_loss(values, y.to(values.dtype), reduction="none").mean(dim=1)


def _squared_error(values: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(values, y.to(values.dtype), reduction="none").mean(dim=1)


# A head that starts at the base rates spends no step on learning them, which matters for rare
# labels and for targets far from zero. Rates count each outcome once more than it was seen.
def _log_rates(y: np.ndarray, n_outputs: int) -> np.ndarray:
    counts = np.bincount(y, minlength=n_outputs) + 1
    return np.log(counts / counts.sum())


def _log_odds(y: np.ndarray, n_outputs: int) -> np.ndarray:
    rates = (y.reshape(-1, n_outputs).sum(axis=0) + 1) / (len(y) + 2)
    return np.log(rates / (1 - rates))


def _means(y: np.ndarray, n_outputs: int) -> np.ndarray:
    return y.reshape(-1, n_outputs).mean(axis=0)


OBJECTIVES = {
    "cross_entropy": Objective(_cross_entropy, lambda logits: logits.softmax(dim=1), _log_rates),
    "binary_cross_entropy": Objective(_binary_cross_entropy, torch.sigmoid, _log_odds),
    "smooth_l1": Objective(_smooth_l1, lambda values: values, _means),
    "mse": Objective(_squared_error, lambda values: values, _means),
}

# The first of each is what `auto` means.
FITTING = {
    "binary": ("binary_cross_entropy",),
    "multiclass": ("cross_entropy",),
    "multilabel": ("binary_cross_entropy",),
    "regression": ("smooth_l1", "mse"),
    "ordinal": ("smooth_l1", "mse"),
}


def choose_objective(task_kind: str, loss: str = "auto") -> Objective:
    """The objective of a task; UserError where the named loss does not fit it."""
    fitting = FITTING[task_kind]
    if loss != "auto" and loss not in fitting:
        raise UserError(
            f"train.loss: {loss} does not fit a {task_kind} task; choose {' or '.join(fitting)}"
        )
    return OBJECTIVES[fitting[0] if loss == "auto" else loss]
