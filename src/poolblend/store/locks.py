"""Locks between processes, which the system takes from a process that dies."""

from __future__ import annotations

import errno
import logging
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import IO

from poolblend.store.files import UnwritableError

log = logging.getLogger(__name__)

# Some network mounts know no locks: whoever starts one process there needs none.
NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)


class FileLock:
    """A lock on `path`, a file that is there while somebody holds the lock or waits for it.

    The file says who holds it. A process that is killed loses the lock with its life; its file
    stays, and is the next holder's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; without `wait`, False at once where another process has it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while self._file is None:
                file = self.path.open("ab", buffering=0)
                try:
                    if not _lock(file, wait):
                        return False
                    if _same_file(file, self.path):
                        self._file = file
                finally:
                    if self._file is None:  # or its last holder has removed it meanwhile
                        file.close()
        except OSError as error:
            raise UnwritableError(
                f"could not lock {self.path}: {error}; check the folder's permissions and free "
                "space, or set `store` to another"
            ) from None
        with suppress(OSError):  # a full disk keeps no name, but locks all the same
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {platform.node()}".encode())
        return True

    def release(self) -> None:
        if self._file is None:
            return
        if os.name == "posix":
            with suppress(OSError):  # a disk closed meanwhile must not hide why
                self.path.unlink()  # while it is held: a later file is another's
        self._file.close()
        self._file = None

    def sweep(self) -> None:
        """Remove the file of a holder that was killed."""
        if self.path.exists() and self.acquire(wait=False):
            self.release()

    def is_held(self) -> bool:
        """Whether another process has the lock just now; its file is left as it is."""
        try:
            with self.path.open("rb") as file:
                return not _lock(file, wait=False)
        except OSError:
            return False

    def holder(self) -> str:
        """Who has the lock, as far as its file tells."""
        with suppress(OSError, UnicodeDecodeError):
            return self.path.read_text(encoding="utf-8") or "another process"
        return "another process"

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _lock(file: IO[bytes], wait: bool) -> bool:
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        else:
            import msvcrt

            mode = "LK_LOCK" if wait else "LK_NBLCK"
            msvcrt.locking(file.fileno(), getattr(msvcrt, mode), 1)  # type: ignore[attr-defined,unused-ignore]
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s: no locks on this file system; start one process at a time", file.name)
    return True


def _same_file(file: IO[bytes], path: Path) -> bool:
    try:
        return os.name != "posix" or os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
