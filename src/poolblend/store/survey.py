"""Read all artefacts of a run and compare them with their hashes; nothing is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from poolblend.cards.card import DamagedError
from poolblend.cards.fold_names import REFIT, fold_name
from poolblend.cards.predictions import TableName
from poolblend.cards.submission import SubmissionCard
from poolblend.errors import UserError
from poolblend.store import checkpoints
from poolblend.store.artefacts import Store
from poolblend.store.backbones import Copied, Trained
from poolblend.store.cards import read_card
from poolblend.store.files import sha256, unfinished
from poolblend.store.foldfiles import FoldFiles
from poolblend.store.folds import card_path, read_folds
from poolblend.store.kept import read_card_of

State = Literal["whole", "stale", "damaged", "failed", "unfinished", "in training", "left over"]


class Artefact(NamedTuple):
    """An artefact of a run; `message` says what is wrong, or what train.py will do."""

    kind: str
    name: str
    state: State
    message: str = ""


def survey(store: Store) -> Iterator[Artefact]:
    """All existing artefacts of the run and their states."""
    if store.folds_path.exists():
        yield read("folds", "folds.csv", lambda: read_folds(store.folds_path))
    elif card_path(store.folds_path).exists():
        yield Artefact(
            "folds", "folds.csv", "unfinished", "only its card exists; train.py makes it"
        )
    for name in store.backbone_names():
        yield from _training("backbones", f"backbone {name}", store.backbone(name))
    for name in store.base_names():
        yield from _training("backbones", f"base {name}", store.base(name))
    for member, fold in known_folds(store):
        name = f"{member} {fold_name(fold)}"
        kind = "models of all rows" if fold == REFIT else "fold models"
        yield from _training(kind, name, store.fold(member, fold))
        kept = store.test_predictions(member, fold)
        if kept.path.is_file():
            yield read("test predictions", f"test predictions of {name}", kept.check)
    yield from _vectors(store)
    for name in store.pseudo_names():
        yield read("pseudo-labels", f"pseudo-labels {name}", store.pseudo(name).check)
    if store.blend_path.exists():
        yield read("blend", "blend.json", store.read_blend)
    folder = store.submission_path.parent
    stems = {path.stem for end in ("csv", "json") for path in folder.glob(f"submission*.{end}")}
    for stem in sorted(stems):
        yield _submission(folder / f"{stem}.csv")
    for folder in store.folders():
        for path in unfinished(folder):
            message = "from a process that was killed: delete it"
            yield Artefact("temporary files", str(path), "left over", message)


def _vectors(store: Store) -> Iterator[Artefact]:
    for path in sorted(store.blend_path.parent.glob("*/*vectors_*.parquet")):
        named = re.fullmatch(r"(test_)?vectors_(?:fold(\d+)|refit)", path.stem)
        if named:
            table: TableName = "test" if named[1] else "train"
            fold = REFIT if named[2] is None else int(named[2])
            kept = store.vectors(path.parent.name, fold, table)
            name = f"{table} vectors of {kept.member} {fold_name(fold)}"
            yield read("vectors", name, kept.check)


def read(kind: str, name: str, check: Callable[[], object]) -> Artefact:
    """The artefact: damaged if `check` raises an error, else whole."""
    try:
        check()
    except (UserError, OSError) as error:
        return Artefact(kind, name, "damaged", str(error))
    return Artefact(kind, name, "whole")


def known_folds(store: Store) -> list[tuple[str, int]]:
    """(member, fold) of all folds with a folder, OOF rows or a checkpoint, sorted."""
    found = set()
    for folder in store.folders():
        # The names of pseudo-labels and backbones may look like a member's.
        if {store.backbones_folder, store.bases_folder} & {
            folder,
            *folder.parents,
        } or folder == store.pseudo_folder:
            continue
        for path in folder.glob("*"):
            named = re.fullmatch(r"(?:test_)?(?:fold(\d+)|refit)(?:\.parquet)?", path.name)
            if named:
                member = folder.parent if folder.name == "checkpoints" else folder
                found.add((member.name, REFIT if named[1] is None else int(named[1])))
    return sorted(found)


def _training(kind: str, name: str, files: FoldFiles | Trained | Copied) -> Iterator[Artefact]:
    """The result of a training and its checkpoints; a training that runs is not read."""
    if files.lock.is_held():
        yield Artefact(kind, name, "in training", f"by {files.lock.holder()}")
        return
    note = files.failure() if isinstance(files, FoldFiles) else None
    try:
        if files.card() is not None:
            files.check()
            yield Artefact(kind, name, "whole")
        elif note is not None:
            message = f"{note.reason} ({note.written}); train.py tries it again"
            yield Artefact(kind, name, "failed", message)
        else:
            resumes = len(files.checkpoints) > 0
            action = "resumes from its last checkpoint" if resumes else "starts from the beginning"
            yield Artefact(kind, name, "unfinished", f"train.py {action}")
    except (DamagedError, OSError) as error:
        yield Artefact(kind, name, "damaged", str(error))
    for folder in files.checkpoints.folders():
        if (folder / checkpoints.CARD).exists():  # without a card it was partly removed
            yield read("checkpoints", f"checkpoint of {name}", partial(_check_checkpoint, folder))


def _check_checkpoint(folder: Path) -> None:
    try:
        checkpoints.check(folder)
    except DamagedError as error:
        raise DamagedError(
            f"{error}; train.py resumes from an older one, or starts from the beginning"
        ) from None


def _submission(path: Path) -> Artefact:
    """The state of a submission: its hash must be the one in its card."""
    again = f"run infer.py again (same --config and --set), or delete {path.stem}.csv and .json"
    try:
        if path.exists():
            card = read_card_of(path, SubmissionCard)
            if card.file.sha256 == sha256(path):
                return Artefact("submissions", path.name, "whole")
            beside = path.with_suffix(".json").name
            raise DamagedError(f"{path} is damaged: its sha256 is not the one in {beside}")
        read_card(path.with_suffix(".json"), SubmissionCard)
    except (DamagedError, OSError) as error:
        return Artefact("submissions", path.name, "damaged", f"{error}; {again}")
    return Artefact("submissions", path.name, "unfinished", f"only its card exists; {again}")
