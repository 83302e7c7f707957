"""What a card says besides its numbers, and how the inputs of two cards differ."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from poolblend import __version__

SOURCE = Path(__file__).resolve().parent

LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "safetensors",
    "scikit-learn",
    "iterative-stratification",
    "optuna",
    "scipy",
    "numpy",
    "pandas",
)


def now() -> datetime:
    return datetime.now(timezone.utc)


def provenance() -> dict[str, Any]:
    """JSON-ready; the commit is None outside a git checkout, a version where the library is not."""
    return {
        "written": now().isoformat(timespec="seconds"),
        "poolblend": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


def changed(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two nested mappings, as `key was a, is b`."""
    changes = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            changes += changed(a, b, f"{prefix}{key}.")
        elif a != b:
            name = f"{prefix}{key}".removeprefix("settings.")
            if key.endswith("_sha256"):
                changes.append(f"{key.removesuffix('_sha256')} has changed")
            else:
                changes.append(f"{name} was {a}, is {b}")
    return changes


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


@cache
def _commit() -> str | None:
    try:
        command = ["git", "-C", str(SOURCE), "describe", "--always", "--dirty", "--abbrev=40"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
