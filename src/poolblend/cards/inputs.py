"""The inputs of an artefact: hashes and settings that decide whether it is still valid."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from poolblend.cards.card import CardPart, sha256_of_json


class FileHash(CardPart):
    """The hash and size of a file."""

    sha256: str
    bytes: int


def hash_of_hashes(files: Mapping[str, FileHash]) -> str:
    """One hash of the names and contents of several files."""
    lines = "\n".join(f"{name} {file.sha256}" for name, file in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


class Inputs(CardPart):
    """Base of the inputs that a result depends on."""

    def changes_since(self, old: Mapping[str, Any] | Inputs) -> list[str]:
        """The differences from the inputs of an older artefact, as `key was a, is b`."""
        before = old.as_json() if isinstance(old, Inputs) else old
        return changed(before, self.as_json())

    def as_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")

    def fingerprint(self) -> str:
        """Hex sha256 of all inputs."""
        return sha256_of_json(self.as_json())


def changed(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The differences of two nested mappings, as `key was a, is b` or `key has changed`."""
    changes = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            changes += changed(a, b, f"{prefix}{key}.")
        elif a != b:
            name = f"{prefix}{key}".removeprefix("settings.").removeprefix("reading.")
            if key.endswith("_sha256"):
                changes.append(f"{key.removesuffix('_sha256')} has changed")
            else:
                changes.append(f"{name} was {a}, is {b}")
    return changes
