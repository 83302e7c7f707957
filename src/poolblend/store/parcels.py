"""Files that travel between stores.

A machine without the store's folder gets what a job reads, and sends back what it has made.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from poolblend.store.artefacts import Store
from poolblend.store.files import no_half_files
from poolblend.store.foldfiles import CARD
from poolblend.store.locks import ProcessLock

Hashes = tuple[str, str]  # of a backbone's weights and other files
Parcel = dict[str, bytes]  # contents of files, by their paths under the store's root
NEVER = (".lock", ".tmp")


def files_of(root: Path, places: Iterable[Path]) -> list[str]:
    """Paths under `root` of the files at these places, and in these folders, without locks."""
    found: set[Path] = set()
    for place in places:
        found.update(place.rglob("*") if place.is_dir() else (place,))
    kept = (path for path in found if path.is_file() and path.suffix not in NEVER)
    return sorted(path.relative_to(root).as_posix() for path in kept)


def made_since(root: Path, sent: Mapping[str, bytes]) -> Parcel:
    """The files of a store that were made or changed since it was filled with `sent`."""
    now = {name: (root / name).read_bytes() for name in files_of(root, [root])}
    return {name: content for name, content in now.items() if sent.get(name) != content}


def fill(root: Path, parcel: Mapping[str, bytes]) -> None:
    """Write the files of a parcel into a new store."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in parcel.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def receive(store: Store, parcel: Mapping[str, bytes]) -> None:
    """Put the files of a parcel into a store: cards last, after their folders were emptied.

    A backbone's copy that the store has already stays: other folds may be reading it. Raises
    UnwritableError where the store cannot take the files; no card stands beside other files.
    """
    root = store.root
    bases = {path.relative_to(root).as_posix() for path in store.bases_folder.glob("*")}
    there = {base for base in bases if _holds(root, base, parcel)}
    parcel = {name: parcel[name] for name in parcel if Path(name).parent.as_posix() not in there}
    cards = [name for name in parcel if Path(name).name == CARD]
    for name in cards:
        (root / name).unlink(missing_ok=True)
        shutil.rmtree((root / name).parent, ignore_errors=True)
    for name in sorted(parcel, key=lambda name: (name in cards, name)):
        with no_half_files(root / name) as temporary:
            temporary.write_bytes(parcel[name])


def _holds(root: Path, folder: str, parcel: Mapping[str, bytes]) -> bool:
    """Whether the folder, with a card of its own, has the parcel's files in the same bytes."""
    names = [n for n in parcel if n.startswith(f"{folder}/") and Path(n).name != CARD]
    files = {root / name: parcel[name] for name in names}
    return (root / folder / CARD).is_file() and all(
        path.is_file() and path.read_bytes() == content for path, content in files.items()
    )


@contextmanager
def marked(store: Store) -> Iterator[Path]:
    """A file in the store while the block runs: who sees it has the store's folder.

    A store that is not or cannot be written has none, so that nobody is taken to share it.
    """
    root = store.root
    marker = root / f".{uuid.uuid4().hex}.marker"
    if not store.read_only:
        with suppress(OSError):
            root.mkdir(parents=True, exist_ok=True)
            marker.touch()
    try:
        yield marker
    finally:
        with suppress(OSError):
            marker.unlink(missing_ok=True)


class Depot:
    """A folder of a machine without the store's, for all tasks there that have the same key."""

    def __init__(self, key: str) -> None:
        self.folder = Path(tempfile.gettempdir()) / f"poolblend-node-{key}"

    @contextmanager
    def filled(self, parcel: Mapping[str, bytes]) -> Iterator[Path]:
        """The root of a store with these files, removed after the block."""
        self.folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            fill(Path(folder), parcel)
            yield Path(folder)

    def backbone(self, fetch: Callable[[Hashes], Mapping[str, bytes]], hashes: Hashes) -> Path:
        """The folder of a backbone, whose files are fetched once."""
        folder = self.folder / hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]
        with ProcessLock(folder.with_suffix(".lock")):
            if not folder.is_dir():
                with no_half_files(folder) as new:
                    fill(new, fetch(hashes))
        return folder

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
