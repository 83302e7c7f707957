"""The files of one finished fold: model folder and OOF rows, all vouched for by the card in it."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from poolblend.errors import UserError
from poolblend.store.cards import DamagedError, read_card, write_card
from poolblend.store.files import described, flush, no_half_files, sha256

if TYPE_CHECKING:
    import pandas as pd
    import torch

WEIGHTS = "model.safetensors"
CARD, FAILED = "card.json", "failed.json"
OTHER_HASH = "its sha256 is not the one in its card"
IN_A_CARD = ("inputs", "weights", "oof", "files")


class Pretrained(Protocol):
    """What writes itself into a model folder: a tokenizer, an encoder's configuration."""

    def save_pretrained(self, folder: str) -> Any: ...


class FoldFiles(NamedTuple):
    """Where the files of a member's fold are."""

    member: str
    fold: int
    folder: Path
    oof_path: Path

    def card(self) -> dict[str, Any] | None:
        """The card of a finished fold; None where there is none yet.

        Raises DamagedError for a card that is not whole, or a file that is not as large as it says.
        """
        path = self.folder / CARD
        try:
            card = read_card(path)
        except DamagedError as error:
            raise self._damaged(str(error)) from None
        if card is None:
            return None
        if not _is_whole(card) or (card.get("member"), card.get("fold")) != self[:2]:
            raise self._damaged(f"{path} is damaged: it is not the card of this fold")
        for file, expected in self._vouched(card):
            size = file.stat().st_size if file.is_file() else None
            if size != expected["bytes"]:
                found = "it is gone" if size is None else f"it has {size} bytes"
                raise self._damaged(
                    f"{file} is damaged: {found}, its card says {expected['bytes']}"
                )
        return card

    def check(self, *, model: bool = True, oof: bool = True) -> dict[str, Any]:
        """The card of a finished fold, once the hashes of the model's and the OOF file agree.

        Raises UserError where there is none, DamagedError where a file is not what the card says.
        """
        card = self.card()
        if card is None:
            raise UserError(
                f"{self.member} fold {self.fold} is not finished (no {self.folder / CARD}); "
                "train it"
            )
        for file, expected in self._vouched(card):
            wanted = oof if file == self.oof_path else model
            if wanted and sha256(file) != expected["sha256"]:
                raise self._damaged(f"{file} is damaged: {OTHER_HASH}")
        return card

    def save(
        self,
        *,
        tensors: Mapping[str, torch.Tensor],
        parts: Sequence[Pretrained],
        oof: pd.DataFrame,
        card: Mapping[str, Any],
    ) -> None:
        """Write a finished fold: its OOF rows first, then the model folder, in one rename."""
        from safetensors.torch import save_file

        with no_half_files(self.folder) as new_folder:
            new_folder.mkdir(parents=True)
            save_file(dict(tensors), new_folder / WEIGHTS)
            for part in parts:
                part.save_pretrained(str(new_folder))
            with no_half_files(self.oof_path) as new_oof:
                oof.to_parquet(new_oof, index=False)
                hashes = {
                    "weights": described(new_folder / WEIGHTS),
                    "oof": described(new_oof),
                    # The tokenizer and the encoder's configuration decide as much as the weights.
                    "files": {
                        str(file.relative_to(new_folder)): described(file)
                        for file in sorted(new_folder.rglob("*"))
                        if file.is_file() and file.name != WEIGHTS
                    },
                }
                place = {"member": self.member, "fold": self.fold}
                write_card(new_folder / CARD, {**card, **place, **hashes})
                for new in (new_folder, new_oof):
                    flush(new)  # a disk that is full says so by now
                # What follows are renames. The old card goes first, so that at no moment a card
                # vouches for files that are not its own.
                (self.folder / CARD).unlink(missing_ok=True)
                shutil.rmtree(self.folder, ignore_errors=True)

    def mark_failed(self, told: Mapping[str, Any]) -> None:
        """Note in the fold's folder why it could not be trained; `save` replaces the folder."""
        write_card(self.folder / FAILED, {**told, "member": self.member, "fold": self.fold})

    def failure(self) -> dict[str, Any] | None:
        """What was noted; None where nothing was, or nothing that can be read."""
        try:
            told = read_card(self.folder / FAILED)
        except (DamagedError, OSError):
            return None
        whole = told is not None and (told.get("member"), told.get("fold")) == self[:2]
        return told if whole else None

    def tensors(self) -> dict[str, torch.Tensor]:
        """The fold model's weights on the CPU, once the hashes of all its files are checked."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self.check(oof=False)
        try:
            return load_file(self.folder / WEIGHTS)
        except SafetensorError as error:  # a whole file that never held weights
            raise self._damaged(f"{self.folder / WEIGHTS} is damaged: {error}") from None

    def oof(self) -> pd.DataFrame:
        """The fold's OOF rows (id, fold, pred_<output>…), after their hash has been checked."""
        import pandas as pd

        card = self.check(model=False, oof=False)
        content = self.oof_path.read_bytes()  # once: another process may replace the file
        if hashlib.sha256(content).hexdigest() != card["oof"]["sha256"]:
            raise self._damaged(f"{self.oof_path} is damaged: {OTHER_HASH}")
        try:
            return pd.read_parquet(io.BytesIO(content))
        except (OSError, ValueError) as error:  # a whole file that never held a table
            raise self._damaged(f"{self.oof_path} is damaged: {error}") from None

    def _vouched(self, card: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        """The files that a card vouches for, with what it says of each."""
        yield self.folder / WEIGHTS, card["weights"]
        yield from ((self.folder / name, expected) for name, expected in card["files"].items())
        yield self.oof_path, card["oof"]

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{what}; train {self.member} fold {self.fold} again with --overwrite")


def _is_whole(card: Mapping[str, Any]) -> bool:
    """Whether the card says all that is asked of it, of files within the fold's folder."""
    if not all(isinstance(card.get(key), dict) for key in IN_A_CARD):
        return False
    inside = all(
        len(name) < 256
        and name.isprintable()
        and ".." not in Path(name).parts
        and not Path(name).root
        for name in card["files"]
    )
    described = [card["weights"], card["oof"], *card["files"].values()]
    return inside and all(
        isinstance(each, dict) and type(each.get("bytes")) is int and "sha256" in each
        for each in described
    )
