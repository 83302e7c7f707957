"""Read a run's settings: defaults < preset < YAML file < `--set key=value`."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from poolblend.config.members import merged
from poolblend.config.presets import read_preset
from poolblend.config.settings import ROOT, SHIPPED, Config
from poolblend.config.yaml_file import parse_value, read_yaml
from poolblend.errors import UserError, quoted, unknown

QUICKSTART = SHIPPED / "configs" / "quickstart.yaml"
# Sections that may be written as one word, and the key whose value the word is.
WORDS = {"backbone": "source", "submission": "values"}
# What pydantic says in words of Python, said in words of YAML.
PLAIN = {
    "bool_type": "expected true or false",
    "dict_type": "expected `key: value` pairs",
    "model_type": "expected `key: value` pairs",
    "missing": "this key is required",
}


def load(
    path: str | Path | None = None,
    sets: Sequence[str] = (),
    seed: int | None = None,
    values: Mapping[str, Any] | None = None,
) -> Config:
    """The settings of `path` (default: the quickstart's) with `key=value` overrides applied.

    Its key `preset` names settings that take the place of the defaults, section by section.
    `values` are overrides, too: dotted keys, and their values as Python holds them. A relative
    `path` is looked for in the working directory, the project's folder, and among the configs that
    poolblend brings.
    Raises UserError for a missing or malformed file, an unknown key or preset, or a wrong type.
    """
    file = _find(path)
    raw = {"run": file.stem} | _read(file)
    for item in sets:
        _set(raw, item)
    _assign_all(raw, values or {})
    if seed is not None:
        raw["seed"] = seed
    return _made(raw, file.name, " or --set")


def of_values(values: Mapping[str, Any]) -> Config:
    """The settings of these dotted keys alone, with their values as Python holds them.

    Raises UserError for an unknown key or a wrong type.
    """
    raw: dict[str, Any] = {}
    _assign_all(raw, values)
    return _made(raw, "an argument of Run")


def _made(raw: dict[str, Any], source: str, overrides: str = "") -> Config:
    # A section whose keys are all commented out is null in YAML, and means the defaults.
    raw = {key: value for key, value in raw.items() if value is not None or not _is_section(key)}
    preset = raw.get("preset")
    if preset is not None:
        raw = merged(read_preset(preset), raw)
    where = f"({source}{f', preset {preset}' if preset else ''}{overrides})"
    try:
        return Config(**raw)
    except ValidationError as error:
        raise UserError(_explain(error, where)) from None


def known_keys() -> list[str]:
    """All keys of a config, with the names of their sections, such as `train.lr`."""
    return _keys_within(Config, "")


def _keys_within(section: type[BaseModel], prefix: str) -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        inner = section_within(field.annotation)
        if inner is not None:
            keys += _keys_within(inner, f"{prefix}{name}.")
    return keys


def section_within(annotation: Any) -> type[BaseModel] | None:
    """The section in an annotation such as `Train`, `Lora | None` or `list[Join]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [section_within(inner) for inner in get_args(annotation)]
    return next(filter(None, found), None)


def _is_section(key: str) -> bool:
    field = Config.model_fields.get(key)
    return field is not None and section_within(field.annotation) is not None


def _find(path: str | Path | None) -> Path:
    if path is None:
        return QUICKSTART
    wrong = ""
    try:
        for file in (Path(path).expanduser(), ROOT / path, SHIPPED / path):
            if file.exists():
                kind = file.stat().st_mode
                if stat.S_ISREG(kind):
                    return file
                wrong = "is a folder" if stat.S_ISDIR(kind) else "is not a regular file"
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links; a NUL; no such home
        wrong = getattr(error, "strerror", None) or str(error)
    folders = [root / "configs" for root in (ROOT, SHIPPED)]
    known = ", ".join(sorted({p.name for folder in folders for p in folder.glob("*.yaml")}))
    raise UserError(
        f"config file {path}: {wrong}; configs/ holds: {known}"
        if wrong
        else f"no config file {path}; configs/ holds: {known}"
    )


def _read(file: Path) -> dict[str, Any]:
    raw = read_yaml(file)
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        found = "a list" if isinstance(raw, list) else "a single value"
        raise UserError(f"{file}: expected `key: value` lines, found {found}")
    return raw


def _set(raw: dict[str, Any], item: str) -> None:
    """Apply `key=value` to a dotted key; missing sections are added."""
    key, equals, value = item.partition("=")
    option = f"--set {item}"
    if not equals or not all(map(str.strip, key.split("."))):
        raise UserError(f"{option}: expected key=value, such as train.epochs=3")
    _assign(raw, key, parse_value(value, f"{option}: not a YAML value"), option)


def _assign_all(raw: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        _assign(raw, key, value, f"{key}={value!r}")


def _assign(raw: dict[str, Any], key: str, value: Any, option: str) -> None:
    *sections, last = (part.strip() for part in key.split("."))
    if sections[:1] == ["members"]:
        raise UserError(f"{option}: members is a list; set all of it: --set 'members=[mean, max]'")
    for section in sections:
        inner = raw.get(section)
        if section in WORDS and isinstance(inner, str):
            inner = {WORDS[section]: inner}  # `backbone.name=…` must not lose the source
        if not isinstance(inner, dict | None):
            raise UserError(f"{option}: {section} is {inner} and has no keys")
        raw[section] = dict(inner or {})
        raw = raw[section]
    raw[last] = value


def _explain(error: ValidationError, where: str) -> str:
    """The first error of pydantic in one line: key, value, expected value, nearest key, `where`."""
    errors = error.errors()
    # Report an unknown key first: it may be the misspelt name of a missing one.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    place = first["loc"]
    if place[:1] == ("members",) and len(place) > 3:
        place = place[2:]  # a member's `train:` or `head:` has the same keys as the run's
    key = ".".join(map(str, place)) or "config"
    if first["type"] == "extra_forbidden":
        plain = re.sub(r"\.\d+\b", "", key)  # without the places in lists
        section = plain.rpartition(".")[0]
        keys = known_keys()
        moved = [each for each in keys if each.rpartition(".")[2] == plain]
        if moved and not section:
            nearest = min(moved, key=lambda each: each.count("."))
            return f"unknown key '{plain}' {where}; did you mean '{nearest}'?"
        own = [each.removeprefix("members.") for each in keys]  # `model` is a member's alone
        both = dict.fromkeys([*keys, *own])
        known = [each for each in both if each.rpartition(".")[0] == section]
        return str(unknown("key", plain, known, where))
    cause = first.get("ctx", {}).get("error")
    reason = str(cause) if cause else first["msg"][0].lower() + first["msg"][1:]
    reason = PLAIN.get(first["type"], reason)
    value = first["input"]
    shown = ""
    if isinstance(value, str):
        shown = f": {quoted(value)}"
    elif isinstance(value, int | float | None):
        shown = f": {value}"
    return f"{key}{shown}: {reason} {where}"
