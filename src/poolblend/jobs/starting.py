"""How this process and its workers are started: quickly where the system allows it.

On Linux, workers are forked from a server that has imported everything (multiprocessing's
forkserver): each costs no imports, and they share the memory that imports take. Elsewhere a forked
process is not safe or not possible, and each is a new one. This module imports nothing heavy, so
that the server can be started while this process still imports.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from poolblend.config import Cluster, Workers

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
PRELOADED = "poolblend.jobs.runners.preloaded"
# A library that has started threads cannot be forked; workers raise these numbers again.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def set_up(*, quiet: bool) -> None:
    """The level of the log; with `quiet` warnings alone, and no progress bars."""
    logging.getLogger("poolblend").setLevel(logging.WARNING if quiet else logging.INFO)
    # tqdm and torch read these when they are imported.
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"
    # GNU OpenMP spins at every barrier: on two cores, one other busy process made training 12 times
    # as slow. A short spin costs nothing on an idle machine and keeps a shared one usable.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def prepare(workers: Workers) -> None:
    """Let the imports of workers begin, if there will be any."""
    if workers != 1 and not isinstance(workers, Cluster) and METHOD == "forkserver":
        from multiprocessing import forkserver

        with _clean_start():
            forkserver.ensure_running()


def start_process(target: Any, *args: Any) -> tuple[BaseProcess, Connection]:
    """A process at `target(pipe, *args)`, and this end of its pipe; it ends with this process."""
    context: Any = multiprocessing.get_context(METHOD)
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, *args), daemon=True)
    with _clean_start():
        process.start()
    there.close()
    return process, here


@contextmanager
def _clean_start() -> Iterator[None]:
    """What a process that is started in the block inherits: the imports' path, one thread.

    SIGINT and SIGTERM wait until after the block, and stay blocked in that process: a terminal
    sends SIGINT to workers, too, which are to learn of it from this process alone.
    """
    multiprocessing.get_context(METHOD).set_forkserver_preload([PRELOADED])
    new = dict.fromkeys(ONE_THREAD, "1") | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # Else a library that asks for GPUs as it is imported would make CUDA useless after a fork.
    new["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    before = dict(os.environ)
    os.environ.update(new)
    can_block = hasattr(signal, "pthread_sigmask")
    if can_block:
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # else it is started in the block, and lifts the mask
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        for name in new:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
        if can_block:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
