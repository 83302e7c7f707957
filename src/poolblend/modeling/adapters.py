"""Low-rank adapters (LoRA) of an encoder's linear layers; its own weights are frozen.

A stored fold model holds an adapter's two factors, `<weight>.lora_A` and `<weight>.lora_B`, instead
of the weight that they change. Source: Hu et al. 2021, arXiv:2106.09685; the layers are peft's.

Shapes: R rank of the adapter, I and O inputs and outputs of the layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from poolblend.errors import UserError, unknown
from poolblend.modeling.layers import module_depths

DOWN, UP = ".lora_A", ".lora_B"  # ends of the names of factors (R, I) and (O, R)


def check_lora(encoder: Any, modules: Sequence[str] | None) -> None:
    """Raise UserError where `add_lora` would."""
    _targets(encoder, modules)
    _peft()


def add_lora(
    encoder: Any, *, r: int, alpha: float, dropout: float, modules: Sequence[str] | None = None
) -> None:
    """Add an adapter of rank `r` to each of the named linear layers, in place.

    `modules` are ends of names (`query`); None: all linear layers within the encoder's layers.
    Only the adapters have `requires_grad` afterwards, and the outputs are the same at first.
    Raises UserError for a name of no such layer, or where peft is not installed.
    """
    targets = _targets(encoder, modules)
    inject, config_of = _peft()
    transposed = all(isinstance(encoder.get_submodule(name), Conv1D) for name in targets)
    config = config_of(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        fan_in_fan_out=transposed,
    )
    inject(config, encoder)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(".lora_" in name)


@contextmanager
def merged(encoder: Any) -> Iterator[None]:
    """A context in which the adapters are added to the weights; after it, the weights are restored.

    Without adapters it does nothing.
    """
    layers = [layer for _, layer in _adapted(encoder)]
    kept = [layer.get_base_layer().weight.detach().clone() for layer in layers]
    for layer in layers:
        layer.merge()
    try:
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.unmerge()
            with torch.no_grad():  # unmerging subtracts, which is not exact
                layer.get_base_layer().weight.copy_(weight)


def merge_for_good(encoder: Any) -> dict[str, Tensor]:
    """Add the adapters to the weights and remove them; all weights are trainable again.

    Returns the adapters' factors, by the names of the weights that they changed.
    """
    factors = {}
    for name, layer in _adapted(encoder):
        for end, parts in ((DOWN, layer.lora_A), (UP, layer.lora_B)):
            (part,) = parts.values()
            factors[f"{name}.weight{end}"] = part.weight.detach()
        layer.merge()
        encoder.set_submodule(name, layer.get_base_layer())
    vars(encoder).pop("peft_config", None)
    encoder.requires_grad_(True)
    return factors


def changed_weights(factors: Iterable[str]) -> set[str]:
    """The names of the weights that factors of these names change."""
    return {name.removesuffix(DOWN).removesuffix(UP) for name in factors}


def add_factors(model: nn.Module, factors: Mapping[str, Tensor], scale: float) -> None:
    """Add B @ A * `scale` to each weight of which `factors` hold both, as peft merges them.

    Raises KeyError where one is missing, AttributeError and RuntimeError for a weight of another
    name or shape.
    """
    for name in sorted(changed_weights(factors)):
        weight = model.get_parameter(name)
        down_RI, up_OR = (factors[f"{name}{end}"].to(weight) for end in (DOWN, UP))
        change = up_OR @ down_RI
        if isinstance(model.get_submodule(name.rpartition(".")[0]), Conv1D):  # stored transposed
            change = change.T
        with torch.no_grad():
            weight.add_(change * scale)


def _adapted(encoder: Any) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in encoder.named_modules() if hasattr(module, "lora_A")]


def _targets(encoder: Any, modules: Sequence[str] | None) -> list[str]:
    """Full names of the linear layers within the encoder's layers whose names end so."""
    linear = [
        f"{part}.{name}"
        for part, depth in module_depths(encoder).items()
        if 0 < depth <= encoder.config.num_hidden_layers
        for name, module in encoder.get_submodule(part).named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]
    if modules is None:
        return linear
    for wanted in modules:
        if not any(f".{name}".endswith(f".{wanted}") for name in linear):
            known = {name.rpartition(".")[2] for name in linear}
            raise unknown("linear layer", wanted, known, "in train.lora.modules")
    ends = tuple(f".{wanted}" for wanted in modules)
    return [name for name in linear if f".{name}".endswith(ends)]


def _peft() -> tuple[Any, Any]:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError("train.lora needs the package peft; pip install peft") from None
    return inject_adapter_in_model, LoraConfig
