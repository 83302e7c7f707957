"""Memory, cores and the console of this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from poolblend.doctor.checks import Finding, Run, check, ok, size, warn
from poolblend.training.resources import free_memory

LIBRARIES = 1.0e9  # bytes that torch and other libraries need without a model


@check("memory", fix="see what else runs on this machine")
def memory(run: Run) -> Iterator[Finding]:
    """There is enough memory for a training."""
    free, total = free_memory()
    needed = LIBRARIES + run.memory_for_training
    found = f"{size(free)} of {size(total)} free; training needs {size(needed)} beside its batches"
    if free < needed:
        yield warn(found, "end other processes, or choose a smaller backbone")
    else:
        yield ok(found)


@check("console", fix="set PYTHONIOENCODING=utf-8")
def console(run: Run) -> Iterator[Finding]:
    """The console can print letters of any language."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        "é–文".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        yield warn(f"its encoding {encoding} lacks letters", "set PYTHONIOENCODING=utf-8")
