"""Low-rank adapters (LoRA) of an encoder's linear layers; its own weights are frozen.

A stored fold model holds an adapter's two factors, `<weight>.lora_A` and `<weight>.lora_B`, instead
of the weight that they change. Once trained, they are added to weights in fp32; a weight in half
precision would lose them to rounding, so its layer adds what they give to its output.
Source: Hu et al. 2021, arXiv:2106.09685; the layers of a training are peft's.

Shapes: R rank of the adapter, I and O inputs and outputs of the layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from poolblend.errors import UserError, unknown
from poolblend.modeling.encoders import HALF
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
        if parameter.requires_grad:  # half precision would lose small steps
            parameter.data = parameter.data.float()


@contextmanager
def merged(encoder: Any) -> Iterator[None]:
    """A context in which the adapters are added to the weights; after it, the weights are restored.

    Without adapters, and with weights in half precision, it does nothing.
    """
    layers = [] if is_half(encoder) else [layer for _, layer in _adapted(encoder)]
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


def take_factors(encoder: Any) -> dict[str, Tensor]:
    """Remove the adapters; all weights are trainable again, and what they were before.

    Returns the adapters' factors, by the names of the weights that they change.
    """
    factors = {}
    for name, layer in _adapted(encoder):
        for end, parts in ((DOWN, layer.lora_A), (UP, layer.lora_B)):
            (part,) = parts.values()
            factors[f"{name}.weight{end}"] = part.weight.detach()
        encoder.set_submodule(name, layer.get_base_layer())
    vars(encoder).pop("peft_config", None)
    encoder.requires_grad_(True)
    return factors


def changed_weights(factors: Iterable[str]) -> set[str]:
    """The names of the weights that factors of these names change."""
    return {name.removesuffix(DOWN).removesuffix(UP) for name in factors}


def add_factors(model: nn.Module, factors: Mapping[str, Tensor], scale: float) -> None:
    """Add B @ A * `scale` to each weight of which `factors` hold both, as peft merges them.

    To the outputs of its layer instead where the weight is in half precision. Raises KeyError where
    one is missing, AttributeError and RuntimeError for a weight of another name or shape.
    """
    for name in sorted(changed_weights(factors)):
        weight, layer = model.get_parameter(name), model.get_submodule(name.rpartition(".")[0])
        down_RI, up_OR = (
            factors[f"{name}{end}"].to(weight.device, torch.float32) for end in (DOWN, UP)
        )
        transposed = isinstance(layer, Conv1D)
        n_inputs, n_outputs = weight.shape if transposed else weight.shape[::-1]
        if down_RI.shape[1:] != (n_inputs,) or up_OR.shape != (n_outputs, len(down_RI)):
            raise RuntimeError(f"the adapter of {name} is that of a weight of another shape")
        if is_half(layer):
            _add_beside(layer, down_RI, up_OR, scale)
            continue
        change = up_OR @ down_RI
        with torch.no_grad():
            weight.add_((change.T if transposed else change) * scale)


def _add_beside(layer: nn.Module, down_RI: Tensor, up_OR: Tensor, scale: float) -> None:
    # Buffers go where the layer goes; these are not in its `state_dict`.
    layer.register_buffer("adapter_down", down_RI, persistent=False)
    layer.register_buffer("adapter_up", up_OR, persistent=False)

    def add(layer: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        x = inputs[0].to(layer.adapter_down.dtype)
        change = F.linear(F.linear(x, layer.adapter_down), layer.adapter_up)
        return (output + change * scale).to(output.dtype)

    layer.register_forward_hook(add)


def stored_tensors(
    state: Mapping[str, Tensor], factors: Mapping[str, Tensor], *, on_base: bool, half: bool
) -> dict[str, Tensor]:
    """What a fold stores of the tensors of a model to which `factors` were added.

    Beside a base, the factors instead of the weights that they change; in half precision, where
    the weights are still the base's, the factors in any case.
    """
    changed = changed_weights(factors) if on_base else set()
    kept = {name: tensor for name, tensor in state.items() if name not in changed}
    return kept | (dict(factors) if on_base or half else {})


def is_half(module: nn.Module) -> bool:
    """Whether the module's weights are in half precision: those of an encoder, or of a layer."""
    first = next(module.parameters(), None)
    return first is not None and first.dtype in HALF.values()


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
