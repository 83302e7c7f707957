"""Files with their card beside them: submissions, test predictions, pooled vectors.

    submission.csv              submission.json
    test_fold0.parquet          test_fold0.json
    vectors_fold0.parquet       vectors_fold0.json

The card holds the sha256 of the file, and a seal of its own.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from poolblend.cards.card import Card, DamagedError
from poolblend.cards.inputs import FileHash
from poolblend.cards.predictions import Origin, PredictionsCard, TableName, What
from poolblend.cards.submission import SubmissionCard
from poolblend.store.cards import read_card, write_card
from poolblend.store.files import described, flush, no_half_files

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger(__name__)

AGAIN: dict[What, str] = {
    "predictions": "infer.py makes these predictions again",
    "vectors": "infer.py --vectors makes it again",
}

F = TypeVar("F", PredictionsCard, SubmissionCard)


def write_with_card(
    path: Path, write: Callable[[Path], Any], make_card: Callable[[FileHash], Card]
) -> None:
    """Write a file, and its card beside it. A file never lies beside the card of another file."""
    with no_half_files(path) as new:
        write(new)
        flush(new)
        with no_half_files(path.with_suffix(".json")) as new_card:
            write_card(new_card, make_card(describe(new)))
            flush(new_card)  # a disk that is full says so by now: what follows are renames
            path.unlink(missing_ok=True)


def read_with_card(path: Path, kind: type[F]) -> tuple[F, bytes]:
    """A file's card and bytes; DamagedError where there is no card, or it is of other bytes."""
    beside = path.with_suffix(".json")
    card = read_card(beside, kind)
    if card is None:
        raise DamagedError(f"{path} has no card {beside.name}")
    return card, read_bytes(path, card.file, beside.name)


def describe(path: Path) -> FileHash:
    return FileHash(**described(path))


def read_bytes(path: Path, expected: FileHash, card_name: str) -> bytes:
    """The file's bytes, read once: another process may replace it. Raises DamagedError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DamagedError(f"{path} is gone") from None
    if hashlib.sha256(content).hexdigest() != expected.sha256:
        raise DamagedError(f"{path} is damaged: its sha256 is not the one in {card_name}")
    return content


def to_frame(path: Path, content: bytes) -> pd.DataFrame:
    """The table in a parquet file's bytes; DamagedError where they never were a table."""
    import pandas as pd

    try:
        return pd.read_parquet(io.BytesIO(content))
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from None


class KeptFile(NamedTuple):
    """The file of what a member's fold model made of the rows of a table."""

    path: Path
    member: str
    fold: int
    table: TableName
    what: What

    def keep(self, table: pd.DataFrame | pa.Table, hashes: Mapping[str, str]) -> None:
        """Write the table, and its card with the hashes of what it was made from."""
        import pandas as pd
        from pyarrow import parquet

        write = (
            partial(table.to_parquet, index=False)
            if isinstance(table, pd.DataFrame)
            else partial(parquet.write_table, table, use_dictionary=False)
        )
        origin = self.origin(hashes)
        write_with_card(self.path, write, lambda file: PredictionsCard(origin=origin, file=file))

    def load(self, hashes: Mapping[str, str]) -> pd.DataFrame | None:
        """The table that is kept, if it is whole and was made from just this; else None."""
        if not self.path.is_file():
            return None
        try:
            card, frame = self.check()
        except DamagedError as error:
            log.warning("%s", error)
            return None
        return frame if card.origin == self.origin(hashes) else None

    def check(self) -> tuple[PredictionsCard, pd.DataFrame]:
        """The card and the table, whatever they were made from; DamagedError if not whole."""
        with suppress(DamagedError):
            card, content = read_with_card(self.path, PredictionsCard)
            if card.origin == self.origin(card.origin.hashes):  # else of another fold or member
                return card, to_frame(self.path, content)
        raise DamagedError(f"{self.path} is damaged; {AGAIN[self.what]}")

    def origin(self, hashes: Mapping[str, str]) -> Origin:
        return Origin(
            member=self.member,
            fold=self.fold,
            table=self.table,
            what=self.what,
            hashes=dict(hashes),
        )
