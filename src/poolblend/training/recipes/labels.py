"""Recipes for labels: smoothing, and class weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from poolblend.errors import UserError
from poolblend.training.recipes.contract import Recipe, register

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from poolblend.training.objectives import Objective


@register("label_smoothing")
class LabelSmoothing(Recipe):
    """Spread this share of each label evenly over all labels."""

    label_smoothing: float = Field(0.0, ge=0, lt=1, examples=[0.1])

    def check(self, encoder: Any, train: Any, task: str) -> None:
        from poolblend.training.objectives import LOSSES, resolve_loss

        loss = resolve_loss(task, train.loss)
        if LOSSES[loss].learns_values:
            raise UserError(
                f"train.label_smoothing is {self.label_smoothing}, but {loss} learns values, not "
                "labels; set it to 0"
            )

    def targets(self, targets_NL: Tensor, objective: Objective) -> Tensor:
        spread = self.label_smoothing / objective.n_outcomes
        return targets_NL * (1 - self.label_smoothing) + spread


@register("class_weights")
class ClassWeights(Recipe):
    """balanced: weight rows in inverse proportion to how frequent their label is."""

    with_frozen_encoder: ClassVar[bool] = True

    class_weights: Literal["none", "balanced"] = Field("none", examples=["balanced"])

    def check(self, encoder: Any, train: Any, task: str) -> None:
        if task == "regression":
            raise UserError("train.class_weights: a regression has no classes; set it to none")

    def label_weights(self, y: np.ndarray) -> np.ndarray | None:
        """Weights that balance the labels: N / (labels * rows of the row's label).

        Where a row has several labels (N, K), each is weighted separately.
        """
        import numpy as np
        from sklearn.utils.class_weight import compute_sample_weight

        if y.ndim == 1:
            return compute_sample_weight("balanced", y)
        return np.stack([compute_sample_weight("balanced", y_N) for y_N in y.T], axis=1)
