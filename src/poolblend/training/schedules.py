"""Learning-rate schedules: what follows the warm-up, as a factor of the learning rate.

To add one, write a function of a step and the number of steps, both counted from the end of the
warm-up, under `@register("name")`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import LambdaLR

from poolblend.registry import Registry

SCHEDULES: Registry[Callable[[int, int], float]] = Registry("schedule")
register = SCHEDULES.register


@register("linear")
def linear(step: int, n_steps: int) -> float:
    """After the warm-up the rate falls in a straight line to 0."""
    return max(0.0, (n_steps - step) / max(1, n_steps))


@register("cosine")
def cosine(step: int, n_steps: int) -> float:
    """After the warm-up the rate falls to 0 as half a wave of the cosine."""
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * (step / max(1, n_steps)))))


@register("constant")
def constant(step: int, n_steps: int) -> float:
    """After the warm-up the rate stays as it is."""
    return 1.0


def build_schedule(
    name: str,
    optimizer: torch.optim.Optimizer,
    *,
    n_steps: int,
    warmup: float,
    constant_from: int | None = None,
) -> LambdaLR:
    """Linear warm-up over the share `warmup` of the steps, then the schedule of this name.

    From step `constant_from` on, or the end of the warm-up, the rates stay what they are there.
    """
    decay, n_warmup = SCHEDULES[name], round(warmup * n_steps)
    last = n_steps if constant_from is None else max(constant_from, n_warmup)

    def factor(step: int) -> float:
        step = min(step, last)
        if step < n_warmup:
            return step / n_warmup
        return decay(step - n_warmup, n_steps - n_warmup)

    return LambdaLR(optimizer, factor)
