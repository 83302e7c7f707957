"""Registries: one `@register("name")` adds a pooler, a metric, a fold strategy or a blender.

A registry can be asked for its names in two ways. `Registry` holds what has been imported.
`declared` reads the decorators from the source instead, so that `--help` and the config's checks
know every name without importing torch or scikit-learn.
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

# Where each family lives, relative to the package: a module, or a package of modules.
ROOMS = {
    "pooler": "modeling/poolers",
    "metric": "competition/metrics",
    "fold strategy": "competition/folds.py",
    "blender": "ensembling/blenders",
    "loss": "training/objectives.py",
    "optimizer": "training/optimizers.py",
    "schedule": "training/schedules.py",
    "recipe": "training/recipes",
}


class Registry(Generic[T]):
    """Named entries of one family; an unknown name is an error that suggests the nearest."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Enter `entry` under `name`; a second entry of the same name is a bug."""
        if name in self._entries:
            raise ValueError(f"{self.kind} '{name}' is registered twice")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that enters a class or function under `name`."""
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
def declared(kind: str) -> dict[str, str]:
    """Every registered name of a family with the first line of its docstring, read from source.

    `kind` is a key of `ROOMS`. Only a top-level class or function under `@register("name", …)`
    counts, which is the one way in; the tests hold this equal to what importing the room gives.
    """
    room = PACKAGE / ROOMS[kind]
    files = sorted(room.glob("*.py")) if room.is_dir() else [room]
    found: dict[str, str] = {}
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                for name in _names_registered(node):
                    found[name] = (ast.get_docstring(node) or "").split("\n")[0]
    return dict(sorted(found.items()))


def _names_registered(node: ast.ClassDef | ast.FunctionDef) -> Iterator[str]:
    for call in node.decorator_list:
        if (
            isinstance(call, ast.Call)
            and getattr(call.func, "id", getattr(call.func, "attr", "")) == "register"
            and isinstance(call.args[0], ast.Constant)
        ):
            yield str(call.args[0].value)
