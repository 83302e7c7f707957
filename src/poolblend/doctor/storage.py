"""The folders that a run writes to: free space, permission, locks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from poolblend.config import Member
from poolblend.doctor.checks import Finding, Run, check, fail, ok, size, warn
from poolblend.errors import UserError
from poolblend.store.probe import nearest_folder, try_locking, try_writing

SMALL = 50e6  # bytes for OOF, submissions and the like
ELSEWHERE = "free space there, or set `store` to a folder on a larger disk"
WRITABLE = "check the folder's owner and permissions, or set `store` to another folder"


def folders(run: Run) -> list[Path]:
    """The folders that the run writes to, or their nearest existing parents; models first."""
    store = run.store
    models = store.fold_folder("member", 0).parents[1]
    others = [store.blend_path.parent, store.submission_path.parent]
    if not store.folds_path.exists():  # existing folds are only read
        others.append(store.folds_path.parent)
    return list(dict.fromkeys(nearest_folder(folder) for folder in (models, *others)))


@check("disk", fix=ELSEWHERE)
def disk(run: Run) -> Iterator[Finding]:
    """There is enough disk space for the run's fold models."""
    models = folders(run)[0]
    folder = next(filter(Path.is_dir, (models, *models.parents)))
    usage, folds = shutil.disk_usage(folder), _sizes_to_train(run)
    found = f"{size(usage.free)} of {size(usage.total)} free in {folder}"
    # A checkpoint holds weights and the optimizer's two moments, and the last two are kept.
    checkpoints = 2 * 3 * max(folds, default=0)
    others = SMALL + checkpoints + _bases_to_store(run)
    least, needed = others + max(folds, default=0), others + sum(folds)
    if folds:
        found += f"; the {len(folds)} folds to train need {size(needed)}"
    if usage.free < least:
        yield fail(f"{found}; the next fold and its checkpoints need {size(least)}", ELSEWHERE)
    elif usage.free < needed:
        yield warn(found, ELSEWHERE)
    else:
        yield ok(found)


def _sizes_to_train(run: Run) -> list[int]:
    """Bytes of the weights that learn, of each fold model that is not finished."""
    sizes = []
    for name, weights in run.weights.items():
        for fold in range(run.config.folds.n):
            try:
                finished = run.store.fold(name, fold).card() is not None
            except UserError:  # it is damaged, which train.py --check reports
                finished = False
            sizes += [] if finished else [weights.learning]
    return sizes


def _bases_to_store(run: Run) -> int:
    """Bytes of the backbones that are yet to be stored, once for all their folds."""
    stored = {name.rpartition("-")[0] for name in run.store.base_names()}
    wanted = {
        (member.backbone.name, member.backbone.dtype): run.weights[member.name].held
        for member in run.members
        if isinstance(member, Member) and member.name in run.weights
        if not run.weights[member.name].learning
    }
    return sum(size for (name, _), size in wanted.items() if name not in stored)


@check("store", fix=WRITABLE)
def store(run: Run) -> Iterator[Finding]:
    """Files can be written, renamed, read back and locked in the store's folders."""
    places = folders(run)
    for folder in places:
        if not folder.is_dir():
            yield fail(f"{folder} is not a folder, but one is needed there", "move it away")
            return
        try:
            try_writing(folder)
        except OSError as error:
            yield fail(f"{folder} cannot be written: {error.strerror}", WRITABLE)
            return
    yield ok(f"writes, renames and reads back in {', '.join(map(str, places))}")
    if try_locking(places[0]):
        yield ok("refused to a second process", "locks")
    else:
        yield fail(
            f"two processes got the same lock in {places[0]}, so that both could train the same "
            "fold",
            "set `store` to a local disk, or a mount with locks; or run one process at a time",
            "locks",
        )
