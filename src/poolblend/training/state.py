"""The state of a training as tensors and JSON, with which another process resumes bit for bit."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

MODEL, OPTIMIZER, RANDOM = "model.", "optimizer.", "random."


class State(NamedTuple):
    """`tensors` go into safetensors, `rest` into JSON; nothing needs to be pickled."""

    tensors: dict[str, Tensor]
    rest: dict[str, Any]


@dataclass
class Position:
    """How far a training is: `step` optimizer steps into `epoch`, both counted from 0.

    `loss` and `seconds` are this epoch's sums so far; `rows_lost` is how many rows are not in the
    loss, since theirs was not finite.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    rows_lost: int = 0


def capture(
    model: nn.Module, optimizer: Any, schedule: Any, scaler: Any, position: Position
) -> State:
    """The state of these, and of every random generator that dropout may draw from.

    Weights that do not learn are left out: whoever restores has them. The tensors are not copied:
    write them before the next step.
    """
    moments = optimizer.state_dict()["state"]
    left_out = {*_named_twice(model), *frozen_weights(model)}
    weights = {k: v for k, v in model.state_dict().items() if k not in left_out}
    tensors = {f"{MODEL}{name}": tensor for name, tensor in weights.items()}
    scalars: dict[str, dict[str, Any]] = {}
    for index, moment in moments.items():
        for name, value in moment.items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMIZER}{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    generators, plain = _capture_random()
    followed = {k: v for k, v in schedule.state_dict().items() if k != "lr_lambdas"}
    rest = {
        "position": asdict(position),
        "optimizer": scalars,
        "rates": [group["lr"] for group in optimizer.param_groups],
        "schedule": followed,
        "scaler": scaler.state_dict() if scaler is not None else None,
        "random": plain,
    }
    return State(tensors | generators, rest)


def restore(state: State, model: nn.Module, optimizer: Any, schedule: Any, scaler: Any) -> Position:
    """Set these, and the random generators, to the state; returns the position in the training.

    Raises KeyError, TypeError, ValueError or RuntimeError for a state of something else.
    """
    # Clones: a file is read into memory that may be aligned differently from what torch allocates.
    tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
    weights = under(MODEL, tensors)
    twice, frozen = _named_twice(model), frozen_weights(model)
    weights |= {name: weights[first] for name, first in twice.items() if first not in frozen}
    missing, unknown = model.load_state_dict(weights, strict=False)
    if other := [*unknown, *(set(missing) - frozen)]:
        raise KeyError(f"the weights are those of another model: {other[0]}")
    moments: dict[int, dict[str, Any]] = {}
    for key, value in under(OPTIMIZER, tensors).items():
        index, _, name = key.partition(".")
        moments.setdefault(int(index), {})[name] = value
    for index, scalars in state.rest["optimizer"].items():
        moments.setdefault(int(index), {}).update(scalars)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    for group, rate in zip(optimizer.param_groups, state.rest["rates"], strict=True):
        group["lr"] = rate
    unsaved = [None] * len(optimizer.param_groups)
    schedule.load_state_dict(state.rest["schedule"] | {"lr_lambdas": unsaved})
    if scaler is not None and state.rest["scaler"] is not None:
        scaler.load_state_dict(state.rest["scaler"])
    _restore_random(under(RANDOM, tensors), state.rest["random"])
    return Position(**state.rest["position"])


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def frozen_weights(model: nn.Module) -> set[str]:
    """Names of the weights that do not learn."""
    every = model.named_parameters(remove_duplicate=False)
    return {name for name, parameter in every if not parameter.requires_grad}


def _named_twice(model: nn.Module) -> dict[str, str]:
    """Further names of tensors that the model holds twice (tied embeddings), with the first name.

    safetensors writes each tensor once.
    """
    first: dict[int, str] = {}
    named = {
        name: first.setdefault(id(tensor), name)
        for name, tensor in model.state_dict(keep_vars=True).items()
    }
    return {name: held for name, held in named.items() if name != held}


def _capture_random() -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {f"{RANDOM}torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors[f"{RANDOM}cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        tensors[f"{RANDOM}mps"] = torch.mps.get_rng_state()
    name, keys, *drawn = np.random.get_state()
    return tensors, {
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), *drawn],
    }


def _restore_random(tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    torch.set_rng_state(tensors["torch"])
    # A fold that began on another kind of device keeps this device's generator as it is.
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
    if "mps" in tensors and torch.backends.mps.is_available():
        torch.mps.set_rng_state(tensors["mps"])
    version, keys, gauss = plain["python"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(tuple(plain["numpy"]))
