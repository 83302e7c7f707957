"""Try a folder out, and leave nothing behind: does it keep what is written, do its locks hold?"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poolblend.store.files import UnwritableError
from poolblend.store.locks import ProcessLock

COPIED = (
    "copy the run's folders in models/, oof/ and input/ to a folder that can be written, and set "
    "`store` to it"
)
CONTENT = os.urandom(4096)
# Exit status 3 where a second process is refused the lock, as it should be.
SECOND = """
import os, sys
with open(sys.argv[1], "ab") as file:
    try:
        if os.name == "posix":
            import fcntl
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        sys.exit(3)
"""


def nearest_folder(path: Path) -> Path:
    """`path`, or what exists of the way to it."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def try_writing(folder: Path) -> None:
    """Write, flush, rename, read back and delete a small file; OSError where one of these fails."""
    next(folder.iterdir(), None)
    with _temporary(folder, "written") as written, _temporary(folder, "renamed") as renamed:
        with written.open("xb") as file:
            file.write(CONTENT)
            file.flush()
            os.fsync(file.fileno())
        written.replace(renamed)
        if renamed.read_bytes() != CONTENT:
            raise OSError(errno.EIO, "it gives back other bytes than were written")


def check_writable(folders: Iterable[Path], advice: str) -> None:
    """Raise UnwritableError unless a file can be written in each folder, or where it will be made.

    The file has no name where the system knows such files, so that no kill leaves it behind.
    """
    for folder in dict.fromkeys(map(nearest_folder, folders)):
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(CONTENT)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UnwritableError(
                f"{folder} cannot be written: {error.strerror or error}; {advice}"
            ) from None


def ignores_case(folder: Path) -> bool:
    """Whether two names that differ in upper and lower case are one file there."""
    with _temporary(folder, "case") as lower:
        lower.touch()
        return lower.with_name(lower.name.replace("case", "CASE")).exists()


def try_locking(folder: Path) -> bool:
    """Whether a lock that this process holds is refused to another one."""
    with _temporary(folder, "lock") as path:
        lock = ProcessLock(path)
        lock.acquire()
        try:
            second = [sys.executable, "-I", "-S", "-c", SECOND, str(path)]
            status = subprocess.run(second, check=False, capture_output=True, timeout=10).returncode
        finally:
            lock.release()
    return status == 3


@contextmanager
def _temporary(folder: Path, name: str) -> Iterator[Path]:
    path = folder / f".doctor.{name}.{os.getpid()}.tmp"
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()
