"""A training that is killed between two steps, and what another process reads of it."""

import itertools
import json

import torch
from safetensors.torch import load, save

from poolblend.training.state import State


class Killed(BaseException):
    """Stands for what ends a process between two steps."""


def kill_after(n):
    """A callback that raises after the n-th step."""
    steps = itertools.count(1)

    def after_step():
        if next(steps) == n:
            raise Killed

    return after_step


def written(state):
    """The state as another process would read it: tensors from bytes, the rest from JSON."""
    tensors = {name: tensor.clone().contiguous() for name, tensor in state.tensors.items()}
    return State(load(save(tensors)), json.loads(json.dumps(state.rest)))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])
