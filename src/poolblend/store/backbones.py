"""A backbone that was trained on further: a folder like any backbone's, vouched for by its card."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from poolblend.store.cards import DamagedError, read_card, write_card
from poolblend.store.checkpoints import Checkpoints
from poolblend.store.files import described, flush, no_half_files, sha256
from poolblend.store.foldfiles import CARD, Pretrained
from poolblend.store.locks import FileLock

WEIGHTS = ".safetensors"


class BackboneFiles(NamedTuple):
    """Where a backbone's files are. Names that begin with a full stop are no backbone's."""

    name: str
    folder: Path

    @property
    def checkpoints(self) -> Checkpoints:
        """The last two of a backbone in training."""
        return Checkpoints(self.folder.parent / ".checkpoints" / self.name)

    def lock(self) -> FileLock:
        """Who holds it trains this backbone."""
        return FileLock(self.folder.with_name(f".{self.name}.lock"))

    def check(self) -> dict[str, Any] | None:
        """The card of a finished backbone once all hashes agree; None where there is none yet.

        Raises DamagedError for a card or a file that is not what was written, or came later.
        """
        path = self.folder / CARD
        try:
            card = read_card(path)
        except DamagedError as error:
            raise self._damaged(str(error)) from None
        if card is None:
            return None
        if card.get("backbone") != self.name or not _lists_files(card):
            raise self._damaged(f"{path} is damaged: it is not the card of this backbone")
        found = {name: sha256(self.folder / name) for name in self._names()}
        expected = {name: file.get("sha256") for name, file in card["files"].items()}
        for name in sorted(found.keys() | expected.keys()):
            if name not in found or name not in expected:
                state = "it is gone" if name in expected else "it was not written with its card"
                raise self._damaged(f"{self.folder / name} is damaged: {state}")
            if found[name] != expected[name]:
                raise self._damaged(
                    f"{self.folder / name} is damaged: its sha256 is not the one in its card"
                )
        return card

    def save(self, *, parts: Sequence[Pretrained], card: Mapping[str, Any]) -> None:
        """Write a finished backbone in place of what there may be; all of it, or nothing."""
        with no_half_files(self.folder) as new:
            new.mkdir(parents=True)
            for part in parts:
                part.save_pretrained(str(new))
            made = BackboneFiles(self.name, new)
            files = {name: described(new / name) for name in made._names()}
            write_card(new / CARD, {**card, "backbone": self.name, "files": files})
            flush(new)  # a disk that is full says so by now
            # The old card goes first: at no moment a card vouches for files that are not its own.
            (self.folder / CARD).unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _names(self) -> list[str]:
        """Of all files but the card, relative to the folder."""
        files = (file for file in self.folder.rglob("[!.]*") if file.is_file())
        return sorted({file.relative_to(self.folder).as_posix() for file in files} - {CARD})

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{what}; train backbone {self.name} again with --overwrite")


def _lists_files(card: Mapping[str, Any]) -> bool:
    files = card.get("files")
    return isinstance(files, dict) and all(isinstance(file, dict) for file in files.values())


def content_sha256(card: Mapping[str, Any]) -> tuple[str, str]:
    """Hashes of the weights, and of the other files, of the backbone that the card is of."""
    hashes = {name: file["sha256"] for name, file in sorted(card["files"].items())}
    weights = {name: digest for name, digest in hashes.items() if name.endswith(WEIGHTS)}
    others = {name: digest for name, digest in hashes.items() if name not in weights}
    return _together(weights), _together(others)


def _together(hashes: Mapping[str, str]) -> str:
    return hashlib.sha256("\n".join(f"{n} {h}" for n, h in hashes.items()).encode()).hexdigest()
