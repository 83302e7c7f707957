"""Hashes for the trials in Optuna's journal, which has none: a flipped bit may leave a number."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poolblend.store.cards import DamagedError

SEAL = "seal"


def seal(source: str, params: Mapping[str, float], value: float | None) -> str:
    """Hex digest of what a trial is: who asked for it, its weights, its score."""
    told = json.dumps([source, dict(params), value])
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def check_journal(path: Path, label: str | None = None) -> None:
    """Read a journal, if there is one; a last line that a kill has torn is none.

    Raises DamagedError where a line is no JSON, a trial is not the one that was sealed, or a study
    is not named `label`, as far as letters go and where one is given.
    """
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            whole = _is_whole(json.loads(line), label)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise DamagedError(
                f"the study {path} cannot be used (line {number} is damaged), expected a file that "
                "the search wrote; delete it, and the search begins anew"
            )


def _is_whole(record: Mapping[str, Any], label: str | None) -> bool:
    if "study_name" in record:
        own = record["study_name"].rpartition(" [")[0]
        return label is None or _letters(own) == _letters(label)
    told = record.get("user_attrs") or {}
    if not {"source", SEAL} & told.keys():  # a trial that was added by hand, or no trial
        return True
    return bool(told[SEAL] == seal(told["source"], record["params"], record["value"]))


def _letters(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name)
