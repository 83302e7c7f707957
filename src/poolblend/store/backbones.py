"""A backbone that was trained further: a folder like any backbone's, vouched for by its card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from poolblend.cards.backbone import BackboneCard
from poolblend.cards.card import DamagedError
from poolblend.cards.inputs import FileHash
from poolblend.store.cards import read_card, write_card
from poolblend.store.checkpoints import Checkpoints
from poolblend.store.foldfiles import CARD, OTHER_HASH, Pretrained, hashed_files, replaced_folder
from poolblend.store.locks import ProcessLock


class BackboneFiles(NamedTuple):
    """Where a backbone's files are. Names that begin with a full stop are no backbone's."""

    name: str
    folder: Path

    @property
    def checkpoints(self) -> Checkpoints:
        """The last two of a backbone in training."""
        return Checkpoints(self.folder.parent / ".checkpoints" / self.name)

    @property
    def lock(self) -> ProcessLock:
        """Whoever holds it trains this backbone."""
        return ProcessLock(self.folder.with_name(f".{self.name}.lock"))

    def card(self) -> BackboneCard | None:
        """The card of a finished backbone, None where there is none yet, or DamagedError."""
        path = self.folder / CARD
        try:
            card = read_card(path, BackboneCard)
        except DamagedError as error:
            raise self._damaged(str(error)) from None
        if card is not None and card.backbone != self.name:
            raise self._damaged(f"{path} is damaged: it is not the card of this backbone")
        return card

    def check(self) -> BackboneCard | None:
        """The card once all hashes agree; None where there is none yet.

        Raises DamagedError for a card or a file that is not what was written, or came later.
        """
        card = self.card()
        if card is not None:
            self._compare(hashed_files(self.folder), card.files)
        return card

    def _compare(self, found: Mapping[str, FileHash], expected: Mapping[str, FileHash]) -> None:
        for name in sorted(found.keys() | expected.keys()):
            if name not in found or name not in expected:
                state = "it is gone" if name in expected else "it was not written with its card"
                raise self._damaged(f"{self.folder / name} is damaged: {state}")
            if found[name].sha256 != expected[name].sha256:
                raise self._damaged(f"{self.folder / name} is damaged: {OTHER_HASH}")

    def save(
        self,
        *,
        parts: Sequence[Pretrained],
        make_card: Callable[[dict[str, FileHash]], BackboneCard],
    ) -> None:
        """Write a finished backbone in place of what there may be; all of it, or nothing."""
        with replaced_folder(self.folder) as new:
            for part in parts:
                part.save_pretrained(str(new))
            write_card(new / CARD, make_card(hashed_files(new)))

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{what}; train backbone {self.name} again with --overwrite")
