"""Files with their card beside them: submissions, test predictions, pooled vectors.

    submission.csv              submission.json
    test_fold0.parquet          test_fold0.json
    vectors_fold0.parquet       vectors_fold0.json

The card holds the sha256 of the file, and one of itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from poolblend.cards.card import C, Card, DamagedError
from poolblend.cards.inputs import FileHash
from poolblend.cards.predictions import Origin, PredictionsCard, TableName, What
from poolblend.store.cards import read_card, write_card
from poolblend.store.files import flush, hash_file, no_half_files, read_parquet
from poolblend.store.locks import ProcessLock

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger(__name__)

AGAIN: dict[What, str] = {
    "predictions": "infer.py makes these predictions again",
    "vectors": "infer.py --vectors makes it again",
}


def write_with_card(
    path: Path, write: Callable[[Path], Any], make_card: Callable[[FileHash], Card]
) -> None:
    """Write a file and its card; a file never stands beside the card of another file."""
    with no_half_files(path) as new:
        write(new)
        flush(new)
        with no_half_files(path.with_suffix(".json")) as new_card:
            write_card(new_card, make_card(hash_file(new)))
            path.unlink(missing_ok=True)  # a full disk has raised its error by now


def read_card_of(path: Path, kind: type[C]) -> C:
    """The card beside a file; DamagedError if it is missing or damaged."""
    beside = path.with_suffix(".json")
    card = read_card(beside, kind)
    if card is None:
        raise DamagedError(f"{path} has no card {beside.name}")
    return card


class KeptFile(NamedTuple):
    """The file of a fold model's predictions or vectors of the rows of a table."""

    path: Path
    member: str
    fold: int
    table: TableName
    what: What

    @property
    def lock(self) -> ProcessLock:
        """The lock that the process holds that makes the file."""
        return ProcessLock(self.path.with_name(f".{self.path.stem}.lock"))

    def keep(self, table: pd.DataFrame | pa.Table, hashes: Mapping[str, str]) -> None:
        """Write the table and its card; `hashes` are those of the files it was made from."""
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
        """The stored table, if it is not damaged and was made from these hashes; else None."""
        if not self.path.is_file():
            return None
        try:
            card, frame = self.check()
        except DamagedError as error:
            log.warning("%s", error)
            return None
        return frame if card.origin == self.origin(hashes) else None

    def check(self) -> tuple[PredictionsCard, pd.DataFrame]:
        """The card and the table, without a check of their inputs; DamagedError if damaged."""
        with suppress(DamagedError):
            card = read_card_of(self.path, PredictionsCard)
            if card.origin == self.origin(card.origin.hashes):  # else of another fold or member
                return card, read_parquet(self.path, card.file, "its card")
        raise DamagedError(f"{self.path} is damaged; {AGAIN[self.what]}")

    def origin(self, hashes: Mapping[str, str]) -> Origin:
        return Origin(
            member=self.member,
            fold=self.fold,
            table=self.table,
            what=self.what,
            hashes=dict(hashes),
        )
