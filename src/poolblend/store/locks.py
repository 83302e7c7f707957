"""Locks between processes; the system releases the lock of a process that dies."""

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

# Errors of network mounts without locks, which are not needed for a single process.
NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)


class ProcessLock:
    """A lock on `path`; the file names its last holder, and stays when the lock is released."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path)

    def acquire(self, *, wait: bool = True) -> bool:
        """Acquire the lock; without `wait`, return False if another process has it."""
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
        with suppress(OSError):  # on a full disk the name is missing, but the lock works
            self.path.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        return True

    def release(self) -> None:
        """Release the lock, if it is held."""
        self._lock.release()

    def is_held(self) -> bool:
        """Whether another process has the lock now."""
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
        """The process that has the lock, as its file says."""
        with suppress(OSError, UnicodeDecodeError):
            return self.path.read_text(encoding="utf-8") or "another process"
        return "another process"

    def __enter__(self) -> ProcessLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
