"""Atomic writes and hashes of files."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolblend.cards.card import DamagedError
from poolblend.cards.inputs import FileHash
from poolblend.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


_being_written: set[Path] = set()  # by this process


class UnwritableError(UserError):
    """The store cannot be written: its disk is full, read-only or gone, or a file is in the way."""


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    # Paths in the text that the locale could not decode keep their bytes.
    content = text.encode("utf-8", "surrogateescape")
    _write(path, lambda temporary: temporary.write_bytes(content))


def write_new_text(path: Path, text: str) -> None:
    """Write a file that does not exist yet; UserError where it does."""
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists, and is not overwritten; choose another name (--to FILE)")
    write_text(path, text)


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    _write(path, lambda temporary: frame.to_csv(temporary, index=False, lineterminator="\n"))


def holds_csv(path: Path, frame: pd.DataFrame) -> bool:
    """Whether the file is equal to what `write_csv` writes for this frame."""
    return path.read_bytes() == frame.to_csv(index=False, lineterminator="\n").encode()


def keep_tables(frames: Mapping[Path, pd.DataFrame]) -> None:
    """Write each frame as the parquet file of its path; files that hold the same table are kept.

    Raises UserError for a frame that parquet cannot hold, and for a file that holds another table;
    nothing is written then.
    """
    import pyarrow as pa
    from pyarrow import parquet

    new = {}
    for path, frame in frames.items():
        sink = io.BytesIO()
        try:
            parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), sink)
        except (pa.ArrowException, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"the DataFrame for {path} cannot be written: {reason}") from None
        if not path.exists():
            new[path] = sink.getvalue()
        elif not _same_table(path, sink):
            raise UserError(
                f"{path} holds another table than the DataFrame that is given for it now; give the "
                "run another name, so that what was made from that table is kept"
            )
    for path, content in new.items():
        _write(path, partial(Path.write_bytes, data=content))


def _same_table(path: Path, sink: io.BytesIO) -> bool:
    """Whether the file holds the table in `sink`, whichever version of pyarrow wrote it."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return bool(parquet.ParquetFile(path).read().equals(parquet.ParquetFile(sink).read()))
    except (pa.ArrowException, OSError):
        return False


def read_parquet(path: Path, expected: FileHash, card_name: str) -> pd.DataFrame:
    """The table in a file; DamagedError if its hash is not `expected`, the one in its card."""
    import pandas as pd

    try:
        content = path.read_bytes()  # only once, as another process may replace the file
        if hashlib.sha256(content).hexdigest() != expected.sha256:
            raise DamagedError(f"{path} is damaged: its sha256 is not the one in {card_name}")
        return pd.read_parquet(io.BytesIO(content))
    except FileNotFoundError:
        raise DamagedError(f"{path} is gone") from None
    except (OSError, ValueError) as error:  # the hash is right, but it is not a table
        raise DamagedError(f"{path} is damaged: {error}") from None


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    with no_half_files(path) as temporary:
        write(temporary)


@contextmanager
def no_half_files(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`: renamed to `path` after the block, removed after an error.

    Errors of the file system become UnwritableError; `path` is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}.tmp")
    _being_written.add(temporary)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in unfinished(path.parent):
            _remove(left)
        yield temporary
        flush(temporary)
        temporary.replace(path)
        _flush_names(path.parent)
    except Exception as error:
        _remove(temporary)
        # safetensors and pyarrow wrap the system's error in their own and keep its message.
        if isinstance(error, OSError) or "os error" in str(error).lower():
            raise UnwritableError(
                f"could not write {path}: {error}; nothing was overwritten"
            ) from error
        raise
    except BaseException:
        _remove(temporary)
        raise
    finally:
        _being_written.discard(temporary)


def unfinished(folder: Path) -> list[Path]:
    """Temporary files in a folder whose process ran on this machine and was killed."""
    left = []
    for path in sorted(folder.glob(".*.tmp")):
        machine, _, pid = path.stem.rpartition(".")[2].rpartition("-")
        dead = machine == _machine() and pid.isdigit() and not _running(int(pid))
        if dead and path not in _being_written:
            left.append(path)
    return left


def _machine() -> str:
    """This machine's name: whether a process of another machine still runs is not known."""
    return re.sub(r"[^A-Za-z0-9_]", "_", platform.node())[:32]


def _running(pid: int) -> bool:
    """Whether the process that made a temporary file may still be writing it."""
    if os.name != "posix":
        return True  # on Windows, os.kill would end the process
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
        with suppress(OSError):  # the first error is the one to report
            path.unlink()


def flush(path: Path) -> None:
    """Write the file, or all files of a folder, to the disk, as must be done before a rename."""
    for file in filter(Path.is_file, path.rglob("*") if path.is_dir() else (path,)):
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())


def _flush_names(folder: Path) -> None:
    """Write the folder's entries to the disk, so that a rename lasts; not all systems can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def hash_file(path: Path) -> FileHash:
    """The file's hash and size, as cards hold them."""
    return FileHash(sha256=sha256(path), bytes=path.stat().st_size)
