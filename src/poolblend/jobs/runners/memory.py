"""How much memory is free for one more job, by what jobs of its kind have taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import psutil

from poolblend.training.resources import free_memory

FREE = 0.1  # share of the machine's memory that stays free
RESERVE, RESERVE_BEFORE_THE_END = 1.25, 1.5  # times what was taken, after the first job and in it
GPU_PROCESS = 700e6  # bytes that a process takes on a GPU besides its tensors


class Use(NamedTuple):
    """Bytes that a process holds: on the machine, and on its GPU."""

    host: float
    gpu: float = 0.0


class Running(NamedTuple):
    """A job that is being done, and what its process holds now."""

    kind: str
    use: Use
    same_gpu: bool


class MemoryGuard:
    """Lets a job begin beside others only where all of them are sure to have the memory.

    The first job of a kind runs alone until it is measured.
    """

    def __init__(self) -> None:
        self._peaks: dict[str, Use] = defaultdict(lambda: Use(0))
        self._measured: set[str] = set()
        self._ended: set[str] = set()

    def saw(self, kind: str, use: Use) -> None:
        """A job of that kind takes so much now."""
        peak = self._peaks[kind]
        self._peaks[kind] = Use(max(peak.host, use.host), max(peak.gpu, use.gpu))

    def measured(self, kind: str, *, ended: bool = False) -> None:
        """A job of that kind has done some of its steps, or all."""
        self._measured.add(kind)
        if ended:
            self._ended.add(kind)

    def fits(
        self, kind: str, others: Iterable[Running], *, held: Use, gpu_free: float | None
    ) -> bool:
        """Whether one more job fits beside the others, in a process that holds so much already.

        `gpu_free` is what its GPU has left, None without one.
        """
        others = list(others)
        if not others:
            return True
        if not self._measured.issuperset([kind, *(other.kind for other in others)]):
            return False
        grows = [Running(kind, held, True), *others]
        host = sum(max(0.0, self._need(each.kind).host - each.use.host) for each in grows)
        free, total = free_memory()
        if host > free - FREE * total:
            return False
        if gpu_free is None or not any(other.same_gpu for other in others):
            return True
        gpu = sum(
            max(0.0, self._need(each.kind).gpu - each.use.gpu) for each in grows if each.same_gpu
        )
        return gpu + GPU_PROCESS <= gpu_free

    def _need(self, kind: str) -> Use:
        times = RESERVE if kind in self._ended else RESERVE_BEFORE_THE_END
        peak = self._peaks[kind]
        return Use(times * peak.host, times * peak.gpu)


def held_by(pid: int) -> float:
    """Bytes that a process alone holds; 0 for one that has ended."""
    try:
        info = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0.0
    return float(info.rss - getattr(info, "shared", 0))
