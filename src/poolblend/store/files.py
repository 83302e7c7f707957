"""Files that are either whole or absent: atomic writes, hashes, JSON cards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolblend.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    # Paths that the locale could not decode keep their bytes.
    content = text.encode("utf-8", "surrogateescape")
    _write(path, lambda temporary: temporary.write_bytes(content))


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    _write(path, lambda temporary: frame.to_csv(temporary, index=False, lineterminator="\n"))


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    _write(path, lambda temporary: frame.to_parquet(temporary, index=False))


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    with no_half_files(path) as temporary:
        write(temporary)


@contextmanager
def no_half_files(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends well, else removed.

    A full disk, a missing permission and the like become one-line errors; `path` itself is then
    as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}.*.tmp"):
            pid = left.name.removeprefix(f".{path.name}.").removesuffix(".tmp")
            if pid.isdigit() and not _running(int(pid)):
                _remove(left)  # of a process that was killed
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except Exception as error:
        _remove(temporary)
        # safetensors and pyarrow wrap the system's error in their own; the words stay the same.
        if isinstance(error, OSError) or "os error" in str(error).lower():
            raise UserError(f"could not write {path}: {error}; nothing was overwritten") from error
        raise
    except BaseException:
        _remove(temporary)
        raise


def _running(pid: int) -> bool:
    """Whether the process that made a temporary file may still be writing it."""
    if os.name != "posix":
        return True  # where asking could end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # the error that led here is the one to report
            path.unlink()


def _flush(path: Path) -> None:
    """Bytes before names: a rename must not reach the disk before what it names."""
    for file in filter(Path.is_file, path.rglob("*") if path.is_dir() else (path,)):
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())


class FileLock:
    """A lock between processes on `path`, which the system takes from a process that dies."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def acquire(self) -> bool:
        """Wait for the lock; always True, as Optuna's locks are."""
        self._file = self.path.open("ab")
        if os.name == "posix":
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX)
        else:
            import msvcrt

            msvcrt.locking(self._file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]
        return True

    def release(self) -> None:
        self._file.close()


def cut_torn_line(path: Path) -> None:
    """Cut a file of lines off after its last whole one; nothing where there is no such file."""
    with suppress(FileNotFoundError), path.open("rb+") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def described(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def same_size(path: Path, described: Mapping[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == described.get("bytes")
