"""The folders that a run writes to: room, permission, locks."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from poolblend.doctor.checks import Finding, Run, check, fail, ok, size, source_of, warn
from poolblend.store.probe import ignores_case, nearest_folder, try_locking, try_writing

FILES_PER_FOLD = 12
SMALL = 50e6  # bytes for OOF, submissions and the like
ELSEWHERE = "make room there, or set `store` to a folder with more room"
WRITABLE = "see to the folder's owner and permissions, or set `store` to a folder of your own"


def folders(run: Run) -> list[Path]:
    """Where the run writes, the models first: those folders, or what exists of the way to them."""
    store = run.store
    models = store.fold_folder("member", 0).parents[1]
    others = [store.blend_path.parent, store.submission_path.parent]
    if not store.folds_path.exists():  # else they are only read
        others.append(store.folds_path.parent)
    return list(dict.fromkeys(nearest_folder(folder) for folder in (models, *others)))


@check("disk", fix=ELSEWHERE)
def disk(run: Run) -> Iterator[Finding]:
    """There is room for what the run will write."""
    seen: set[int] = set()
    for folder in filter(Path.is_dir, folders(run)):  # the models' comes first
        device = folder.stat().st_dev
        if device not in seen:
            yield _room(folder, run, models=not seen)
            seen.add(device)


def _room(folder: Path, run: Run, *, models: bool) -> Finding:
    usage, files = shutil.disk_usage(folder), _free_inodes(folder)
    told = f"{size(usage.free)} of {size(usage.total)} free in {folder}"
    sizes = [run.weights.get(source_of(member)) for member, *_ in run.unfinished]
    folds = [n_bytes for n_bytes in sizes if n_bytes] if models else []
    # A checkpoint holds weights and the optimizer's two moments, and the last two are kept.
    checkpoints = 2 * 3 * max(folds, default=0)
    least = SMALL + max(folds, default=0) + checkpoints
    most = SMALL + sum(folds) + checkpoints
    if usage.free < least:
        return fail(f"{told}; the next fold and its checkpoints take {size(least)}", ELSEWHERE)
    if files < FILES_PER_FOLD:
        return fail(f"{told}, but room for {files:g} more files only (inodes)", ELSEWHERE)
    if folds:
        told += f"; the {len(folds)} folds to train take {size(most)}"
    if files < FILES_PER_FOLD * len(folds):
        return warn(f"{told}, and more files than the {files:g} left (inodes)", ELSEWHERE)
    return warn(told, ELSEWHERE) if usage.free < most else ok(told)


def _free_inodes(folder: Path) -> float:
    """How many files can still be made; infinity where the file system does not count them."""
    if not hasattr(os, "statvfs"):
        return float("inf")
    status = os.statvfs(folder)
    return status.f_favail if status.f_files else float("inf")


@check("store", fix=WRITABLE)
def store(run: Run) -> Iterator[Finding]:
    """Files can be written, renamed and read back in the store's folders."""
    places = folders(run)
    for folder in places:
        if not folder.is_dir():
            yield fail(f"{folder} is no folder, but one belongs there", "move it away")
            return
        try:
            try_writing(folder)
        except OSError as error:
            yield fail(f"{folder} cannot be written: {error.strerror}", WRITABLE)
            return
    case = "; names ignore upper and lower case" if ignores_case(places[0]) else ""
    yield ok(f"writes, renames and reads back in {', '.join(map(str, places))}{case}")
    if try_locking(places[0]):
        yield ok("refused to a second process", "locks")
    else:
        yield fail(
            f"a lock held in {places[0]} was given to a second process, too: two processes could "
            "train the same fold",
            "set `store` to a local disk, or a mount with locks; else run one process at a time",
            "locks",
        )


@check("temp", fix="set TMPDIR to a folder that can be written")
def temp(run: Run) -> Iterator[Finding]:
    """Temporary files can be written."""
    try:
        try_writing(Path(tempfile.gettempdir()))
    except OSError as error:
        yield warn(
            f"temporary files cannot be written: {error.strerror or error}",
            "free room there, or set TMPDIR to a folder that can be written",
        )
