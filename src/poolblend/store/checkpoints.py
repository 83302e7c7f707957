"""The last two checkpoints of a training; they are removed when the training has finished.

step-00000120/state.safetensors     all tensors: weights, optimizer moments, random generators
step-00000120/card.json             everything else, and the hash of the tensors; written last
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from poolblend.cards.card import DamagedError
from poolblend.cards.checkpoint import CheckpointCard
from poolblend.cards.inputs import FileHash
from poolblend.store.cards import read_card, write_card
from poolblend.store.files import hash_file, no_half_files, sha256

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

STATE, CARD = "state.safetensors", "card.json"
KEPT = 2


class Checkpoint(NamedTuple):
    """The folder of a checkpoint that is not damaged, and its card."""

    folder: Path
    card: CheckpointCard

    def tensors(self) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        return load_file(self.folder / STATE)


class Checkpoints:
    """The checkpoints in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self,
        step: int,
        tensors: Mapping[str, torch.Tensor],
        make_card: Callable[[str, FileHash], CheckpointCard],
    ) -> None:
        """Write the checkpoint of a step, then remove all but the last two.

        `make_card` gets the checkpoint's place and the hash of the tensors' file.
        """
        from safetensors.torch import save_file

        folder = self.folder / f"step-{step:08d}"
        with no_half_files(folder) as new:
            new.mkdir(parents=True)
            contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, new / STATE)
            write_card(new / CARD, make_card(_place(folder), hash_file(new / STATE)))
            _remove(folder)  # an older checkpoint of the same step
        for old in self.folders()[:-KEPT]:
            _remove(old)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is not damaged; damaged ones are named in the log."""
        for folder in reversed(self.folders()):
            try:
                card = check(folder)
            except DamagedError as error:
                log.warning("%s; an older checkpoint is used, if there is one", error)
                continue
            if card is not None:
                return Checkpoint(folder, card)
        return None

    def drop(self) -> None:
        """Remove all checkpoints and their folders."""
        for folder in self.folders():
            _remove(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # it still holds checkpoints of other folds
            self.folder.parent.rmdir()

    def __len__(self) -> int:
        return len(self.folders())

    def folders(self) -> list[Path]:
        """The folders of all checkpoints, also damaged ones, the oldest first."""
        return sorted(self.folder.glob("step-*"))


def check(folder: Path) -> CheckpointCard | None:
    """The card of the checkpoint in `folder`; None if it was partly removed; DamagedError."""
    card = read_card(folder / CARD, CheckpointCard)
    if card is None:
        return None
    state = folder / STATE
    try:
        whole = sha256(state) == card.state.sha256
    except OSError:
        whole = False
    if not whole:
        raise DamagedError(f"{state} is damaged: its sha256 is not the one in its card")
    if card.place != _place(folder):
        raise DamagedError(f"{folder} is damaged: it is a checkpoint of another fold or step")
    return card


def _place(folder: Path) -> str:
    """<member>/checkpoints/<fold>/<step>: a checkpoint of another fold would leak its rows."""
    return "/".join(folder.parts[-4:])


def _remove(folder: Path) -> None:
    """Remove a checkpoint, its card first: without a card it is not a checkpoint."""
    with suppress(OSError):
        (folder / CARD).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
