"""The device's memory: where it is too small, and how it is freed."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from poolblend.errors import UserError
from poolblend.training.devices import out_of_memory


class TooLittleMemoryError(UserError):
    """The device or the machine has too little memory, even for the smallest batches."""


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Turn running out of memory, the device's or the machine's, into a line on what to set."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not out_of_memory(error):
            raise
        reason = " ".join(str(error).split(". ")[0].split())[:200]
        shown = f" ({reason})" if reason else ""
        raise TooLittleMemoryError(f"the device is out of memory{shown}; {advice}") from None


def release_memory() -> None:
    """Free a dropped model's memory before the next one is loaded."""
    gc.collect()
    torch.cuda.empty_cache()
    # Batches of changing shapes fragment glibc's heap: over 1 GB after one fold of MiniLM, growing
    # with each fold. Other C libraries lack the function, or do not need it.
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
