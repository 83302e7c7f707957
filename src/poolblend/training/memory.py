"""The device's memory, where it is too small or to be given back."""

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
        told = f" ({reason})" if reason else ""
        raise TooLittleMemoryError(f"the device is out of memory{told}; {advice}") from None


def release_memory() -> None:
    """Give a dropped model's memory back before the next one is loaded."""
    gc.collect()
    torch.cuda.empty_cache()
    # Batches of ever other shapes leave glibc's heap full of holes, over 1 GB after one fold of
    # MiniLM, growing with each. Other C libraries lack the function, or the need.
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
