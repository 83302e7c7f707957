"""Cards: JSON files that say what an artefact is, and by a hash that they are whole themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poolblend.cards.card import SEAL, C, Card, DamagedError, read_json
from poolblend.store.files import write_json, write_text

__all__ = ["SEAL", "DamagedError", "load_card", "read_card", "save_card", "write_card"]


def save_card(path: Path, card: Card) -> None:
    write_text(path, card.to_json())


def load_card(kind: type[C], path: Path) -> C | None:
    """The card of this kind in a file; None where there is no such file, else DamagedError."""
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return read_json(kind, text, str(path))


def write_card(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as JSON, with a hash of it under `card_sha256`."""
    write_json(path, {**content, SEAL: _seal(content)})


def read_card(path: Path) -> dict[str, Any] | None:
    """The card's content; None where there is no such file.

    Raises DamagedError where the file does not hold what was written; the caller says what to do.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        seal = card.pop(SEAL)
        if seal == _seal(card):
            whole: dict[str, Any] = card
            return whole
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError, NotADirectoryError):
        pass
    raise DamagedError(f"{path} is damaged: it is not the card that was written there")


def _seal(content: Mapping[str, Any]) -> str:
    """What stays the same when the content is written and read again: keys become strings."""
    plain = json.loads(json.dumps(content, allow_nan=False))
    text = json.dumps(plain, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
