"""Write and read the files of cards."""

from __future__ import annotations

from pathlib import Path

from poolblend.cards.card import C, Card, DamagedError, read_json
from poolblend.store.files import write_text

__all__ = ["DamagedError", "read_card", "write_card"]


def write_card(path: Path, card: Card) -> None:
    """Write the card, completely or not at all."""
    write_text(path, card.to_json())


def read_card(path: Path, kind: type[C]) -> C | None:
    """The card of this kind in a file; None if the file does not exist.

    Raises DamagedError if the file is damaged; the caller adds what to do.
    """
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return read_json(kind, text, str(path))
