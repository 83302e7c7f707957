"""Averages of a model's weights over its training, which may predict better than the last ones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from poolblend.training.options import FitOptions
from poolblend.training.state import Position


def weight_average(model: nn.Module, options: FitOptions) -> AveragedModel | None:
    """The average that is kept instead of the last weights, empty at first; None for none."""
    if options.ema:
        return moving_average(model, options.ema)
    return plain_average(model) if options.swa_epochs else None


def is_due(options: FitOptions, position: Position, n_steps: int) -> bool:
    """Whether the average takes in the weights: EMA's after each step, SWA's as late epochs end.

    `position` is that after the step, in an epoch of `n_steps`.
    """
    late = position.epoch >= options.epochs - options.swa_epochs
    return bool(options.ema) or (late and position.step == n_steps)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the model's weights and buffers, empty at first.

    The decay rises to `decay` as (1 + n) / (10 + n) over the first steps, n being those seen:
    else a short training would keep much of where it began.
    """

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], n: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(n)) / (10 + int(n)))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:
                mean.copy_(value)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def plain_average(model: nn.Module) -> AveragedModel:
    """The mean of the weights and buffers of the moments it is shown, empty at first.

    Source: stochastic weight averaging, Izmailov et al. 2018, arXiv:1803.05407.
    """
    return AveragedModel(model, use_buffers=True)
