"""Read a run's settings: defaults < YAML file < `--set key=value`; or say what is wrong."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from poolblend.config.members import MemberSpec
from poolblend.config.sections import Backbone, Blend, Data, Folds, Join, Submission
from poolblend.config.settings import ROOT, Config
from poolblend.config.training import (
    Checkpoints,
    Head,
    Lora,
    MaskedLanguage,
    Pseudo,
    Train,
)
from poolblend.config.yaml_file import parse_value, read_yaml
from poolblend.errors import UserError, excerpt, unknown
from poolblend.text_spec import Windows

QUICKSTART = ROOT / "configs" / "quickstart.yaml"
SECTIONS: dict[str, type[BaseModel]] = {
    "data": Data,
    "folds": Folds,
    "backbone": Backbone,
    "backbone.mlm": MaskedLanguage,
    "members": MemberSpec,
    "head": Head,
    "train": Train,
    "train.lora": Lora,
    "windows": Windows,
    "pseudo": Pseudo,
    "checkpoints": Checkpoints,
    "blend": Blend,
    "submission": Submission,
}
# Sections that may be a word, and the key that the word stands for.
WORDS = {"backbone": "source", "submission": "values"}


def load(
    path: str | Path | None = None, sets: Sequence[str] = (), seed: int | None = None
) -> Config:
    """The settings of `path` (default: the quickstart's) with `key=value` overrides applied.

    A relative `path` is looked for in the working directory, then in the project's folder.
    Raises UserError for a missing or malformed file, an unknown key or a wrong type.
    """
    file = _find(path)
    raw = {"run": file.stem} | _read(file)
    for item in sets:
        _set(raw, item)
    if seed is not None:
        raw["seed"] = seed
    # A section whose every line is commented out is there, and empty.
    raw = {key: value for key, value in raw.items() if not (value is None and key in SECTIONS)}
    try:
        return Config(**raw)
    except ValidationError as error:
        raise UserError(_explain(error, file)) from None


def _find(path: str | Path | None) -> Path:
    if path is None:
        return QUICKSTART
    wrong = ""
    try:
        for file in (Path(path).expanduser(), ROOT / path):
            if file.exists():
                kind = file.stat().st_mode
                if stat.S_ISREG(kind):
                    return file
                wrong = "is a folder" if stat.S_ISDIR(kind) else "is not a regular file"
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links; a NUL; no such home
        wrong = excerpt(getattr(error, "strerror", None) or str(error))
    known = excerpt(", ".join(sorted(p.name for p in QUICKSTART.parent.glob("*.yaml"))), 150)
    shown = excerpt(str(path), 150)
    raise UserError(
        f"config file {shown}: {wrong}; configs/ holds: {known}"
        if wrong
        else f"no config file {shown}; configs/ holds: {known}"
    )


def _read(file: Path) -> dict[str, Any]:
    raw = read_yaml(file)
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        where = excerpt(str(file), 150)
        raise UserError(f"{where}: expected `key: value` lines, found {type(raw).__name__}")
    return raw


def _set(raw: dict[str, Any], item: str) -> None:
    """Apply `key=value` to a dotted key, making the sections on the way."""
    key, equals, value = item.partition("=")
    shown = f"--set {excerpt(item)}"
    *sections, last = (part.strip() for part in key.split("."))
    if not equals or not all((*sections, last)):
        raise UserError(f"{shown}: expected key=value, such as train.epochs=3")
    if sections[:1] == ["members"]:
        raise UserError(f"{shown}: members is a list; set all of it: --set 'members=[mean, max]'")
    for section in sections:
        inner = raw.get(section)
        if section in WORDS and isinstance(inner, str):
            inner = {WORDS[section]: inner}  # `backbone.name` keeps its source
        if not isinstance(inner, dict | None):
            raise UserError(f"{shown}: {section} is {excerpt(inner)} and has no keys of its own")
        raw[section] = dict(inner or {})
        raw = raw[section]
    raw[last] = parse_value(value, f"{shown}: not a YAML value")


def _explain(error: ValidationError, file: Path) -> str:
    """The first complaint of pydantic as one line of ours: key, value, expectation, nearest key."""
    errors = error.errors()
    # A misspelt key may well be the required one that is missing.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    place = first["loc"]
    if place[:1] == ("members",) and len(place) > 3:
        place = place[2:]  # a member's own `train:` or `head:` has the keys of the run's
    key = excerpt(".".join(map(str, place)) or "config")
    where = f"({excerpt(file.name)} or --set)"
    if first["type"] == "extra_forbidden":
        plain = re.sub(r"\.\d+\b", "", key)
        section = plain.rpartition(".")[0]
        known_here = [*known_keys(), *(f"data.joins.{name}" for name in Join.model_fields)]
        siblings = [known for known in known_here if known.rpartition(".")[0] == section]
        return str(unknown("key", plain, siblings, where))
    cause = first.get("ctx", {}).get("error")
    reason = excerpt(str(cause) if cause else first["msg"][0].lower() + first["msg"][1:], 200)
    if first["type"] == "bool_type":
        reason = "expected true or false"
    value = first["input"]
    quoted = f"'{excerpt(value)}'" if isinstance(value, str) else excerpt(value)
    shown = f": {quoted}" if isinstance(value, str | int | float | None) else ""
    return f"{key}{shown}: {reason} {where}"


def known_keys() -> list[str]:
    """Every key that a config may hold, dotted."""
    return [key for name in Config.model_fields for key in _keys(name)]


def _keys(name: str) -> Iterator[str]:
    """The key itself, and those of the section that it may be."""
    yield name
    for inner in SECTIONS[name].model_fields if name in SECTIONS else ():
        yield from _keys(f"{name}.{inner}")
