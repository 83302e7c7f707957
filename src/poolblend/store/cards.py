"""Cards on the disk: written whole, and read as what they are."""

from __future__ import annotations

from pathlib import Path

from poolblend.cards.card import C, Card, DamagedError, read_json
from poolblend.store.files import write_text

__all__ = ["DamagedError", "read_card", "write_card"]


def write_card(path: Path, card: Card) -> None:
    """Write the card, whole or not at all."""
    write_text(path, card.to_json())


def read_card(path: Path, kind: type[C]) -> C | None:
    """The card of this kind in a file; None where there is no such file.

    Raises DamagedError where the file does not hold what was written; the caller says what to do.
    """
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return read_json(kind, text, str(path))
