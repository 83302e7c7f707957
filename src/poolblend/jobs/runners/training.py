"""Do one job that trains: under its lock, which a process that dies loses.

A job that fails for a reason of its own is noted in the store, and is no error of this process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from poolblend.cards.fold import FailureNote
from poolblend.config import Member
from poolblend.errors import Stopped, UserError
from poolblend.jobs.context import Context
from poolblend.jobs.estimate import Estimate
from poolblend.jobs.failures import Noted
from poolblend.jobs.job import FoldJob, Job, JobStatus
from poolblend.jobs.run import run
from poolblend.jobs.runners.seam import Line, Outcome
from poolblend.jobs.watch import Watch
from poolblend.modeling.sources import Located
from poolblend.store import Store
from poolblend.training.devices import release_memory

log = logging.getLogger(__name__)


class TrainTask(NamedTuple):
    """A job; `place` stands before its name in the log.

    `failed_before` is the note of an attempt before this command, `unable` says why the job cannot
    be done.
    """

    job: Job
    place: str
    failed_before: FailureNote | None = None
    unable: str | None = None


class TrainWork:
    """Does jobs that train; stale ones are refused without `overwrite`."""

    def __init__(self, context: Context, *, overwrite: bool = False) -> None:
        self.context, self.overwrite = context, overwrite
        self.store, self.on_cluster = context.store, context.config.cluster
        self.noted = Noted(context.store)
        self.elsewhere: Callable[[TrainTask], Any] | None = None

    def __call__(self, task: TrainTask) -> Outcome:
        """Do the job, or note why it cannot be done.

        Raises Stopped when the watch says so, and whatever every other job would meet, too.
        """
        job = task.job
        with self.locked(job) as ours:
            if not ours:
                return Outcome("elsewhere")
            status = self.status(job)
            if status.failed and status.failed != task.failed_before:
                # Another process has just tried: once for each command is enough.
                return Outcome("failed", status.failed.reason)
            if task.unable is not None:
                return Outcome("failed", self.noted.take(job, UserError(task.unable)))
            if self.refuses(status):
                raise refusal([status])
            if status.replaces:
                log.info("trained again: %s", status.message.partition("; ")[0])
            if not status.resumable:
                job.files(self.context.store).checkpoints.drop()
            return Outcome("done") if status.state == "finished" else self._do(task)

    def _do(self, task: TrainTask) -> Outcome:
        outcome = Outcome("done")
        try:
            if self.elsewhere is None:
                self.compute(task)
            else:
                self.elsewhere(task)
                files = task.job.files(self.store)
                files.check()  # it has come over a network
                files.checkpoints.drop()
        except Exception as error:
            outcome = Outcome("failed", self.noted.take(task.job, error))
        finally:
            if isinstance(task.job, FoldJob):
                self.context.estimate.end_fold(task.job.member.name, task.job.fold)
        release_memory()  # not in the handler: the error holds on to the model
        return outcome

    def compute(self, task: TrainTask) -> None:
        """Train, and put the result into the store."""
        run(task.job, self.context, task.place)

    def reads(self, task: TrainTask) -> list[Path]:
        """Checkpoints to resume from, and what the run's other commands and jobs have made."""
        job, store = task.job, self.store
        found = [job.files(store).checkpoints.folder]
        if isinstance(job, FoldJob):
            member = job.member
            if job.trained_backbone is not None:
                found.append(store.backbone(job.trained_backbone).folder)
            if isinstance(member, Member) and member.has_frozen_part:
                found.append(store.bases_folder)
            if member.pseudo is not None:
                found.append(store.pseudo(member.pseudo.labels).folder)
        return found

    def backbones(self) -> Iterable[Located]:
        """Those of the run's members."""
        return self.context.located.values()

    def move(self, store: Store, fetch: Callable[[tuple[str, str]], Path]) -> None:
        """Use that store; `fetch` gets backbones that this machine lacks, by their hashes."""
        self.store = store
        self.context.move(store, fetch)

    def enter(self, line: Line) -> None:
        """Stops and the estimate are the affair of the command's process, at the line's end."""
        self.context.watch = WatchAtLine(self.context.watch.end, line)
        self.context.estimate = EstimateAtLine(line)

    def note(self, what: tuple[Any, ...]) -> None:
        """An event of a fold in a worker, for the estimate of the time left."""
        event, *arguments = what
        getattr(self.context.estimate, event)(*arguments)

    @contextmanager
    def locked(self, job: Job) -> Iterator[bool]:
        """Hold the job's lock; False where another process holds it."""
        lock = job.files(self.context.store).lock
        ours = lock.acquire(wait=False)
        try:
            yield ours
        finally:
            if ours:
                lock.release()

    def status(self, job: Job) -> JobStatus:
        return job.status(self.context.store, hashes=self.overwrite)

    def refuses(self, status: JobStatus) -> bool:
        return status.replaces and not self.overwrite


class WatchAtLine(Watch):
    """Stops when the process of the command says so, or has died, or the time is over."""

    def __init__(self, end: float | None, line: Line) -> None:
        super().__init__(end)
        self._line = line

    def due(self) -> Stopped | None:
        return self._line.stop() or super().due()


class EstimateAtLine(Estimate):
    """Tells the estimate of the command's process what happens here."""

    def __init__(self, line: Line) -> None:
        super().__init__({})
        self._line = line

    def begin_fold(self, member: str, fold: int, done: float) -> None:
        self._line.note(("begin_fold", member, fold, done))

    def end_fold(self, member: str, fold: int) -> None:
        self._line.note(("end_fold", member, fold))

    def after_epoch(self, member: str, fold: int, done: float) -> None:
        self._line.note(("after_epoch", member, fold, done))


def refusal(statuses: Sequence[JobStatus]) -> UserError:
    """The error for jobs that are not done without being asked for; the first is named."""
    first = statuses[0]
    more = f" ({len(statuses) - 1} more: train.py --check lists them)" if len(statuses) > 1 else ""
    if first.state == "damaged":
        return UserError(f"{first.message}{more}")
    if first.message.startswith("backbone "):
        remedy = "give the backbone another `name`"
    else:
        remedy = "give the member a `tag`"
    return UserError(
        f"{first.message}{more}. Train it again with --overwrite, or {remedy} to keep both"
    )
