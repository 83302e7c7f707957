"""Presets: settings by name, which take the place of the defaults beneath a config's own keys."""

from __future__ import annotations

from typing import Any

from poolblend.config.settings import SHIPPED
from poolblend.config.yaml_file import read_yaml
from poolblend.errors import unknown

PRESETS = SHIPPED / "configs" / "presets"


def known_presets() -> dict[str, str]:
    """The presets' names, each with the first line of its file, a comment that describes it."""
    described = {}
    for file in sorted(PRESETS.glob("*.yaml")):
        described[file.stem] = file.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")
    return described


def read_preset(name: object) -> dict[str, Any]:
    """The keys that a preset sets; UserError for an unknown name."""
    known = known_presets()
    if not isinstance(name, str) or name not in known:
        raise unknown("preset", name, known)
    return dict(read_yaml(PRESETS / f"{name}.yaml"))
