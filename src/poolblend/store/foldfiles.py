"""The files of one fold: model folder, OOF rows, a card with their hashes, and checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from poolblend.cards.card import DamagedError
from poolblend.cards.fold import FailureNote, FoldBase, FoldCard, FoldFileHashes
from poolblend.cards.fold_names import fold_name
from poolblend.cards.inputs import FileHash
from poolblend.errors import UserError
from poolblend.store.cards import read_card, write_card
from poolblend.store.checkpoints import Checkpoints
from poolblend.store.files import flush, hash_file, no_half_files, read_parquet, sha256
from poolblend.store.locks import ProcessLock

if TYPE_CHECKING:
    import pandas as pd
    import torch

WEIGHTS = "model.safetensors"
ENCODER = "encoder."  # before the names of a fold model's tensors that its backbone has, too
CARD, FAILED = "card.json", "failed.json"
OTHER_HASH = "its sha256 is not the one in its card"


class Pretrained(Protocol):
    """A tokenizer or an encoder's configuration, which writes its own files."""

    def save_pretrained(self, folder: str) -> Any: ...


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A new folder that replaces `folder` after the block.

    The old card is removed before the rename, so that no card ever stands beside other files.
    """
    with no_half_files(folder) as new:
        new.mkdir(parents=True)
        yield new
        flush(new)  # a full disk raises its error here
        (folder / CARD).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


class FoldFiles(NamedTuple):
    """The files of a member's fold; `folder` holds the model."""

    member: str
    fold: int
    folder: Path
    oof_path: Path

    @property
    def checkpoints(self) -> Checkpoints:
        """The last two checkpoints of its training."""
        return Checkpoints(self.folder.parent / "checkpoints" / self.folder.name)

    @property
    def lock(self) -> ProcessLock:
        """The lock that the training process holds."""
        return ProcessLock(self.folder.with_name(f".{self.folder.name}.lock"))

    def card(self) -> FoldCard | None:
        """The card of a finished fold; None if it is not finished.

        Raises DamagedError for a damaged card, or a file whose size is not the one in the card.
        """
        path = self.folder / CARD
        try:
            card = read_card(path, FoldCard)
        except DamagedError as error:
            raise self._damaged(str(error)) from None
        if card is None:
            return None
        if card.place != (self.member, self.fold):
            raise self._damaged(f"{path} is damaged: it is not the card of this fold")
        for file, expected in self.files(card):
            size = file.stat().st_size if file.is_file() else None
            if size != expected.bytes:
                found = "it is gone" if size is None else f"it has {size} bytes"
                raise self._damaged(
                    f"{file} is damaged: {found}, its card says {expected.bytes}", file
                )
        return card

    def check(self, *, model: bool = True, base: bool = True, oof: bool = True) -> FoldCard:
        """The card of a finished fold, after comparing the hashes of its files.

        Raises UserError if the fold is not finished, DamagedError for a hash that differs.
        """
        card = self.card()
        if card is None:
            raise UserError(
                f"{self.member} {fold_name(self.fold)} is not finished (no {self.folder / CARD}); "
                "train it"
            )
        for file, expected in self.files(card):
            wanted = model if file.is_relative_to(self.folder) else base
            wanted = oof if file == self.oof_path else wanted
            if wanted and sha256(file) != expected.sha256:
                raise self._damaged(f"{file} is damaged: {OTHER_HASH}", file)
        return card

    def save(
        self,
        *,
        tensors: Mapping[str, torch.Tensor],
        parts: Sequence[Pretrained],
        oof: pd.DataFrame,
        make_card: Callable[[FoldFileHashes], FoldCard],
        base: FoldBase | None = None,
    ) -> None:
        """Write a finished fold: its OOF rows first, then the model folder with the card.

        Tensors that the `base` holds in the same bits are left out. `make_card` gets the hashes of
        the files.
        """
        from safetensors.torch import save_file

        own = dict(tensors) if base is None else self._own(tensors, base)
        if len(own) == len(tensors):
            base = None
        with replaced_folder(self.folder) as new:
            save_file(own, new / WEIGHTS)
            for part in parts:
                part.save_pretrained(str(new))
            with no_half_files(self.oof_path) as new_oof:
                oof.to_parquet(new_oof, index=False)
                others = hashed_files(new)
                weights = others.pop(WEIGHTS)
                hashes = FoldFileHashes(
                    weights=weights, oof=hash_file(new_oof), others=others, base=base
                )
                write_card(new / CARD, make_card(hashes))
                for written in (new, new_oof):
                    flush(written)  # a full disk raises its error before old files are removed
                (self.folder / CARD).unlink(missing_ok=True)  # before its OOF rows are replaced

    def mark_failed(self, note: FailureNote) -> None:
        """Write down why the fold could not be trained, until `save` replaces the folder."""
        write_card(self.folder / FAILED, note)

    def failure(self) -> FailureNote | None:
        """The note of `mark_failed`; None if there is none, or it cannot be read."""
        try:
            note = read_card(self.folder / FAILED, FailureNote)
        except (DamagedError, OSError):
            return None
        own = note is not None and (note.member, note.fold) == (self.member, self.fold)
        return note if own else None

    def tensors(self) -> dict[str, torch.Tensor]:
        """The fold's own tensors on the CPU, after checking the hashes of its model's files.

        Where its card names a base, these are not all: `base_tensors` has the others.
        """
        self.check(base=False, oof=False)
        return self._load(self.folder / WEIGHTS)

    def base_tensors(self, base: FoldBase) -> dict[str, torch.Tensor]:
        """The tensors of the fold's base, named as the fold model's; DamagedError for others."""
        path = self.base_path(base)
        if path.is_file() and sha256(path) != base.weights.sha256:
            raise self._damaged(f"{path} is damaged: {OTHER_HASH}", path)
        return self._of_base(base)

    def oof(self) -> pd.DataFrame:
        """The fold's OOF rows (id, fold, pred_<output>…), after checking their hash."""
        card = self.check(model=False, base=False, oof=False)
        try:
            return read_parquet(self.oof_path, card.files.oof, "its card")
        except DamagedError as error:
            raise self._damaged(str(error)) from None

    def files(self, card: FoldCard) -> Iterator[tuple[Path, FileHash]]:
        """The fold's files, each with its hash in the card."""
        base = card.files.base
        if base is not None:
            yield self.base_path(base), base.weights
        yield self.folder / WEIGHTS, card.files.weights
        yield from ((self.folder / name, file) for name, file in card.files.others.items())
        yield self.oof_path, card.files.oof

    def base_path(self, base: FoldBase) -> Path:
        """The weights that the fold's own leave out."""
        return self.folder.parents[1] / base.folder / WEIGHTS

    def _own(self, tensors: Mapping[str, torch.Tensor], base: FoldBase) -> dict[str, torch.Tensor]:
        # Not hashed: each tensor left out is compared with the file's.
        kept = self._of_base(base)
        return {
            name: tensor
            for name, tensor in tensors.items()
            if name not in kept or not same_bits(tensor, kept[name])
        }

    def _of_base(self, base: FoldBase) -> dict[str, torch.Tensor]:
        path = self.base_path(base)
        if not path.is_file():
            raise self._damaged(f"{path} is gone", path)
        return {f"{ENCODER}{name}": tensor for name, tensor in self._load(path).items()}

    def _load(self, path: Path) -> dict[str, torch.Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:  # the hash is right, but it holds no weights
            raise self._damaged(f"{path} is damaged: {error}", path) from None

    def _damaged(self, what: str, file: Path | None = None) -> DamagedError:
        name = f"{self.member} {fold_name(self.fold)}"
        if file is None or file == self.oof_path or file.is_relative_to(self.folder):
            return DamagedError(f"{what}; train {name} again with --overwrite")
        return DamagedError(
            f"{what}; it holds the frozen part of {name}: copy the folder {file.parent} there "
            "again, or train again with --overwrite"
        )


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have the same type, shape and bytes (-0 is not 0, a NaN is itself)."""
    import torch

    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    a, b = (x.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for x in (one, other))
    return torch.equal(a, b)


def hashed_files(folder: Path) -> dict[str, FileHash]:
    """Hashes of the folder's files except hidden ones and the card, by path in the folder."""
    files = (file for file in sorted(folder.rglob("[!.]*")) if file.is_file())
    named = {file.relative_to(folder).as_posix(): file for file in files}
    return {name: hash_file(file) for name, file in named.items() if name != CARD}
