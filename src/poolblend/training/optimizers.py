"""Optimizers, and groups of parameters with separate learning rates.

To add an optimizer, write a function of parameter groups under `@register("name")`. Those here are
fused: 8 times as fast as the default step on a CPU. Their moments are made at once: a first step
that ran out of memory half way could not be repeated, and fused SGD leaves its momentum
uninitialised where fp16 skips the first step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from poolblend.modeling.layers import layer_depths
from poolblend.modeling.model import TextModel
from poolblend.registry import Registry
from poolblend.training.options import Train
from poolblend.training.recipes import Recipe

Groups = list[dict[str, Any]]

OPTIMIZERS: Registry[Callable[[Groups], torch.optim.Optimizer]] = Registry("optimizer")
register = OPTIMIZERS.register

STEP = "step"
ADAM = (STEP, "exp_avg", "exp_avg_sq")


@register("adamw")
def adamw(groups: Groups) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay."""
    return _with_moments(torch.optim.AdamW(groups, fused=True), *ADAM)


@register("adam")
def adam(groups: Groups) -> torch.optim.Optimizer:
    """Adam, in which weight decay is part of the gradient."""
    return _with_moments(torch.optim.Adam(groups, fused=True), *ADAM)


@register("sgd")
def sgd(groups: Groups) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum 0.9."""
    sgd = torch.optim.SGD(groups, lr=1e-3, momentum=0.9, fused=True)
    return _with_moments(sgd, "momentum_buffer")


def _with_moments(optimizer: torch.optim.Optimizer, *names: str) -> torch.optim.Optimizer:
    """The optimizer with these moments of every parameter, zero as before the first step."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            for name in names:
                scalar = parameter.new_zeros((), dtype=torch.float32)
                state[name] = scalar if name == STEP else torch.zeros_like(parameter)
    return optimizer


def build_optimizer(
    model: TextModel, options: Train, recipes: Sequence[Recipe]
) -> torch.optim.Optimizer:
    """The optimizer that `options` name, over the groups of the model's parameters."""

    def factor(depth: int, top: int) -> float:
        return math.prod(recipe.rate(depth, top) for recipe in recipes)

    groups = parameter_groups(
        model,
        lr=options.lr,
        head_lr=options.head_lr,
        weight_decay=options.weight_decay,
        factor=factor,
    )
    return OPTIMIZERS[options.optimizer](groups)


def parameter_groups(
    model: TextModel,
    *,
    lr: float,
    head_lr: float | None,
    weight_decay: float,
    factor: Callable[[int, int], float] = lambda depth, top: 1.0,
) -> Groups:
    """Every trainable parameter in exactly one group with its learning rate and weight decay.

    The encoder's rate at a depth is `factor(depth, top)` times `lr`, depth 0 being the embeddings
    and `top` what lies above the layers; pooler and head use `head_lr` (None: `lr`). Vectors and
    scalars (biases, norms) are not decayed.
    """
    depths = layer_depths(model.encoder)
    top = max(depths.values())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("encoder."):
            rate = lr * factor(depths[name.removeprefix("encoder.")], top)
        else:
            rate = head_lr or lr
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
