"""The files of a stored backbone: a folder that any model can load, with a card of hashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from poolblend.cards.backbone import BackboneCard, BaseCard, StoredBackbone
from poolblend.cards.card import DamagedError
from poolblend.cards.fold import FoldBase
from poolblend.cards.inputs import FileHash
from poolblend.store.cards import read_card, write_card
from poolblend.store.checkpoints import Checkpoints
from poolblend.store.foldfiles import (
    CARD,
    OTHER_HASH,
    WEIGHTS,
    Pretrained,
    hashed_files,
    replaced_folder,
)
from poolblend.store.locks import ProcessLock

S = TypeVar("S", bound=StoredBackbone)


@dataclass(frozen=True)
class BackboneFiles(Generic[S]):
    """The files of a backbone after pretraining, or of a copy."""

    name: str
    folder: Path
    kind: type[S]

    @property
    def checkpoints(self) -> Checkpoints:
        """The last two checkpoints of its training."""
        return Checkpoints(self.folder.parent / ".checkpoints" / self.name)

    @property
    def lock(self) -> ProcessLock:
        """The lock that the training process holds."""
        return ProcessLock(self.folder.with_name(f".{self.name}.lock"))

    def card(self) -> S | None:
        """The card of a finished backbone; None if it is not finished; DamagedError if damaged."""
        path = self.folder / CARD
        try:
            card = read_card(path, self.kind)
        except DamagedError as error:
            raise self._damaged(str(error)) from None
        if card is not None and card.backbone != self.name:
            raise self._damaged(f"{path} is damaged: it is not the card of this backbone")
        return card

    def check(self) -> S | None:
        """The card after comparing the hashes of all files; None if it is not finished.

        Raises DamagedError for a file that was changed, removed or added.
        """
        card = self.card()
        if card is None:
            return None
        found, expected = hashed_files(self.folder), card.files
        for name in sorted(found.keys() | expected.keys()):
            if name not in found or name not in expected:
                state = "it is gone" if name in expected else "it was not written with its card"
                raise self._damaged(f"{self.folder / name} is damaged: {state}")
            if found[name].sha256 != expected[name].sha256:
                raise self._damaged(f"{self.folder / name} is damaged: {OTHER_HASH}")
        return card

    def save(
        self,
        *,
        parts: Sequence[Pretrained],
        make_card: Callable[[dict[str, FileHash]], S],
    ) -> None:
        """Write a finished backbone, completely or not at all; an old one is replaced."""
        with replaced_folder(self.folder) as new:
            for part in parts:
                part.save_pretrained(str(new))
            write_card(new / CARD, make_card(hashed_files(new)))

    def as_base(self) -> FoldBase | None:
        """What a fold's card is to say of it; None where it does not exist as one file."""
        card = self.card()
        weights = None if card is None else card.files.get(WEIGHTS)
        folder = f"{self.folder.parent.name}/{self.folder.name}"
        return None if weights is None else FoldBase(folder=folder, weights=weights)

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{what}; {self.kind.again.format(name=self.name)}")


Trained = BackboneFiles[BackboneCard]
Copied = BackboneFiles[BaseCard]
