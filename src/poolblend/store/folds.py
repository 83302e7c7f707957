"""The frozen folds: a table of id and fold, and a card that says how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from poolblend.errors import UserError
from poolblend.store.cards import DamagedError, read_raw, write_raw
from poolblend.store.files import no_half_files, sha256

if TYPE_CHECKING:
    import pandas as pd

RESTORE = "restore it, or move it and the models trained on it away to make new folds"


class Folds(NamedTuple):
    """Columns id (str) and fold (int); how they were made, None for a file that others made."""

    table: pd.DataFrame
    made: dict[str, Any] | None


def read_folds(path: Path) -> Folds | None:
    """The folds at `path`, or None where they have not been made yet.

    Raises UserError for a file that is no table of folds, or not the one that was made there.
    """
    import pandas as pd

    if not path.is_file():
        return None
    made = _read_made(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table = table[["id", "fold"]].astype({"fold": "int64"})
    except (ValueError, KeyError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a table of id, fold ({reason}); {RESTORE}") from None
    return Folds(table, made)


def write_folds(path: Path, table: pd.DataFrame, made: Mapping[str, Any]) -> None:
    """Write the card first: folds without one count as their user's own."""
    with no_half_files(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
        write_raw(card_path(path), {**made, "folds_sha256": sha256(temporary)})


def card_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_made(path: Path) -> dict[str, Any] | None:
    card = card_path(path)
    try:
        made = read_raw(card)
    except DamagedError as error:
        raise DamagedError(
            f"{error}; restore it, or delete it to take {path.name} as it is"
        ) from None
    if made is not None and made.get("folds_sha256") != sha256(path):
        raise DamagedError(
            f"{path} is not the file that was made there: its sha256 is not the one in "
            f"{card.name}; {RESTORE}, or delete {card.name} to take the file as your own folds"
        )
    return made
