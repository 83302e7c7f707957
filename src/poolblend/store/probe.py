"""Test whether a folder can be written and locked; nothing is left in it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

from poolblend.store.files import UnwritableError
from poolblend.store.locks import ProcessLock

COPIED = (
    "copy the run's folders in models/, oof/ and input/ to a folder that can be written, and set "
    "`store` to it"
)
CONTENT = os.urandom(4096)
REFUSED = 3  # exit status of a process that is refused the lock
SECOND_PROCESS = f"""
import sys
from pathlib import Path

sys.path[:] = sys.argv[2:]
from poolblend.store.locks import ProcessLock

sys.exit(0 if ProcessLock(Path(sys.argv[1])).acquire(wait=False) else {REFUSED})
"""


def nearest_folder(path: Path) -> Path:
    """`path`, or its nearest parent that exists."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def try_writing(folder: Path) -> None:
    """Write, flush, rename and read back a small file; OSError if one of these fails."""
    with TemporaryDirectory(prefix=".doctor-", dir=folder) as temporary:
        written, renamed = Path(temporary, "written"), Path(temporary, "renamed")
        with written.open("xb") as file:
            _write(file)
        written.replace(renamed)
        if renamed.read_bytes() != CONTENT:
            raise OSError(errno.EIO, "other bytes are read back than were written")


def check_writable(folders: Iterable[Path], advice: str) -> None:
    """Raise UnwritableError unless files can be written in each folder or its nearest parent.

    The test file has no name if the system supports that, so that a kill leaves nothing behind.
    """
    for folder in dict.fromkeys(map(nearest_folder, folders)):
        try:
            with TemporaryFile(dir=folder) as file:
                _write(file)
        except OSError as error:
            raise UnwritableError(
                f"{folder} cannot be written: {error.strerror or error}; {advice}"
            ) from None


def try_locking(folder: Path) -> bool:
    """Whether a lock that this process holds is refused to another one."""
    with TemporaryDirectory(prefix=".doctor-", dir=folder) as temporary:
        path = Path(temporary, "lock")
        with ProcessLock(path):
            command = [sys.executable, "-c", SECOND_PROCESS, str(path), *sys.path]
            done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    return done.returncode == REFUSED


def _write(file: IO[bytes]) -> None:
    file.write(CONTENT)
    file.flush()
    os.fsync(file.fileno())
