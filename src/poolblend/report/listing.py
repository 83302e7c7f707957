"""`train.py --list`: all names that a config may use, and the state of the run's members."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from poolblend.config import Config
from poolblend.config.presets import known_presets
from poolblend.errors import UserError
from poolblend.modeling.options import MODELS
from poolblend.printing import grouped, wrapped
from poolblend.registry import declared
from poolblend.report.standings import standing, standings_table
from poolblend.store import Store
from poolblend.training.options import Train

FAMILIES = {
    "metrics": "metric",
    "fold strategies (folds.strategy)": "fold strategy",
    "blenders (blend.fitter)": "blender",
    "losses (train.loss)": "loss",
    "optimizers (train.optimizer)": "optimizer",
    "schedules (train.schedule)": "schedule",
}


def list_all(config: Config) -> None:
    """Print all names with their descriptions, then the finished folds of the run's members."""
    print("\n".join([*_names(), *_stored(config)]))


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


def _stored(config: Config) -> Iterator[str]:
    store = Store(config.path(config.store), config.run)
    wanted = [member.name for member in config.resolve_members()]
    others = [name for name in store.members() if name not in wanted]
    standings = [standing(store, name, config.folds.n) for name in [*wanted, *others]]
    heading = f"run {store.run} in {store.root} ({config.metric}, mean over finished folds):"
    yield from wrapped(heading)
    yield from (f"  {line}" for line in standings_table(standings))
    for each in standings:
        if each.damaged:
            folds = ", ".join(map(str, each.damaged))
            yield f"  {each.member}: fold {folds} damaged; train.py --check shows details"
    failed = {(each.member, fold): why for each in standings for fold, why in each.failed.items()}
    for line in grouped(failed):
        yield from wrapped(f"failed: {line}", "  ", "    ")
    if store.blend_path.exists():
        yield from wrapped(f"blend: {_blend(store)}")


def _blend(store: Store) -> str:
    try:
        return store.read_blend().sentence
    except UserError as error:
        return str(error)
