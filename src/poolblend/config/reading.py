"""Read a run's settings: defaults < YAML file < `--set key=value`; or say what is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from poolblend.config.settings import (
    ROOT,
    Backbone,
    Blend,
    Config,
    Data,
    Folds,
    Head,
    MemberSpec,
    Train,
)
from poolblend.errors import UserError, unknown

QUICKSTART = ROOT / "configs" / "quickstart.yaml"
SECTIONS: dict[str, type[BaseModel]] = {
    "data": Data,
    "folds": Folds,
    "backbone": Backbone,
    "members": MemberSpec,
    "head": Head,
    "train": Train,
    "blend": Blend,
}


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-5 as a number, and refuses a key given twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """PyYAML's own, once no key is found twice."""
        merge = "tag:yaml.org,2002:merge"
        given = [key for key, _ in node.value if key.tag != merge]
        keys = [self.construct_object(key, deep=True) for key in given]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"key '{key}' twice", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load(
    path: str | Path | None = None, sets: Sequence[str] = (), seed: int | None = None
) -> Config:
    """The settings of `path` (default: the quickstart's) with `key=value` overrides applied.

    A relative `path` is looked for in the working directory, then in the project's folder.
    Raises UserError for a missing or malformed file, an unknown key or a wrong type.
    """
    file = _find(path)
    raw = {"run": file.stem} | _parse(file.read_bytes(), str(file))
    for item in sets:
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--set {item}: expected key=value, such as train.epochs=3")
        _place(raw, key.strip(), _parse_value(item, value))
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
    tried = [Path(path).expanduser(), ROOT / path]
    for file in tried:
        if file.is_file():
            return file
    known = ", ".join(sorted(p.name for p in QUICKSTART.parent.glob("*.yaml")))
    raise UserError(f"no config file {path}; configs/ holds: {known}")


def _parse(source: bytes, where: str) -> dict[str, Any]:
    try:
        raw = yaml.load(source.decode("utf-8-sig"), Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise UserError(f"{where}: expected `key: value` lines, found {type(raw).__name__}")
    return raw


def _parse_value(item: str, value: str) -> Any:
    try:
        return yaml.load(value, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"--set {item}: not a YAML value: {' '.join(str(error).split())}") from None


def _place(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set the dotted `key`, making the sections on the way; `backbone.name` keeps its source."""
    *sections, last = key.split(".")
    for section in sections:
        inner = raw.get(section)
        if section == "backbone" and isinstance(inner, str):
            inner = {"source": inner}
        raw[section] = dict(inner) if isinstance(inner, dict) else {}
        raw = raw[section]
    raw[last] = value


def _explain(error: ValidationError, file: Path) -> str:
    """The first complaint of pydantic as one line of ours: key, value, expectation, nearest key."""
    first = error.errors()[0]
    place = first["loc"]
    if place[:1] == ("members",) and len(place) > 3:
        place = place[2:]  # a member's own `train:` or `head:` has the keys of the run's
    key = ".".join(str(part) for part in place) or "config"
    cause = first.get("ctx", {}).get("error")
    if first["type"] == "extra_forbidden":
        plain = re.sub(r"\.\d+\b", "", key)
        section = plain.rpartition(".")[0]
        siblings = [known for known in known_keys() if known.rpartition(".")[0] == section]
        return str(unknown("key", plain, siblings, f"({file.name} or --set)"))
    reason = str(cause) if cause else first["msg"][0].lower() + first["msg"][1:]
    value = first["input"]
    shown = f": {value!r}" if isinstance(value, str | int | float | None) else ""
    return f"{key}{shown}: {reason} ({file.name} or --set)"


def known_keys() -> list[str]:
    """Every key that a config may hold, dotted."""
    return [
        key
        for name in Config.model_fields
        for key in (name, *(f"{name}.{inner}" for inner in _fields(SECTIONS.get(name))))
    ]


def _fields(section: type[BaseModel] | None) -> list[str]:
    return list(section.model_fields) if section else []
