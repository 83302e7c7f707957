"""Memory and cores that this process may use, within the limits of its container."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # where a container's limits are


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
