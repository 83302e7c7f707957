"""Registries: one `@register("name")` adds a pooler, a metric, a fold strategy or a blender.

The first line of an entry's docstring is its description. `Registry` holds the entries that have
been imported. `declared` reads names and descriptions from the source instead, so that `--help` and
the checks of a config import neither torch nor scikit-learn.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

from poolblend.errors import unknown

T = TypeVar("T")
PACKAGE = Path(__file__).resolve().parent

# The modules of each family, relative to the package. No module holds entries of two families.
ROOMS = {
    "pooler": "modeling/poolers/*.py",
    "metric": "competition/metrics/*.py",
    "fold strategy": "competition/folds.py",
    "blender": "ensembling/blenders/*.py",
    "loss": "training/objectives.py",
    "optimizer": "training/optimizers.py",
    "schedule": "training/schedules.py",
    "recipe": "training/recipes/*.py",
}


class Registry(Generic[T]):
    """The entries of one family by name; an unknown name raises UserError with the nearest one."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Add `entry` under `name`; ValueError if the name exists."""
        if name in self._entries:
            raise ValueError(f"{self.kind} '{name}' is registered twice")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds a class or function under `name`."""
        return lambda entry: self.add(name, entry)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise unknown(self.kind, name, self._entries)
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)


@cache
def declared(kind: str, ability: str | None = None) -> dict[str, str]:
    """Every registered name of a family and its description, read from the source.

    `kind` is a key of `ROOMS`. With `ability`, those alone that say `ability=True` where they are
    registered. Only top-level classes and functions under `@register("name", …)`
    count. The tests compare the result with what importing the modules registers.
    """
    found: dict[str, str] = {}
    for file in sorted(PACKAGE.glob(ROOMS[kind])):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                for name in _names_registered(node, ability):
                    found[name] = (ast.get_docstring(node) or "").split("\n")[0]
    return dict(sorted(found.items()))


def _names_registered(node: ast.ClassDef | ast.FunctionDef, ability: str | None) -> Iterator[str]:
    for call in node.decorator_list:
        if (
            isinstance(call, ast.Call)
            and getattr(call.func, "id", getattr(call.func, "attr", "")) == "register"
            and isinstance(call.args[0], ast.Constant)
            and (ability is None or ability in _abilities(call))
        ):
            yield str(call.args[0].value)


def _abilities(call: ast.Call) -> set[str | None]:
    """The keywords of the call that are True."""
    return {key.arg for key in call.keywords if getattr(key.value, "value", None) is True}
