"""Which pool does a command's orders: this process, worker processes, or a cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch

from poolblend.config import Cluster, Workers
from poolblend.jobs.runners.cluster import open_cluster
from poolblend.jobs.runners.inline import InlinePool
from poolblend.jobs.runners.memory import MemoryGuard
from poolblend.jobs.runners.processes import ProcessPool
from poolblend.jobs.runners.seam import Pool, Work
from poolblend.store import Store
from poolblend.store.probe import nearest_folder, try_locking
from poolblend.training.resources import usable_cores

log = logging.getLogger(__name__)

MOST = 16  # of `auto` on a CPU: all processes share one way to the memory
MOST_PER_GPU = 4


class Plan(NamedTuple):
    """At most `most` workers, with so many threads each; the GPUs that they take in turn."""

    most: int
    threads: int
    gpus: tuple[str, ...]


def make_plan(workers: int | Literal["auto"], n_orders: int) -> Plan:
    """How many workers do the orders best: never more than there are orders.

    The threads that one process would use are divided among them.
    """
    gpus, threads = _gpus(), max(1, min(torch.get_num_threads(), int(usable_cores())))
    if workers != "auto":
        most = workers
    elif gpus:
        most = MOST_PER_GPU * len(gpus)
    else:
        most = 1 if torch.backends.mps.is_available() else min(MOST, threads)
    most = max(1, min(most, n_orders))
    return Plan(most, max(1, threads // most), gpus)


def _gpus() -> tuple[str, ...]:
    """As CUDA_VISIBLE_DEVICES names them."""
    if not torch.cuda.is_available():
        return ()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    count = torch.cuda.device_count()
    return tuple(named[:count] or map(str, range(count)))


@contextmanager
def open_pool(
    work: Work, workers: Workers, n_orders: int, store: Store
) -> Iterator[tuple[Pool, int]]:
    """A pool for so many orders, and how many of them it does at a time, if memory allows."""
    if isinstance(workers, Cluster):
        with open_cluster(work, workers, n_orders, store) as pool:
            if pool is not None:
                yield pool, pool.room.jobs
                return
        workers = workers.most or "auto"
    plan = make_plan(workers, n_orders)
    if plan.most == 1:
        with InlinePool(work) as inline:
            yield inline, 1
        return
    _announce(workers, plan, n_orders)
    _check_locks(store)
    guard = MemoryGuard() if workers == "auto" else None
    with ProcessPool(work, plan.most, plan.threads, plan.gpus, guard) as processes:
        yield processes, plan.most


def _announce(workers: int | Literal["auto"], plan: Plan, n_orders: int) -> None:
    if workers != "auto" and workers > plan.most:
        log.info("%d workers are more than there are jobs: %d are used", workers, n_orders)
    threads = "1 thread" if plan.threads == 1 else f"{plan.threads} threads"
    gpus = f" on {len(plan.gpus)} GPUs" if len(plan.gpus) > 1 else ""
    upto = "up to " if workers == "auto" else ""
    more = ", the second once the first shows how much memory it takes" if upto else ""
    log.info("%s%d workers%s, %s each%s", upto, plan.most, gpus, threads, more)


def _check_locks(store: Store) -> None:
    if store.read_only:
        return
    folder = nearest_folder(store.root)
    try:
        works = try_locking(folder)
    except OSError:  # read-only: nothing is written there
        return
    if not works:
        log.warning(
            "%s does not honour locks: the workers of this command are safe, since each job is "
            "given to one of them; a second command at the same time is not",
            folder,
        )
