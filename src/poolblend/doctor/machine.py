"""The machine around the run: memory, open files, what the console can print."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from poolblend.doctor.checks import Finding, Run, check, ok, size, warn

CGROUP = Path("/sys/fs/cgroup")  # where a container's limits stand
LIBRARIES = 1.0e9  # bytes that torch and the others take before any model
FEWEST_FILES = 256


@check("memory", fix="see what else runs on this machine")
def memory(run: Run) -> Iterator[Finding]:
    """There is memory to train in."""
    free, total = free_memory()
    # Weights, gradients and two moments of the optimizer, and the weights once more when saved.
    needed = LIBRARIES + 5 * max(run.weights.values(), default=0)
    told = f"{size(free)} of {size(total)} free; training takes {size(needed)} beside its batches"
    if free < needed:
        yield warn(told, "end what else runs here, or take a smaller backbone")
    else:
        yield ok(told)


@check("open files", fix="ulimit -n 1024")
def open_files(run: Run) -> Iterator[Finding]:
    """A process may open enough files."""
    if os.name != "posix":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < FEWEST_FILES:
        yield warn(f"{limit} at once; libraries may need {FEWEST_FILES}", "ulimit -n 1024")


@check("console", fix="set PYTHONIOENCODING=utf-8")
def console(run: Run) -> Iterator[Finding]:
    """The console can print what tables hold."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        "é–文".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        yield warn(
            f"its encoding {encoding} has no letters but its own", "set PYTHONIOENCODING=utf-8"
        )


def free_memory() -> tuple[float, float]:
    """Bytes that a process may still take, of how many; a container's limit where it is lower."""
    import psutil

    memory = psutil.virtual_memory()
    free, total = float(memory.available), float(memory.total)
    with suppress(OSError, ValueError, StopIteration):
        limit = float((CGROUP / "memory.max").read_text(encoding="utf-8"))  # "max" is no number
        used = float((CGROUP / "memory.current").read_text(encoding="utf-8"))
        lines = (CGROUP / "memory.stat").read_text(encoding="utf-8").splitlines()
        # The cache of files that were read counts as used, and goes when memory is wanted.
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
