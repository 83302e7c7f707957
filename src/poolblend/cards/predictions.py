"""The card of stored predictions or pooled vectors: the inputs that they were made from."""

from __future__ import annotations

from typing import Literal

from poolblend.cards.card import Card
from poolblend.cards.fold_names import fold_name
from poolblend.cards.inputs import FileHash, Inputs

# "new": rows of no table of the competition, whose predictions are not stored.
TableName = Literal["train", "test", "new"]
What = Literal["predictions", "vectors"]


class Origin(Inputs):
    """The fold model, the table and the kind of result: all that decides the numbers.

    `hashes` are the sha256 of the model's weights and of the files of the rows. Predictions of the
    train table are those of the fold's own rows.
    """

    member: str
    fold: int
    table: TableName
    what: What
    hashes: dict[str, str]

    def __str__(self) -> str:
        table = f", {self.table}" if self.what == "vectors" else ""
        return f"{self.member} {fold_name(self.fold)}{table}"

    @property
    def place(self) -> tuple[str, int]:
        """The member's name and the fold."""
        return self.member, self.fold


class PredictionsCard(Card):
    """The card beside a parquet file of predictions or vectors."""

    origin: Origin
    file: FileHash
