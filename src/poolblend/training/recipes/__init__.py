"""Training recipes: each is one class in one file of this folder, and one key of `train:`.

To add one, write a subclass of `Recipe` under `@register("name")` in a new module here: its options
as fields, its work in the hooks that it needs. That puts it into the config, `train.py --list`, the
documents' tables and the law suite of tests/training/test_recipe_laws.py.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from copy import copy
from inspect import getdoc
from typing import TYPE_CHECKING, Any

from pydantic import create_model

from poolblend.options import Section
from poolblend.training.recipes.contract import RECIPES, Recipe, register

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "RECIPES",
    "Recipe",
    "active_recipes",
    "check_options",
    "extra_pass_from",
    "label_weights",
    "register",
    "switched_off",
    "with_recipes",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def with_recipes(base: type[Section]) -> Any:
    """`base` with the options of all recipes as further fields, each with its description."""
    fields: dict[str, Any] = {}
    for name in RECIPES:
        recipe = RECIPES[name]
        line = (getdoc(recipe) or "").split("\n")[0]
        for key in sorted(recipe.model_fields, key=lambda key: key != name):
            field = copy(recipe.model_fields[key])
            field.description = field.description or line
            fields.setdefault(key, (field.annotation, field))
    return create_model(base.__name__, __base__=base, __module__=base.__module__, **fields)


def active_recipes(train: Any) -> list[Recipe]:
    """The recipes that `train` switches on, for one training: they hold its state."""
    return [recipe for recipe in _all_recipes(train) if recipe.active]


def switched_off() -> dict[str, Any]:
    """The options of all recipes, at the values at which they do nothing."""
    fields = (RECIPES[name].model_fields.items() for name in RECIPES)
    return {key: field.default for each in fields for key, field in each}


def check_options(train: Any, head: Any, task: str) -> None:
    """Raise ValueError for an option that does nothing, or cannot be set beside another."""
    for recipe in _all_recipes(train):
        recipe.check_options(train, head, task)


def extra_pass_from(train: Any, n_steps: int) -> int:
    """The first of `n_steps`, from 0, with a second pass; `n_steps` for none."""
    return min((r.extra_pass_from(n_steps) for r in active_recipes(train)), default=n_steps)


def label_weights(train: Any, y: np.ndarray) -> np.ndarray | None:
    """Weights of rows by their encoded labels, (N, 1 or K); None where no recipe weights them."""
    product = None
    for recipe in active_recipes(train):
        weights = recipe.label_weights(y)
        if weights is not None:
            weights = weights.reshape(len(y), -1)
            product = weights if product is None else product * weights
    return product


def _all_recipes(train: Any) -> Iterator[Recipe]:
    for name in RECIPES:
        recipe = RECIPES[name]
        yield recipe(**{key: getattr(train, key) for key in recipe.model_fields})
