"""Recipes for an encoder's layers: learning rates, freezing, re-initialisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from poolblend.errors import UserError
from poolblend.training.recipes.contract import Recipe, register

if TYPE_CHECKING:
    from poolblend.modeling.model import TextModel


@register("layer_decay")
class LayerDecay(Recipe):
    """Each layer's learning rate is this times the rate of the layer above it."""

    layer_decay: float = Field(1.0, ge=0.01, le=1, examples=[0.5])

    def check(self, encoder: Any, train: Any, task: str) -> None:
        from poolblend.modeling.layers import layer_stacks

        if not layer_stacks(encoder):
            raise UserError(
                f"train.layer_decay is {self.layer_decay}, but the layers of "
                f"{type(encoder).__name__} share their weights, or cannot be found; set it to 1"
            )
        n_layers = encoder.config.num_hidden_layers
        if train.freeze_layers == n_layers:
            raise UserError(
                f"train.layer_decay does nothing where all {n_layers} layers are frozen"
            )

    def rate(self, depth: int, top: int) -> float:
        return self.layer_decay ** (top - depth)


@register("freeze_layers")
class FreezeLayers(Recipe):
    """Freeze the embeddings and the first N layers; 0: the embeddings alone."""

    freeze_layers: int | None = Field(None, ge=0, examples=[1])

    def check(self, encoder: Any, train: Any, task: str) -> None:
        from poolblend.modeling.layers import check_layers

        check_layers(encoder, self.freeze_layers or 0, "train.freeze_layers")

    def prepare_model(self, model: TextModel) -> None:
        from poolblend.modeling.layers import frozen_modules

        model.freeze(frozen_modules(model.encoder, self.freeze_layers or 0))


@register("reinit_layers")
class ReinitLayers(Recipe):
    """Re-initialise the last N layers with random weights."""

    reinit_layers: int = Field(0, ge=0, examples=[1])

    def check(self, encoder: Any, train: Any, task: str) -> None:
        from poolblend.modeling.layers import check_layers

        check_layers(encoder, self.reinit_layers, "train.reinit_layers")
        n_layers, frozen = encoder.config.num_hidden_layers, train.freeze_layers or 0
        if frozen + self.reinit_layers > n_layers:
            raise UserError(
                f"train.freeze_layers is {frozen} and train.reinit_layers {self.reinit_layers}, of "
                f"{n_layers} layers: some would be frozen with random weights; lower one"
            )

    def prepare_encoder(self, encoder: Any) -> None:
        from poolblend.modeling.layers import reinitialise

        reinitialise(encoder, self.reinit_layers)
