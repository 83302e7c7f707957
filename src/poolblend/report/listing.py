"""`train.py --list`: all names that a config may use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from poolblend.config.presets import known_presets
from poolblend.modeling.options import MODELS
from poolblend.printing import wrapped
from poolblend.registry import declared
from poolblend.training.options import Train

FAMILIES = {
    "metrics": "metric",
    "fold strategies (folds.strategy)": "fold strategy",
    "blenders (blend.fitter)": "blender",
    "losses (train.loss)": "loss",
    "optimizers (train.optimizer)": "optimizer",
    "schedules (train.schedule)": "schedule",
}


def list_all() -> None:
    """Print all names with their descriptions."""
    print("\n".join([*_names(), "members of the run: poolblend board"]))


def _names() -> Iterator[str]:
    yield from _section("presets (preset)", known_presets())
    yield from _section("poolers (--pooler, members)", declared("pooler"))
    yield from _section("models without an encoder (likewise)", MODELS)
    yield from _section("recipes (train.<name>, with their defaults)", _recipes())
    for title, kind in FAMILIES.items():
        yield from _section(title, declared(kind))


def _recipes() -> dict[str, str]:
    """The keys of `train` that have a description, each with its default."""
    return {
        f"{name} = {_as_written(field.default)}": field.description
        for name, field in Train.model_fields.items()
        if field.description
    }


def _as_written(value: Any) -> str:
    """The value as it is written in a config."""
    return "null" if value is None else yaml.safe_dump(value).split("\n")[0]


def _section(title: str, entries: Mapping[str, str]) -> Iterator[str]:
    yield f"{title}:"
    width = max(map(len, entries), default=0)
    for name, line in entries.items():
        head = f"  {name:<{width}}  "
        yield from wrapped(line, head, " " * len(head))
    yield ""
