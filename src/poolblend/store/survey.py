"""Walk a run's artefacts, each read and compared with its hash; nothing is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from poolblend.errors import UserError
from poolblend.store import checkpoints
from poolblend.store.artefacts import Store
from poolblend.store.backbones import BackboneFiles
from poolblend.store.cards import DamagedError, read_raw
from poolblend.store.files import sha256, unfinished
from poolblend.store.folds import card_path, read_folds
from poolblend.store.vectors import TableName

State = Literal["whole", "stale", "damaged", "failed", "unfinished", "in training", "left over"]
FOLD, CHECKPOINT, TEST = "fold", "checkpoint of fold", "test predictions of fold"
VECTORS: dict[TableName, str] = {"train": "vectors of fold", "test": "test vectors of fold"}
PSEUDO = "pseudo-labels "  # begins their place
BACKBONE, BACKBONE_CHECKPOINT = "backbone ", "checkpoint of backbone "  # likewise


class Artefact(NamedTuple):
    """One artefact: of a member its kind and fold, else a file of the run.

    `told` says what is damaged and what mends it, or how far an unfinished fold is.
    """

    place: str
    state: State
    told: str = ""
    kind: str = ""
    fold: int = -1

    def __str__(self) -> str:
        return f"{self.place} {self.kind} {self.fold}" if self.kind else self.place


def survey(store: Store) -> Iterator[Artefact]:
    """Every artefact of the run that is there; reads all of their bytes."""
    if store.folds_path.exists():
        yield judge("folds.csv", partial(read_folds, store.folds_path))
    elif card_path(store.folds_path).exists():
        yield Artefact("folds.csv", "unfinished", "there is but its card: train.py makes it")
    for name in store.backbone_names():
        yield from _backbone(store.backbone(name))
    for member, fold in begun_folds(store):
        own = _fold(store, member, fold)
        yield own
        if own.state != "in training":  # they come and go
            yield from _checkpoints(store, member, fold)
        if store.test_path(member, fold).is_file():
            yield judge(member, partial(store.check_test, member, fold), TEST, fold)
    if store.blend_path.exists():
        yield judge("blend.json", store.read_blend)
    folder = store.submission_path.parent
    stems = {path.stem for end in ("csv", "json") for path in folder.glob(f"submission*.{end}")}
    for stem in sorted(stems):
        yield _submission(folder / f"{stem}.csv")
    for folder in store.folders():
        yield from (
            Artefact(str(path), "left over", "of a process that was killed: delete it")
            for path in unfinished(folder)
        )


def survey_extras(store: Store) -> Iterator[Artefact]:
    """Vectors and pseudo-labels: what infer.py keeps when it is asked to."""
    for path in sorted(store.blend_path.parent.glob("*/*vectors_fold*.parquet")):
        named = re.fullmatch(r"(test_)?vectors_fold(\d+)", path.stem)
        if named:
            table: TableName = "test" if named[1] else "train"
            member, fold = path.parent.name, int(named[2])
            yield judge(member, store.vectors(member, fold, table).check, VECTORS[table], fold)
    for name in store.pseudo_names():
        yield judge(f"{PSEUDO}{name}", store.pseudo(name).check)


def begun_folds(store: Store) -> list[tuple[str, int]]:
    """(member, fold) of all that has a folder, OOF rows or a checkpoint, in order."""
    found = set()
    for folder in store.folders():
        # Anything may be the name of pseudo-labels, or of a backbone.
        if store.backbones_folder in (folder, *folder.parents) or folder == store.pseudo_folder:
            continue
        for path in folder.glob("*fold*"):
            number = re.fullmatch(r"(?:test_)?fold(\d+)(?:\.parquet)?", path.name)
            if number:
                member = folder.parent if folder.name == "checkpoints" else folder
                found.add((member.name, int(number[1])))
    return sorted(found)


def judge(place: str, read: Callable[[], object], kind: str = "", fold: int = -1) -> Artefact:
    """The artefact, whole if it can be read."""
    try:
        read()
    except (UserError, OSError) as error:
        return Artefact(place, "damaged", str(error), kind, fold)
    return Artefact(place, "whole", "", kind, fold)


def _fold(store: Store, member: str, fold: int) -> Artefact:
    lock = store.lock(member, fold)
    if lock.path.exists() and lock.is_held():
        return Artefact(member, "in training", f"by {lock.holder()}", FOLD, fold)
    try:
        if store.fold_card(member, fold) is not None:
            store.check_fold(member, fold)
            return Artefact(member, "whole", "", FOLD, fold)
    except (DamagedError, OSError) as error:
        return Artefact(member, "damaged", str(error), FOLD, fold)
    kept = len(store.checkpoints(member, fold))
    failed = store.fold(member, fold).failure()
    if failed is not None:
        told = f"{failed.reason} ({failed.written}); train.py tries it again"
        return Artefact(member, "failed", told, FOLD, fold)
    told = "goes on at its last checkpoint" if kept else "begins anew"
    return Artefact(member, "unfinished", f"train.py {told}", FOLD, fold)


def _backbone(files: BackboneFiles) -> Iterator[Artefact]:
    place, lock = f"{BACKBONE}{files.name}", files.lock
    if lock.path.exists() and lock.is_held():
        yield Artefact(place, "in training", f"by {lock.holder()}")
        return
    try:
        finished = files.check() is not None
    except (DamagedError, OSError) as error:
        yield Artefact(place, "damaged", str(error))
    else:
        goes_on = "goes on at its last checkpoint" if len(files.checkpoints) else "begins anew"
        told = "" if finished else f"train.py {goes_on}"
        yield Artefact(place, "whole" if finished else "unfinished", told)
    for folder in files.checkpoints.folders():
        if (folder / checkpoints.CARD).exists():  # else one half removed
            yield judge(f"{BACKBONE_CHECKPOINT}{files.name}", partial(_check_checkpoint, folder))


def _checkpoints(store: Store, member: str, fold: int) -> Iterator[Artefact]:
    for folder in store.checkpoints(member, fold).folders():
        if (folder / checkpoints.CARD).exists():  # else one half removed
            yield judge(member, partial(_check_checkpoint, folder), CHECKPOINT, fold)


def _check_checkpoint(folder: Path) -> None:
    try:
        checkpoints.check(folder)
    except DamagedError as error:
        raise DamagedError(f"{error}; train.py goes on from an older one, or begins anew") from None


def _submission(path: Path) -> Artefact:
    """Whether the submission is the one that its card was written with."""
    card = path.with_suffix(".json")
    again = f"run infer.py again (same --config), or delete {path.stem}.csv and .json"
    try:
        told = read_raw(card)
        if not path.exists():
            return Artefact(path.name, "unfinished", f"there is but its card; {again}")
        wrong = ""
        if told is None:
            wrong = f"{path} has no card {card.name}"
        elif told["submission"]["sha256"] != sha256(path):
            wrong = f"{path} is damaged: its sha256 is not the one in {card.name}"
    except (KeyError, TypeError):
        wrong = f"{card} is damaged: it is no submission's card"
    except (DamagedError, OSError) as error:
        wrong = str(error)
    if wrong:
        return Artefact(path.name, "damaged", f"{wrong}; {again}")
    return Artefact(path.name, "whole")
