"""Cards on the disk: written whole, and read as what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poolblend.cards.card import SEAL, C, Card, DamagedError, read_json, sha256_of_json
from poolblend.store.files import write_json, write_text

__all__ = ["DamagedError", "read_card", "read_raw", "write_card", "write_raw"]


def write_raw(path: Path, content: Mapping[str, Any]) -> None:
    plain = json.loads(json.dumps(content, allow_nan=False))
    write_json(path, {**plain, SEAL: sha256_of_json(plain)})


def read_raw(path: Path) -> dict[str, Any] | None:
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        seal = card.pop(SEAL)
        if seal == sha256_of_json(card):
            return card
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError, NotADirectoryError):
        pass
    raise DamagedError(f"{path} is damaged: it is not the card that was written there")


def write_card(path: Path, card: Card) -> None:
    """Write the card, whole or not at all."""
    write_text(path, card.to_json())


def read_card(path: Path, kind: type[C]) -> C | None:
    """The card of this kind; None where there is no such file.

    Raises DamagedError where the file does not hold what was written; the caller says what to do.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        text = ""
    return read_json(kind, text, str(path))
