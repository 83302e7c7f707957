"""Pseudo-labels of the test rows, for each fold those of models and weights that never saw it.

fold0.parquet     id, pred_<output>…: for the training of fold 0
card.json         the competition, and of each fold the models, their weights, the file's hash
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from poolblend.errors import UserError
from poolblend.store.cards import DamagedError, read_raw, write_raw
from poolblend.store.files import described, no_half_files, sha256

if TYPE_CHECKING:
    import pandas as pd

CARD = "card.json"
OF_COMPETITION = ("train_sha256", "folds_sha256", "test_sha256", "task")
OF_FOLD = ("fold", "without", "members", "mixture")


class PseudoFiles(NamedTuple):
    """The pseudo-labels `name` in their folder."""

    name: str
    folder: Path

    def path(self, fold: int) -> Path:
        return self.folder / f"fold{fold}.parquet"

    def save(self, tables: Sequence[pd.DataFrame], card: Mapping[str, Any]) -> bool:
        """Write a file for each fold, and the card, in one rename; False where they are there.

        `card` holds the keys of `OF_COMPETITION`, and under "folds" those of `OF_FOLD` for each.
        Raises UserError where other labels are there: a training may have used them.
        """
        if self.folder.exists():
            if self._holds(tables, card):
                return False
            raise UserError(
                f"pseudo-labels {self.name} are there already, made otherwise ({self.folder}), and "
                "never change; choose another name"
            )
        with no_half_files(self.folder) as new:
            new.mkdir(parents=True)
            folds = []
            for fold, table in enumerate(tables):
                file = new / self.path(fold).name
                table.to_parquet(file, index=False)
                folds.append({**card["folds"][fold], **described(file)})
            write_raw(new / CARD, {**card, "folds": folds})
        return True

    def card(self) -> dict[str, Any]:
        """The card; DamagedError where it is not the one that was written."""
        try:
            card = read_raw(self.folder / CARD)
        except DamagedError as error:
            raise self._damaged(str(error)) from None
        if card is None:
            raise self._damaged(f"{self.folder} holds no {CARD}")
        if not _is_whole(card):
            raise self._damaged(f"{self.folder / CARD} is damaged: it is no card of pseudo-labels")
        return card

    def labels_sha256(self) -> str:
        """One hash for the labels of all folds, as the card says them."""
        hashes = [fold["sha256"] for fold in self.card()["folds"]]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    def check(self) -> None:
        """Raise DamagedError unless every file is what the card says."""
        for fold, told in enumerate(self.card()["folds"]):
            file = self.path(fold)
            if not file.is_file():
                raise self._damaged(f"{file} is gone")
            if sha256(file) != told["sha256"]:
                raise self._damaged(f"{file} is damaged: its sha256 is not the one in {CARD}")

    def read(
        self, fold: int, *, train_sha256: str, folds_sha256: str, task: Mapping[str, Any]
    ) -> pd.DataFrame:
        """The labels (id, pred_<output>…) for the training of `fold`, once all about them is right.

        `attrs` hold `test_sha256`, of the table whose rows they label. Raises UserError for labels
        of another competition or other folds, and for labels that a model or weights made which
        may have seen this fold's rows; DamagedError for a file that is not what the card says.
        """
        card = self.card()
        if card["train_sha256"] != train_sha256 or card["task"] != dict(task):
            what = "task" if card["train_sha256"] == train_sha256 else "train table"
            raise UserError(
                f"pseudo-labels {self.name} come from another competition: they were made with "
                f"another {what}; make new ones with infer.py --pseudo-labels"
            )
        if card["folds_sha256"] != folds_sha256 or fold >= len(card["folds"]):
            raise UserError(
                f"pseudo-labels {self.name} were made with other folds, so that their models have "
                f"seen rows of fold {fold}; make new ones with infer.py --pseudo-labels"
            )
        told = card["folds"][fold]
        self._check_provenance(fold, told)
        labels = self._table(fold, told["sha256"])
        tests = ("test_sha256", "test_joins_sha256")
        labels.attrs = {key: card[key] for key in tests if key in card}
        return labels

    def _check_provenance(self, fold: int, told: Mapping[str, Any]) -> None:
        """Refuse labels of which anything may have learned this fold's labels."""
        for member, made in told["members"].items():
            if made["fold"] != fold:
                raise UserError(
                    f"pseudo-labels {self.name} for fold {fold} were made by the fold "
                    f"{made['fold']} model of {member}, which has learned fold {fold}'s labels; "
                    "make new ones with infer.py --pseudo-labels"
                )
        if told["fold"] != fold or told["without"] != fold:
            raise UserError(
                f"pseudo-labels {self.name} for fold {fold} were blended by weights that have seen "
                f"fold {fold}'s labels; make new ones with infer.py --pseudo-labels"
            )

    def _table(self, fold: int, expected: str) -> pd.DataFrame:
        import pandas as pd

        file = self.path(fold)
        try:
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != expected:
                raise self._damaged(f"{file} is damaged: its sha256 is not the one in {CARD}")
            return pd.read_parquet(io.BytesIO(content))
        except FileNotFoundError:
            raise self._damaged(f"{file} is gone") from None
        except (OSError, ValueError) as error:  # a whole file that never held a table
            raise self._damaged(f"{file} is damaged: {error}") from None

    def _holds(self, tables: Sequence[pd.DataFrame], card: Mapping[str, Any]) -> bool:
        """Whether just this is kept already: the same origin, and the same values."""
        kept = self.card()
        same = all(kept[key] == card[key] for key in OF_COMPETITION)
        same &= [_only(fold) for fold in kept["folds"]] == [_only(fold) for fold in card["folds"]]
        return same and all(
            self._table(fold, kept["folds"][fold]["sha256"]).equals(table)
            for fold, table in enumerate(tables)
        )

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(
            f"{what}; restore it, or delete {self.folder} and run infer.py --pseudo-labels "
            f"{self.name} again"
        )


def _only(fold: Mapping[str, Any]) -> dict[str, Any]:
    return {key: fold[key] for key in OF_FOLD}


def _is_whole(card: Mapping[str, Any]) -> bool:
    """Whether the card says all that is asked of it."""
    folds = card.get("folds")
    return (
        all(key in card for key in OF_COMPETITION)
        and isinstance(folds, list)
        and all(_is_whole_fold(fold) for fold in folds)
    )


def _is_whole_fold(fold: Any) -> bool:
    if not isinstance(fold, dict) or not all(key in fold for key in (*OF_FOLD, "sha256")):
        return False
    members = fold["members"]
    return (
        isinstance(fold["sha256"], str)
        and isinstance(members, dict)
        and all(isinstance(made, dict) and "fold" in made for made in members.values())
    )
