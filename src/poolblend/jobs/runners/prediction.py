"""Do jobs that predict: each result is made once, by whichever process holds its lock.

Shape legend: N rows, K outputs, H width of the pooler.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poolblend.cards.predictions import TableName
from poolblend.config import OnCluster, Workers
from poolblend.errors import Stopped, UserError
from poolblend.jobs.foldmodels import FoldModels
from poolblend.jobs.predict_job import PredictJob, Result, Tables, run
from poolblend.jobs.runners.pools import open_pool
from poolblend.jobs.runners.queue import Queue
from poolblend.jobs.runners.seam import Line, Order, Outcome, Pool
from poolblend.jobs.watch import Watch
from poolblend.modeling.sources import Located
from poolblend.store import DamagedError, Store, UnwritableError
from poolblend.store.kept import KeptFile
from poolblend.store.predictions import from_table, to_table, vectors_table
from poolblend.store.probe import COPIED, check_writable

log = logging.getLogger(__name__)

RESERVE = 1.2  # times the longest job so far: the next one may take so long


class PredictWork:
    """Does a job: reads the stored result, or computes and stores it."""

    def __init__(
        self,
        store: Store,
        tables: Tables,
        outputs: Sequence[str],
        on_cluster: OnCluster = OnCluster(),  # noqa: B008 - it cannot be changed
    ) -> None:
        self.store, self.tables, self.outputs = store, tables, outputs
        self.on_cluster = on_cluster
        self.elsewhere: Callable[[PredictJob], np.ndarray] | None = None
        self._models: dict[TableName, FoldModels] = {}
        self._warned = self._by_file = False

    def __call__(self, job: PredictJob) -> Outcome:
        """The job's Result; from a worker None where it can be read from its file."""
        found = self.read(job)
        if found is not None:
            return Outcome("done", value=found)
        file = job.file(self.store)
        if file is not None and job.origin.what == "vectors":
            check_writable([file.path.parent], COPIED)
        with self._locked(file) as ours:
            if not ours:
                return Outcome("elsewhere")
            result = self.read(job) or self._make(job, file)
        kept = self._by_file and file is not None and not self._warned
        return Outcome("done", value=None if kept else result)

    def compute(self, job: PredictJob) -> np.ndarray:
        """The predictions or vectors, by the job's model."""
        return run(job, self._models_of(job), self.tables[job.origin.table])

    def reads(self, job: PredictJob) -> list[Path]:
        """The model's files."""
        files = self.store.fold(*job.origin.place)
        card = files.card()
        base = None if card is None else card.files.base
        bases = [] if base is None else [files.folder.parents[1] / base.folder]
        return [files.folder, files.oof_path, *bases]

    def backbones(self) -> Iterable[Located]:
        """None: models hold all that they need."""
        return ()

    def move(self, store: Store, fetch: Callable[[tuple[str, str]], Path]) -> None:
        """Read that store."""
        self.store = store
        for models in self._models.values():
            models.store = store

    def enter(self, line: Line) -> None:
        self._by_file = True

    def note(self, what: Any) -> None:
        raise NotImplementedError("predictions note nothing")

    def read(self, job: PredictJob, *, kept: bool = True) -> Result | None:
        """The stored result, or None."""
        table = job.kept(self.store)
        return None if table is None else Result(job, self._values(job, table), kept)

    def _make(self, job: PredictJob, file: KeptFile | None) -> Result:
        values = (self.elsewhere or self.compute)(job)
        if file is not None:
            self._keep(job, file, values)
        return Result(job, values, False)

    def _models_of(self, job: PredictJob) -> FoldModels:
        """The models over the job's table; all jobs of this work share what is the same."""
        table, made = job.origin.table, next(iter(self._models.values()), None)
        if table not in self._models:
            self._models[table] = FoldModels(
                self.store,
                self.tables[table].texts,
                job.batch_tokens,
                remote_code=job.remote_code,
                loader=None if made is None else made.loader,
            )
        return self._models[table]

    @contextmanager
    def _locked(self, file: KeptFile | None) -> Iterator[bool]:
        """Hold the file's lock; False where another process is making the file."""
        lock = None if file is None else file.lock
        try:
            ours = lock is None or lock.acquire(wait=False)
        except UnwritableError:  # a read-only store: nothing is shared
            lock, ours = None, True
        try:
            yield ours
        finally:
            if lock is not None and ours:
                lock.release()

    def _values(self, job: PredictJob, table: pd.DataFrame) -> np.ndarray:
        if job.origin.what == "vectors":
            return np.stack(table["vector"].to_list())
        return from_table(table, self.tables[job.origin.table].ids_N, self.outputs)

    def _keep(self, job: PredictJob, file: KeptFile, values: np.ndarray) -> None:
        rows, hashes = self.tables[job.origin.table], job.origin.hashes
        if job.origin.what == "vectors":
            file.keep(vectors_table(rows.ids_N, values, rows.fold_N), hashes)
            return
        try:
            file.keep(to_table(rows.ids_N, values, self.outputs), hashes)
        except UserError as error:  # a read-only store is no error: they only save time later
            if not self._warned:
                log.warning("test predictions are not stored: %s", error)
            self._warned = True


