"""The time, machine and library versions of an artefact."""

from __future__ import annotations

import platform
import subprocess
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from poolblend import __version__
from poolblend.cards.card import CardPart

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


class Provenance(CardPart):
    """The time, machine and library versions with which an artefact was written."""

    written: str  # UTC, to the second
    poolblend: str
    commit: str | None  # None outside a git checkout
    python: str
    platform: str
    machine: str = ""  # its name
    libraries: dict[str, str | None]  # None where the library is not installed

    @classmethod
    def here(cls) -> Provenance:
        """The provenance of an artefact that is written now."""
        return cls(
            written=now().isoformat(timespec="seconds"),
            poolblend=__version__,
            commit=_commit(),
            python=platform.python_version(),
            platform=platform.platform(),
            machine=platform.node(),
            libraries={name: _version(name) for name in LIBRARIES},
        )


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
