"""The interface of training recipes: options in `train:`, and hooks that a training calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from poolblend.options import Section
from poolblend.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from poolblend.modeling.model import Batch, TextModel
    from poolblend.training.objectives import Objective

    Forward = Callable[[Batch], list[Tensor]]


class Recipe(Section):
    """One way of changing how a model is trained. Its fields are its options, keys of `train:`.

    The field of the recipe's own name switches it on: at its default the recipe does nothing, and
    no hook but `check_options` is called. Its first `examples` value is what the tests try. The
    first line of the docstring describes it in `--list` and in docs/training.md.

    Every hook does nothing unless overridden. Recipes act in the order of their names. torch is
    imported inside the hooks, so that a config is read without it.
    """

    name: ClassVar[str]
    with_frozen_encoder: ClassVar[bool] = False  # whether it applies to a frozen encoder's head

    @property
    def active(self) -> bool:
        return bool(getattr(self, self.name) != type(self).model_fields[self.name].default)

    # Checks. `train` holds the options of all recipes.

    def check_options(self, train: Any, head: Any, task: str) -> None:
        """Raise ValueError where the options do nothing, or exclude others.

        It is called for recipes that are switched off, too.
        """

    def check(self, encoder: Any, train: Any, task: str) -> None:
        """Raise UserError where the recipe does not fit the encoder or the task.

        The encoder is on the meta device: layers and sizes are known, nothing can be computed.
        """

    # Before the training.

    def prepare_encoder(self, encoder: Any) -> None:
        """Change the pretrained encoder, before pooler and head are made."""

    def prepare_model(self, model: TextModel) -> None:
        """Change the new model."""

    def begin(self, model: TextModel, train: Any) -> None:
        """Called with the model on its device, before the first step."""

    def label_weights(self, y: np.ndarray) -> np.ndarray | None:
        """Weights of rows by their encoded labels (N,) or (N, K), of mean 1; None: no weights."""
        return None

    def targets(self, targets_NL: Tensor, objective: Objective) -> Tensor:
        """The targets of the loss."""
        return targets_NL

    def rate(self, depth: int, top: int) -> float:
        """Factor of the learning rate at this depth; 0: embeddings, `top`: above all layers."""
        return 1.0

    def constant_rate_from(self, steps_of_epochs: Sequence[int]) -> int | None:
        """The step from which the learning rate is constant; None: no such step."""
        return None

    # A batch.

    def forward(self, forward: Forward, model: TextModel) -> Forward:
        """The forward passes of a batch: logits (B, L) of each; the loss is their losses' mean."""
        return forward

    def loss(
        self, loss_B: Tensor, logits: Sequence[Tensor], weights: Tensor, objective: Objective
    ) -> Tensor:
        """The rows' losses; `logits` are those of `forward`, `weights` the rows', (B, 1 or L)."""
        return loss_B

    # A step.

    def extra_pass_from(self, n_steps: int) -> int:
        """The first of `n_steps` with a second pass: `n_steps` for none."""
        return n_steps

    def extra_pass(
        self, model: TextModel, backward: Callable[[], object], clear: Callable[[], object]
    ) -> None:
        """Change the gradients of a step; `backward` adds those of all its batches once more."""

    def after_step(self, model: TextModel, epoch: int, *, ends_epoch: bool) -> None:
        """Called after each step; `epoch` counts from 0.

        Not after one that fp16 skipped, unless it ends the epoch. Do not read from the device.
        """

    def after_epoch(
        self, merit: float | None, pred_NK: np.ndarray, snapshot: Callable[[], dict[str, Tensor]]
    ) -> bool:
        """Whether training ends here. `merit`: the epoch's score, larger is better; None: none.

        `snapshot` copies the weights that would be kept now, and that learn.
        """
        return False

    # What is kept.

    def kept(self) -> TextModel | None:
        """The model that is kept instead of the trained one."""
        return None

    def kept_epoch(self) -> tuple[int, list[np.ndarray]] | None:
        """The number of the epoch that is kept, from 1, and the predictions after each epoch."""
        return None

    def evaluating(self, model: TextModel) -> AbstractContextManager[object]:
        """Around predictions during the training."""
        return nullcontext()

    def finish(self, model: TextModel) -> None:
        """Change the model that is kept, after the last step."""

    # A checkpoint.

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold besides the model; valid until the next step."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what `state` returned."""


RECIPES: Registry[type[Recipe]] = Registry("recipe")


def register(name: str) -> Callable[[type[Recipe]], type[Recipe]]:
    """Decorator that registers a recipe under the name of its main option."""

    def enter(recipe: type[Recipe]) -> type[Recipe]:
        if name not in recipe.model_fields:
            raise ValueError(f"recipe '{name}' has no option of its name")
        recipe.name = name
        return RECIPES.add(name, recipe)

    return enter