def predict_all(
    jobs: Iterable[PredictJob],
    work: PredictWork,
    workers: Workers = 1,
    watch: Watch | None = None,
) -> Iterator[Result]:
    """The jobs' results, in order; one process does each job when its result is asked for.

    Raises Stopped when the watch says so, after the results of all jobs that are done.
    """
    jobs, watch = list(jobs), watch or Watch()
    alone = workers == 1
    todo = [job for job in jobs if alone or job.kept(work.store) is None]
    orders = [Order(_name(job), _memory_kind(job, work.store), job) for job in todo]
    files = {_name(job): job.file(work.store) for job in todo}
    locks = {name: file.lock for name, file in files.items() if file is not None}
    left, made = {order.name for order in orders}, dict[str, Result | None]()
    stopped: Stopped | None = None
    with open_pool(work, workers, len(todo), work.store) as (pool, _):
        ends = Queue(orders, locks, watch).run(_Timed(pool, watch))
        for job in jobs:
            name = _name(job)
            while name in left and stopped is None:
                try:
                    order, outcome = next(ends)
                except Stopped as stop:
                    stopped = stop
                    break
                if outcome.state == "lost":
                    raise UserError(f"{order.name}: {outcome.reason}, as did one before it")
                left.remove(order.name)
                made[order.name] = outcome.value
            if name in left:
                continue
            found = made.pop(name, None) or work.read(job, kept=name not in files)
            if found is None:
                raise UserError(f"{name}: its file has vanished; run the command again")
            yield found
    if stopped is not None:
        raise stopped


class _Timed:
    """A pool whose watch learns how long a job takes: none is begun that would end too late."""

    def __init__(self, pool: Pool, watch: Watch) -> None:
        self.pool, self.watch = pool, watch
        self.has_room, self.stop = pool.has_room, pool.stop
        self._begun: dict[str, float] = {}

    def submit(self, order: Order) -> None:
        self._begun[order.name] = time.monotonic()
        self.pool.submit(order)

    def collect(self, seconds: float) -> list[tuple[Order, Outcome | Exception]]:
        ended = self.pool.collect(seconds)
        for order, _ in ended:
            took = time.monotonic() - self._begun.pop(order.name)
            self.watch.took("a job", RESERVE / 2 * took)  # the watch doubles it
        return ended


def _name(job: PredictJob) -> str:
    return f"{job.origin} ({job.origin.table})"


def _memory_kind(job: PredictJob, store: Store) -> str:
    """What decides how much memory the job takes."""
    with suppress(DamagedError):  # which the job itself says
        card = store.fold(*job.origin.place).card()
        if card is not None:
            return card.member.model_dump_json(
                include={"model", "backbone", "max_length", "windows"}
            )
    return job.origin.member
