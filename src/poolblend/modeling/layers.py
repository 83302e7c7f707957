"""An encoder's layers: where they are, freezing the first, reinitialising the last.

A depth is 0 for embeddings, i + 1 for layer i, n_layers + 1 for modules above the layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from poolblend.errors import UserError

# DeBERTa registers these after its layers, but runs them before or beside the first: the norm of
# its relative positions, and a convolution.
DEBERTA = {"encoder.LayerNorm": 0, "encoder.conv": 1}
# BART and T5 register the norm and the dropout of their embeddings after their layers.
EMBEDDING = ("layernorm_embedding", "dropout")


def layer_stacks(encoder: Any) -> list[str]:
    """Names of the outermost module lists with one entry per layer.

    Empty where layers share their weights (ALBERT). Most encoders have one; XLM has one for each
    part of a layer.
    """
    n_layers: int = encoder.config.num_hidden_layers
    return _outermost(
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    )


def module_depths(encoder: Any) -> dict[str, int]:
    """The depth of each module, by name; every parameter is in exactly one of them.

    Modules that are registered before the layers, and any table of vectors outside them, are
    embeddings. Layers that share their weights (ALBERT) are one module, at depth n_layers.
    """
    n_layers, stacks = encoder.config.num_hidden_layers, layer_stacks(encoder)
    named = dict(encoder.named_modules())
    shared = stacks or _outermost(n for n, m in named.items() if isinstance(m, nn.ModuleList))
    around = {name[:i] for name in shared for i, letter in enumerate(name) if letter == "."}
    depths: dict[str, int] = {}
    outside = 0
    # In the order of registration; only modules that contain the layers are entered.
    for name, module in named.items():
        parent = name.rpartition(".")[0]
        if name in shared:
            depths |= {f"{name}.{i}": i + 1 if stacks else n_layers for i in range(len(module))}
            outside = n_layers + 1
        elif name and name not in around and (not parent or parent in around):
            embeds = isinstance(module, nn.Embedding) or name in EMBEDDING
            depths[name] = 0 if embeds else outside
    if encoder.config.model_type.startswith("deberta"):
        depths |= {name: depth for name, depth in DEBERTA.items() if name in depths}
    return depths


def layer_depths(encoder: Any) -> dict[str, int]:
    """The depth of each of the encoder's parameters, by name."""
    depths = module_depths(encoder)
    return {name: _depth(name, depths) for name, _ in encoder.named_parameters()}


def _depth(name: str, depths: dict[str, int]) -> int:
    """The depth of the outermost module in `depths` that holds the parameter `name`."""
    parts = name.split(".")
    outer = (".".join(parts[:i]) for i in range(1, len(parts)))
    return next((depths[module] for module in outer if module in depths), 0)


def check_layers(encoder: Any, n_layers: int, key: str) -> None:
    """Raise UserError where `key` asks for more layers than the encoder has, or shares."""
    n_known: int = encoder.config.num_hidden_layers
    if n_layers and not layer_stacks(encoder):
        raise UserError(
            f"{key} is {n_layers}, but the layers of {type(encoder).__name__} share their weights; "
            "set it to 0"
        )
    if n_layers > n_known:
        raise UserError(f"{key} is {n_layers}, but the encoder has {n_known} layers; lower it")


def frozen_modules(encoder: Any, n_layers: int) -> list[nn.Module]:
    """The embeddings and the first `n_layers` layers, for `TextModel.freeze`.

    Raises UserError where the encoder has fewer layers, or layers that cannot be distinguished.
    """
    check_layers(encoder, n_layers, "train.freeze_layers")
    depths = module_depths(encoder)
    if not any(depths.values()):
        raise UserError(
            f"train.freeze_layers is {n_layers}, but the embeddings of {type(encoder).__name__} "
            "cannot be distinguished from its layers; set it to null"
        )
    return [encoder.get_submodule(name) for name, depth in depths.items() if depth <= n_layers]


def unchanged_layers(encoder: Any, n_frozen: int) -> int:
    """Of how many layers the outputs never change where the first `n_frozen` do not learn.

    A norm above the layers (GPT-2's) learns on, and the states of the last layer have passed it.
    """
    n_layers: int = encoder.config.num_hidden_layers
    depths = module_depths(encoder)
    above = (encoder.get_submodule(name) for name, depth in depths.items() if depth > n_layers)
    learns_above = any(True for module in above for _ in module.parameters())
    return n_frozen - 1 if n_frozen == n_layers and learns_above else n_frozen


def reinitialise(encoder: Any, n_layers: int) -> None:
    """Give the last `n_layers` layers random weights, drawn as for the family's pretraining.

    Uses torch's global random generator. Raises UserError where the encoder has fewer layers, or
    layers that share their weights. Source: Zhang et al. 2021, Revisiting Few-sample BERT
    Fine-tuning, arXiv:2006.05987.
    """
    check_layers(encoder, n_layers, "train.reinit_layers")
    n_known = encoder.config.num_hidden_layers
    for name, depth in module_depths(encoder).items():
        if n_known - n_layers < depth <= n_known:
            layer = encoder.get_submodule(name)
            for tensor in (*layer.parameters(), *layer.buffers()):
                # transformers marks weights that it has loaded, and does not initialise them.
                tensor._is_hf_initialized = False
            with torch.no_grad():
                layer.apply(encoder._init_weights)


def checkpoint_activations(encoder: Any) -> None:
    """Compute activations again in the backward pass instead of keeping them: less memory.

    Raises UserError where the encoder's family cannot do it.
    """
    if not encoder.supports_gradient_checkpointing:
        raise UserError(
            f"train.gradient_checkpointing is true, which {type(encoder).__name__} does not "
            "support; set it to false, and lower train.batch_size if memory runs out"
        )
    # Renamed in transformers 5.23, where the old name warns.
    enable = getattr(encoder, "activation_checkpointing_enable", None)
    (enable or encoder.gradient_checkpointing_enable)()


def _outermost(names: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for name in names:
        if not name.startswith(tuple(f"{outer}." for outer in kept)):
            kept.append(name)
    return kept
