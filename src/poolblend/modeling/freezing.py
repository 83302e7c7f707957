"""Freezing an encoder from below: its embeddings, and as many of its first layers."""

from __future__ import annotations

from poolblend.errors import UserError
from poolblend.modeling.layers import check_layers, module_depths
from poolblend.modeling.model import TextModel


def freeze(model: TextModel, n_layers: int) -> None:
    """Embeddings and the first `n_layers` layers neither learn nor drop anything out from now on.

    Raises UserError where the encoder has fewer layers, or layers that cannot be told apart.
    """
    encoder = model.encoder
    check_layers(encoder, n_layers, "train.freeze_layers")
    depths = module_depths(encoder)
    if not any(depths.values()):
        raise UserError(
            f"train.freeze_layers is {n_layers}, but the embeddings of {type(encoder).__name__} "
            "cannot be told from its layers; set it to null"
        )
    model.freeze([encoder.get_submodule(name) for name, d in depths.items() if d <= n_layers])
