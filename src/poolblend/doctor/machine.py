"""Memory, cores and the console of this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from poolblend.doctor.checks import Finding, Run, check, ok, size, warn

CGROUP = Path("/sys/fs/cgroup")  # where a container's limits are
LIBRARIES = 1.0e9  # bytes that torch and other libraries need without a model


@check("memory", fix="see what else runs on this machine")
def memory(run: Run) -> Iterator[Finding]:
    """There is enough memory for a training."""
    free, total = free_memory()
    # Weights, gradients, two moments of the optimizer, and a copy of the weights when saving.
    needed = LIBRARIES + 5 * max(run.weights.values(), default=0)
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


def free_memory() -> tuple[float, float]:
    """Free and total bytes of memory; a container's limit counts if it is lower."""
    import psutil

    memory = psutil.virtual_memory()
    free, total = float(memory.available), float(memory.total)
    with suppress(OSError, ValueError, StopIteration):
        limit = float((CGROUP / "memory.max").read_text(encoding="utf-8"))  # "max" is no number
        used = float((CGROUP / "memory.current").read_text(encoding="utf-8"))
        lines = (CGROUP / "memory.stat").read_text(encoding="utf-8").splitlines()
        # The file cache counts as used, but is freed when memory is needed.
        cache = next(float(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        free, total = min(free, limit - used + cache), min(total, limit)
    return free, total


def usable_cores() -> float:
    """Cores that this process may use; a container's share can be a fraction."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    with suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text(encoding="utf-8").split()
        cores = min(cores, float(quota) / float(period))
    return cores
