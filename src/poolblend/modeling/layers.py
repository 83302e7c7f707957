"""Where an encoder's layers are, and how deep each of its parameters lies."""

from __future__ import annotations

from typing import Any

from torch import nn


def layer_stacks(encoder: Any) -> list[str]:
    """Names of the module lists that are as long as the configuration has layers."""
    n_layers: int = encoder.config.num_hidden_layers
    return [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    ]


def layer_depths(encoder: Any) -> dict[str, int]:
    """How deep each parameter lies: 0 for embeddings, i + 1 for layer i, above them n_layers + 1.

    Every parameter name of the encoder is a key. Layers are the module list as long as the
    configuration says; where they share weights (ALBERT), all but embeddings counts as above them.
    """
    n_layers, stacks = encoder.config.num_hidden_layers, layer_stacks(encoder)
    depths = {}
    for name, _ in encoder.named_parameters():
        inside = stacks and name.startswith(f"{stacks[0]}.")
        if inside:
            depths[name] = int(name[len(stacks[0]) + 1 :].split(".")[0]) + 1
        else:
            depths[name] = 0 if "embed" in name else n_layers + 1
    return depths
