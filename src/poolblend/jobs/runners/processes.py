"""Do jobs in worker processes of this machine: the command's side.

Each worker has one line to this process: orders and the stop go there; outcomes, log records, the
text of progress bars and notes come back. A worker that dies loses its line, and with it the order.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

from poolblend.errors import Stopped, UserError
from poolblend.jobs.runners import child
from poolblend.jobs.runners.display import Relay
from poolblend.jobs.runners.memory import MemoryGuard, Running, Use, held_by
from poolblend.jobs.runners.seam import Order, Outcome, Work
from poolblend.jobs.starting import start_process

log = logging.getLogger(__name__)

NOTHING = Use(0)
PATIENCE = 10.0  # seconds for a worker without a job to end


@dataclass(eq=False)
class Worker:
    """One worker process; `order` is what it does now."""

    number: int
    process: Any
    line: Connection
    gpu: str | None
    order: Order | None = None
    ready: bool = False
    use: Use = NOTHING
    gpu_free: float | None = None  # as the worker saw it last

    @property
    def name(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"


class ProcessPool:
    """At most `most` workers, which take the GPUs in turn; `guard` decides how many run at a time.

    Without a guard a worker that dies is replaced; with one, which may have been wrong about the
    memory, only where no other is left.
    """

    def __init__(
        self,
        work: Work,
        most: int,
        threads: int,
        gpus: Sequence[str] = (),
        guard: MemoryGuard | None = None,
    ) -> None:
        self.work, self.threads, self.gpus = work, threads, gpus
        self.guard = guard
        self._workers: list[Worker] = []
        self._numbers = list(range(1, most + 1))
        self._stop: Stopped | None = None
        self._refused: list[tuple[Order, Outcome | Exception]] = []
        self._relay = Relay(work)

    def has_room(self, order: Order) -> bool:
        return self._number_for(order) is not None

    def submit(self, order: Order) -> None:
        number = self._number_for(order)
        assert number is not None
        found = [worker for worker in self._workers if worker.number == number]
        worker = found[0] if found else self._start(number)
        worker.order = order
        if worker.ready:
            self._send(worker, order.task)

    def collect(self, seconds: float) -> list[tuple[Order, Outcome | Exception]]:
        end = time.monotonic() + seconds
        ended, self._refused = self._refused, []
        while not ended:
            left = end - time.monotonic()
            lines: dict[Any, Worker] = {worker.line: worker for worker in self._workers}
            heard = connection.wait(list(lines), max(0.0, left)) if lines else []
            if not lines and left > 0:
                time.sleep(left)
            for line in heard:
                ended += self._hear(lines[line])
            self._measure()
            if left <= 0:
                break
        return ended

    def stop(self, why: Stopped) -> None:
        self._stop = why
        for worker in self._workers:
            if worker.order is not None and not worker.ready:  # it has not begun
                self._refused.append((worker.order, why))
                worker.order = None
                worker.process.kill()
            elif worker.order is not None:
                self._send(worker, why)

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let idle workers end; kill those that still do something."""
        end = time.monotonic() + PATIENCE
        for worker in self._workers:
            if worker.order is not None or not worker.ready:
                worker.process.kill()
            worker.line.close()
        for worker in self._workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            worker.process.kill()
            worker.process.join()
        self._workers = []
        self._relay.display.close()

    # --- choosing and starting ---------------------------------------------------------------

    def _number_for(self, order: Order) -> int | None:
        """The worker that can do the order now: an idle one, or one to be started."""
        taken = {worker.number: worker for worker in self._workers}
        for number in self._numbers:
            worker = taken.get(number)
            idle = worker is None or worker.order is None
            if idle and self._fits(order, self._gpu_of(number), worker):
                return number
        return None

    def _gpu_of(self, number: int) -> str | None:
        return self.gpus[(number - 1) % len(self.gpus)] if self.gpus else None

    def _fits(self, order: Order, gpu: str | None, worker: Worker | None) -> bool:
        if self.guard is None:
            return True
        others = [
            Running(each.order.kind, each.use, each.gpu == gpu)
            for each in self._workers
            if each.order is not None
        ]
        free = [each.gpu_free for each in self._workers if each.gpu == gpu and each.gpu_free]
        held = worker.use if worker else NOTHING
        return self.guard.fits(
            order.kind, others, held=held, gpu_free=min(free, default=0.0) if gpu else None
        )

    def _start(self, number: int) -> Worker:
        gpu = self._gpu_of(number)
        process, here = start_process(child.main, _surroundings(self.threads, gpu))
        worker = Worker(number, process, here, gpu)
        self._workers.append(worker)
        return worker

    # --- hearing -----------------------------------------------------------------------------

    def _hear(self, worker: Worker) -> list[tuple[Order, Outcome | Exception]]:
        """Take one message of a worker, or note its death."""
        try:
            kind, content = worker.line.recv()
        except (EOFError, OSError):
            return self._lost(worker)
        if kind == "ready":
            worker.ready = True
            self._send(worker, self.work)
            if worker.order is not None:
                self._send(worker, worker.order.task)
        elif kind == "gpu":
            gpu, worker.gpu_free = content
            worker.use = worker.use._replace(gpu=gpu)
        elif kind == "steps" and self.guard is not None and worker.order is not None:
            self._measure()
            self.guard.measured(worker.order.kind)
        elif kind == "outcome":
            return self._ended(worker, content)
        else:
            self._relay.take(worker.number, kind, content)
        return []

    def _ended(
        self, worker: Worker, outcome: Outcome | Exception
    ) -> list[tuple[Order, Outcome | Exception]]:
        order, worker.order = worker.order, None
        self._relay.display.clear(worker.number)
        if order is None:
            return []
        if self.guard is not None and isinstance(outcome, Outcome) and outcome.state == "done":
            self.guard.measured(order.kind, ended=True)
        return [(order, outcome)]

    def _lost(self, worker: Worker) -> list[tuple[Order, Outcome | Exception]]:
        worker.line.close()
        worker.process.join()
        self._workers.remove(worker)
        self._relay.display.clear(worker.number)
        if worker.order is None and self._stop is not None:
            return []
        reason = f"{worker.name} {_how_it_ended(worker.process.exitcode)}"
        if not worker.ready:
            reason += " before its first job"
        if self._workers and (self.guard is not None or not worker.ready):
            self._numbers.remove(worker.number)
            reason += " and is not replaced"
        if worker.order is None:
            log.warning("%s", reason)
            return []
        if not worker.ready and not self._workers:
            raise UserError(f"{reason}; see the lines above, or leave out --workers")
        return [(worker.order, self._stop or Outcome("lost", reason))]

    def _send(self, worker: Worker, message: Any) -> None:
        with suppress(OSError):  # its death is heard when it is next listened to
            worker.line.send(message)

    def _measure(self) -> None:
        if self.guard is None:
            return
        for worker in self._workers:
            worker.use = worker.use._replace(host=held_by(worker.process.pid))
            if worker.order is not None:
                self.guard.saw(worker.order.kind, worker.use)


def _how_it_ended(status: int | None) -> str:
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"was killed by {name}{memory}"
    return f"ended with exit status {status}"


def _surroundings(threads: int, gpu: str | None) -> child.Surroundings:
    """What a worker must know of this process."""
    columns, lines = shutil.get_terminal_size()
    environment = {**os.environ, "COLUMNS": str(columns), "LINES": str(lines)}  # tqdm asks for them
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    levels = {name: logging.getLogger(name).getEffectiveLevel() for name in ("", "poolblend")}
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return child.Surroundings(threads, environment, levels, sys.stderr.isatty(), encoding)
