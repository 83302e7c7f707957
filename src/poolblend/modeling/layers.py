"""Where an encoder's layers are, and how deep each of its modules and parameters lies.

A depth is 0 for embeddings, i + 1 for layer i, n_layers + 1 for what stands above the layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from poolblend.errors import UserError

# DeBERTa registers behind its layers what it runs before or beside them: the norm of its relative
# positions, and a convolution whose output joins the first layer's.
DEBERTA = {"encoder.LayerNorm": 0, "encoder.conv": 1}
# BART and T5 register behind their layers what norms their embeddings, or drops from them.
EMBEDDING = ("layernorm_embedding", "dropout")


def layer_stacks(encoder: Any) -> list[str]:
    """Names of the module lists that are as long as the configuration has layers, outermost first.

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
    """The encoder's modules, cut so that each lies at one depth, by name.

    What is registered before the layers, and any table of vectors outside them, counts as
    embeddings; so do BART's norm and T5's dropout of these. Layers that share their weights
    (ALBERT) are one module, at depth n_layers.
    """
    n_layers, stacks = encoder.config.num_hidden_layers, layer_stacks(encoder)
    named = dict(encoder.named_modules())
    shared = stacks or _outermost(n for n, m in named.items() if isinstance(m, nn.ModuleList))
    around = {name[:i] for name in shared for i, letter in enumerate(name) if letter == "."}
    depths: dict[str, int] = {}
    outside = 0
    # In the order of registration; a module is looked into only where it holds the layers.
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
    """How deep each parameter lies; every parameter name of the encoder is a key."""
    depths = module_depths(encoder)
    return {
        name: next((depths[module] for module in _holding(name) if module in depths), 0)
        for name, _ in encoder.named_parameters()
    }


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


def _holding(name: str) -> Iterator[str]:
    """Names of the modules that hold the parameter `name`, from the outside in."""
    parts = name.split(".")
    return (".".join(parts[:i]) for i in range(1, len(parts)))


def _outermost(names: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for name in names:
        if not name.startswith(tuple(f"{outer}." for outer in kept)):
            kept.append(name)
    return kept
