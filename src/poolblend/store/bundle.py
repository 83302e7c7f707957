"""A bundle: the files of a blend's fold models in a folder of their own, to be used elsewhere.

    dataset/poolblend-bundle.json        its card: what it holds, and what the notebook looks for
    dataset/config.yaml                  the run's config
    dataset/models/, dataset/oof/        a store: fold models that have weight, and the blend
    dataset/tables/                      joined tables, where the competition's folder has none
    dataset/wheels/                      poolblend, and what the other machine lacks
    dataset/dataset-metadata.json        for Kaggle's command-line tool
    notebook/poolblend.ipynb             reads the dataset, writes submission.csv
    notebook/kernel-metadata.json        for Kaggle's command-line tool
    handed-over.json                     how far it has been handed over

All are files of their own: links would not be uploaded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from poolblend.cards.blend import BlendCard, FoldHashes
from poolblend.cards.bundle import BundleCard, HandedOver
from poolblend.cards.fold import FoldCard
from poolblend.cards.inputs import FileHash
from poolblend.errors import UserError
from poolblend.store.artefacts import Store
from poolblend.store.cards import DamagedError, read_card, write_card
from poolblend.store.files import (
    flush,
    hash_file,
    no_half_files,
    sha256,
    unfinished,
    write_text,
)
from poolblend.store.foldfiles import CARD, ENCODER, WEIGHTS, FoldFiles, hashed_files

MARKER = "poolblend-bundle.json"
CONFIG, TABLES, WHEELS, NOTEBOOK = "config.yaml", "tables", "wheels", "poolblend.ipynb"
DATASET_METADATA, KERNEL_METADATA = "dataset-metadata.json", "kernel-metadata.json"
# A dataset of Kaggle, and the files of a folder that its tool uploads.
MOST_BYTES, MOST_FILES = 20e9, 1000
OTHER_FILES = 10  # at most: card, config, metadata, wheels


class Bundle(NamedTuple):
    """The files of the bundle in `folder`."""

    folder: Path

    @property
    def dataset(self) -> Path:
        return self.folder / "dataset"

    @property
    def notebook(self) -> Path:
        return self.folder / "notebook"

    def card(self) -> BundleCard:
        """The bundle's card; UserError if there is none, or it is damaged."""
        path = self.dataset / MARKER
        try:
            card = read_card(path, BundleCard)
        except DamagedError as error:
            raise DamagedError(f"{error}; make it again with poolblend bundle") from None
        if card is None:
            raise UserError(f"{self.folder} is no bundle (no {path}); make one: poolblend bundle")
        return card

    @contextmanager
    def replaced(self, template: Path) -> Iterator[Path]:
        """A new folder for the dataset, which replaces an older one of a bundle after the block.

        `template` is the notebook. Raises UserError for a folder that is something else.
        """
        if not self._may_be_replaced():
            raise UserError(f"{self.folder} exists and is no bundle; name a new folder")
        with no_half_files(self.dataset) as new:
            new.mkdir()
            yield new
            flush(new)
            shutil.rmtree(self.dataset, ignore_errors=True)
        with no_half_files(self.notebook / NOTEBOOK) as new_notebook:
            shutil.copyfile(template, new_notebook)

    def _may_be_replaced(self) -> bool:
        """Whether the folder is new, or a bundle, also one whose command was killed."""
        own = (self.dataset / MARKER, self.notebook / NOTEBOOK)
        if not self.folder.exists() or any(path.is_file() for path in own):
            return True
        return self.folder.is_dir() and set(self.folder.iterdir()) <= {*unfinished(self.folder)}

    def write_metadata(self, dataset: Mapping[str, Any], kernel: Mapping[str, Any]) -> None:
        """Write what Kaggle's tool reads."""
        for path, content in (
            (self.dataset / DATASET_METADATA, dataset),
            (self.notebook / KERNEL_METADATA, kernel),
        ):
            write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def addresses(self) -> tuple[str, str | None]:
        """The owner and the competition in the metadata; UserError where these cannot be read."""
        dataset, kernel = self.metadata()
        try:
            owner, _, _ = dataset["id"].partition("/")
            return str(owner), next(map(str, kernel["competition_sources"]), None)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.folder}: its metadata names no dataset or competition ({error!r}); make it "
                "again with poolblend bundle"
            ) from None

    def metadata(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The metadata of dataset and notebook; UserError where they cannot be read."""
        paths = (self.dataset / DATASET_METADATA, self.notebook / KERNEL_METADATA)
        try:
            dataset, kernel = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder}: its metadata cannot be read: {error}") from None
        return dataset, kernel

    def notebook_sha256(self) -> str:
        """One hash of the notebook and its metadata."""
        names = (NOTEBOOK, KERNEL_METADATA)
        hashes = "".join(sha256(self.notebook / name) for name in names)
        return hashlib.sha256(hashes.encode()).hexdigest()

    def handed_over(self) -> HandedOver:
        """How far it has been handed over."""
        return read_card(self.folder / "handed-over.json", HandedOver) or HandedOver()

    def note(self, state: HandedOver) -> None:
        write_card(self.folder / "handed-over.json", state)


def write_dataset(
    new: Path,
    store: Store,
    blend: BlendCard,
    *,
    config: str,
    half: bool,
    wheels: Sequence[Path],
    tables: Sequence[Path] = (),
) -> Store:
    """Write config, wheels, tables and a store with the models that have weight; that store.

    With `half`, the weights of encoders are in half precision, and the cards have their hashes.
    Raises UserError for more than Kaggle takes, DamagedError for files that are not as they were.
    """
    there = Store(new, store.run)
    folds = [
        (store.fold(name, fold), there.fold(name, fold))
        for name, member in blend.used_members.items()
        for fold in member.origin.models
    ]
    cards = [source.check() for source, _ in folds]
    _check_limits([source for source, _ in folds], cards, half, wheels)
    (new / WHEELS).mkdir()
    for wheel in wheels:
        shutil.copyfile(wheel, new / WHEELS / wheel.name)
    for table in tables:
        (shutil.copytree if table.is_dir() else shutil.copyfile)(table, _made(new / TABLES, table))
    (new / CONFIG).write_text(config, encoding="utf-8")
    copy = _halve if half else _copy
    for (source, target), card in zip(folds, cards, strict=True):
        _copy_fold(source, target, card, copy)
    write_card(there.blend_path, _with_hashes(blend, there) if half else blend)
    return there


def _made(folder: Path, table: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / table.name


def finish(new: Path, make_card: Callable[[dict[str, FileHash]], BundleCard]) -> BundleCard:
    """Write the card of the dataset in `new`, which holds the hashes of all other files."""
    card = make_card(hashed_files(new))
    write_card(new / MARKER, card)
    return card


def _check_limits(
    folds: Sequence[FoldFiles], cards: Sequence[FoldCard], half: bool, wheels: Sequence[Path]
) -> None:
    sizes: dict[Path, float] = {wheel: wheel.stat().st_size for wheel in wheels}
    for files, card in zip(folds, cards, strict=True):
        for path, file in files.files(card):
            reduced = path.parent != files.folder and card.inputs.backbone_dtype is not None
            shrinks = half and path.name == WEIGHTS and not reduced
            sizes[path] = file.bytes / 2 if shrinks else file.bytes
        sizes[files.folder / CARD] = 0
    if (total := sum(sizes.values())) > MOST_BYTES:
        fewer = "" if half else ", or store weights in half precision (--fp16)"
        raise UserError(
            f"the bundle would have {total / 1e9:.1f} GB, a dataset of Kaggle at most "
            f"{MOST_BYTES / 1e9:.0f}: blend fewer members (blend.py --members){fewer}"
        )
    if (count := len(sizes) + OTHER_FILES) > MOST_FILES:
        raise UserError(
            f"the bundle would have {count:,} files, a dataset of Kaggle at most {MOST_FILES:,}: "
            "blend fewer members (blend.py --members)"
        )


def _copy_fold(
    source: FoldFiles, target: FoldFiles, card: FoldCard, copy: Callable[[Path, Path, str], None]
) -> None:
    """Copy a fold's files; its card gets the hashes of weights that were changed."""
    pairs = zip(source.files(card), target.files(card), strict=True)
    for (old, _), (new, _) in pairs:
        if not new.exists():  # a base is that of several folds
            new.parent.mkdir(parents=True, exist_ok=True)
            own = new.parent == target.folder
            plain = old.name != WEIGHTS
            (_copy if plain else copy)(old, new, ENCODER if own else "")
    files = card.files
    base = files.base
    if base is not None:
        base = base.model_copy(update={"weights": hash_file(target.base_path(base))})
    weights = hash_file(target.folder / WEIGHTS)
    changed = files.model_copy(update={"weights": weights, "base": base})
    write_card(target.folder / CARD, card.model_copy(update={"files": changed}))


def _copy(old: Path, new: Path, _: str) -> None:
    shutil.copyfile(old, new)


def _halve(old: Path, new: Path, prefix: str) -> None:
    """Write weights whose float32 tensors, where their names start so, are in half precision.

    Poolers and heads stay as they are: they are small, and a fitted head is no matter of rounding.
    """
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(old)
    for name, tensor in tensors.items():
        if name.startswith(prefix) and tensor.dtype == torch.float32:
            half = tensor.half()
            if torch.isinf(half).any() and not torch.isinf(tensor).any():
                raise UserError(
                    f"{old}: {name} has values beyond 65,504, the largest in half precision; "
                    "leave out --fp16"
                )
            tensors[name] = half
    save_file(tensors, new)


def _with_hashes(blend: BlendCard, there: Store) -> BlendCard:
    """The blend's card with the hashes of the fold models in `there`."""
    members = dict(blend.members)
    for name, member in blend.used_members.items():
        found = [there.fold(name, fold).card() for fold in range(len(member.origin.folds))]
        folds = tuple(FoldHashes.of(card) for card in found if card is not None)
        origin = member.origin.model_copy(update={"folds": folds})
        members[name] = member.model_copy(update={"origin": origin})
    return blend.model_copy(update={"members": members})
