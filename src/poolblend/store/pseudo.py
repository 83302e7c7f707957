"""Pseudo-labels of the test rows; those for a fold come from models and weights without that fold.

fold0.parquet     id, pred_<output>…: for the training of fold 0
card.json         the `PseudoCard`
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from poolblend.cards.card import DamagedError
from poolblend.cards.pseudo import PseudoCard, PseudoFold
from poolblend.errors import UserError
from poolblend.store.cards import read_card, write_card
from poolblend.store.files import hash_file, no_half_files, read_parquet

if TYPE_CHECKING:
    import pandas as pd

CARD = "card.json"
AGAIN = "make new ones with infer.py --pseudo-labels"


class PseudoFiles(NamedTuple):
    """The pseudo-labels `name` in their folder."""

    name: str
    folder: Path

    def path(self, fold: int) -> Path:
        return self.folder / f"fold{fold}.parquet"

    def save(self, tables: Sequence[pd.DataFrame], card: PseudoCard) -> bool:
        """Write a file for each fold, and the card, in one rename; False if they exist already.

        Raises UserError if other labels exist, as a training may have used them.
        """
        if self.folder.exists():
            if self._holds(tables, card):
                return False
            raise UserError(
                f"pseudo-labels {self.name} exist already, made in another way ({self.folder}), "
                "and never change; choose another name"
            )
        with no_half_files(self.folder) as new:
            new.mkdir(parents=True)
            paths = [new / self.path(fold).name for fold in range(len(tables))]
            for path, table in zip(paths, tables, strict=True):
                table.to_parquet(path, index=False)
            files = tuple(map(hash_file, paths))
            write_card(new / CARD, card.model_copy(update={"files": files}))
        return True

    def card(self) -> PseudoCard:
        """The card; DamagedError if it is missing or damaged."""
        with self._advice():
            card = read_card(self.folder / CARD, PseudoCard)
            if card is None:
                raise DamagedError(f"{self.folder} holds no {CARD}")
            return card

    def labels_sha256(self) -> str:
        """One hash for the labels of all folds, from the card."""
        hashes = [file.sha256 for file in self.card().files]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    def check(self) -> None:
        """Raise DamagedError unless the hashes of all files are those in the card."""
        card = self.card()
        for fold in range(len(card.folds)):
            self._table(fold, card)

    def read(self, fold: int, *, data: Mapping[str, str], task: object) -> pd.DataFrame:
        """The labels (id, pred_<output>…) for the training of `fold`, after checking their origin.

        `data` are the hashes of the competition's tables and folds. Raises UserError for labels of
        another competition, other folds or another test table, and for labels made by models or
        weights that may have seen this fold's rows; DamagedError for a damaged file.
        """
        card = self.card()
        if card.train_sha256 != data["train_sha256"] or card.task != task:
            what = "task" if card.train_sha256 == data["train_sha256"] else "train table"
            raise UserError(
                f"pseudo-labels {self.name} come from another competition: they were made with "
                f"another {what}; {AGAIN}"
            )
        if card.folds_sha256 != data["folds_sha256"] or fold >= len(card.folds):
            raise UserError(
                f"pseudo-labels {self.name} were made with other folds, so that their models have "
                f"seen rows of fold {fold}; {AGAIN}"
            )
        self._check_unseen(fold, card.folds[fold])
        labels = self._table(fold, card)
        if any(getattr(card, key) != data.get(key) for key in ("test_sha256", "test_joins_sha256")):
            raise UserError(
                f"pseudo-labels {self.name} were made for another test table; make new ones under "
                "another name (infer.py --pseudo-labels NAME)"
            )
        return labels

    def _check_unseen(self, fold: int, made: PseudoFold) -> None:
        """Refuse labels that were made with the help of this fold's labels."""
        for name, member in made.members.items():
            if member.fold != fold:
                raise UserError(
                    f"pseudo-labels {self.name} for fold {fold} were made by the fold "
                    f"{member.fold} model of {name}, which was trained on fold {fold}'s labels; "
                    f"{AGAIN}"
                )
        if made.fold != fold or made.without != fold:
            raise UserError(
                f"pseudo-labels {self.name} for fold {fold} were blended by weights that have seen "
                f"fold {fold}'s labels; {AGAIN}"
            )

    def _table(self, fold: int, card: PseudoCard) -> pd.DataFrame:
        with self._advice():
            path = self.path(fold)
            return read_parquet(path, card.files[fold], CARD)

    def _holds(self, tables: Sequence[pd.DataFrame], card: PseudoCard) -> bool:
        """Whether the same labels exist already: the same origin and the same values."""
        kept = self.card()
        return kept.same_labels(card) and all(
            self._table(fold, kept).equals(table) for fold, table in enumerate(tables)
        )

    @contextmanager
    def _advice(self) -> Iterator[None]:
        """Add to the messages of damage what to do."""
        try:
            yield
        except DamagedError as error:
            raise DamagedError(
                f"{error}; restore it, or delete {self.folder} and run infer.py --pseudo-labels "
                f"{self.name} again"
            ) from None
