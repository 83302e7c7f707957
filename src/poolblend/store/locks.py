"""Locks between processes; the system takes a lock from a process that dies."""

from __future__ import annotations

import errno
import logging
import os
import platform
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from poolblend.store.files import UnwritableError

log = logging.getLogger(__name__)

# Some network mounts know no locks: whoever starts one process there needs none.
NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)


class ProcessLock:
    """A lock on `path`; the file names its last holder, and stays when the lock is released."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path)

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; without `wait`, False at once where another process has it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=wait)
        except Timeout:
            return False
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise UnwritableError(
                    f"could not lock {self.path}: {error}; check the folder's permissions and free "
                    "space, or set `store` to another"
                ) from None
            log.warning("%s: no locks on this file system; start one process at a time", self.path)
        with suppress(OSError):  # a full disk keeps no name, but the lock holds all the same
            self.path.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        return True

    def release(self) -> None:
        """Let the lock go; nothing where it is not held."""
        self._lock.release()

    def is_held(self) -> bool:
        """Whether another process has the lock just now."""
        if not self.path.exists():
            return False
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return True
        except (OSError, NotImplementedError):
            return False
        self._lock.release()
        return False

    def holder(self) -> str:
        """Who has the lock, as far as its file tells."""
        with suppress(OSError, UnicodeDecodeError):
            return self.path.read_text(encoding="utf-8") or "another process"
        return "another process"

    def __enter__(self) -> ProcessLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
