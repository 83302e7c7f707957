"""The frozen folds: a table of id and fold, and a card with the settings that made it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from poolblend.cards.card import DamagedError, read_json
from poolblend.cards.folds import FoldsCard, FoldSettings
from poolblend.errors import UserError
from poolblend.store.files import no_half_files, sha256, write_text

if TYPE_CHECKING:
    import pandas as pd

RESTORE = "restore it; or, to make new folds, move it and the models trained on it away"


class Folds(NamedTuple):
    """Columns id (str) and fold (int); the card is None for a file that the user made."""

    table: pd.DataFrame
    card: FoldsCard | None


def read_folds(path: Path) -> Folds | None:
    """The folds at `path`; None if they have not been made yet.

    Raises UserError for a file that is not a table of folds, or differs from its card.
    """
    import pandas as pd

    if not path.is_file():
        return None
    card = _read_card(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table = table[["id", "fold"]].astype({"fold": "int64"})
    except (ValueError, KeyError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a table of id, fold ({reason}); {RESTORE}") from None
    return Folds(table, card)


def write_folds(path: Path, table: pd.DataFrame, settings: FoldSettings | None) -> None:
    """Write the card, then the folds: folds without a card would count as made by the user."""
    with no_half_files(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
        card = FoldsCard(settings=settings, folds_sha256=sha256(temporary))
        write_text(card_path(path), card.to_json())


def card_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_card(path: Path) -> FoldsCard | None:
    file = card_path(path)
    try:
        card = read_json(FoldsCard, file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError:
        return None
    except (DamagedError, UnicodeDecodeError, OSError) as error:
        message = str(error) if isinstance(error, DamagedError) else f"{file} is damaged: {error}"
        raise DamagedError(
            f"{message}; restore it, or delete it to use {path.name} as it is"
        ) from None
    if card.folds_sha256 != sha256(path):
        raise DamagedError(
            f"{path} is not the file that was made there: its sha256 is not the one in "
            f"{file.name}; {RESTORE}, or delete {file.name} to use the file as your own folds"
        )
    return card
