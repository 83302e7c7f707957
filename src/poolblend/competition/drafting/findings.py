"""What was found: keys of a config with their reasons, and notes; what the user gave instead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

# sure: the tables say so. guess: to be checked. option: left out of the config, to be put in.
State = Literal["sure", "guess", "option"]


class Finding(NamedTuple):
    """A key of the config (`data.id`), its value, and the reason in one short line."""

    key: str
    value: Any
    reason: str
    state: State = "sure"


@dataclass(frozen=True)
class Given:
    """What the user said: file names in the folder, and columns; the rest is looked for.

    `id` "null" means that train has no ids.
    """

    train: str | None = None
    test: str | None = None
    sample: str | None = None
    id: str | None = None
    target: list[str] | None = None
    text: list[str] | None = None


@dataclass(frozen=True)
class Draft:
    """The findings, and notes on what no key says."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def value(self, key: str) -> Any:
        """The value found for a key, None if there is none."""
        found = (each.value for each in self.findings if each.key == key and each.state != "option")
        return next(found, None)
