"""Run jobs one after another in this process, beside other processes that run the same command.

`InlineRunner` does jobs that train, `predict_all` those that predict. A job that trains is done by
whoever holds its lock, which a process that dies loses. One that fails for a reason of its own is
noted, and the others go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from poolblend.cards.fold import FailureNote
from poolblend.errors import UserError
from poolblend.jobs.context import Context
from poolblend.jobs.failures import Failures
from poolblend.jobs.job import FoldJob, Job, JobStatus
from poolblend.jobs.predict_job import PredictJob, PredictWork, Result
from poolblend.jobs.run import run
from poolblend.jobs.speed import estimate
from poolblend.training.devices import release_memory

log = logging.getLogger(__name__)

WAIT = 0.5  # seconds between two looks at jobs that other processes do


class InlineRunner:
    """Does `jobs`, in order; finished ones are skipped, stale ones refused without `overwrite`."""

    def __init__(
        self,
        context: Context,
        jobs: Sequence[Job],
        *,
        overwrite: bool = False,
        skip_failed: bool = False,
    ) -> None:
        self.context, self.jobs = context, list(jobs)
        self.overwrite, self.skip_failed = overwrite, skip_failed
        self.failures = Failures(context.store)
        self._finished: set[str] = set()
        self._failed_before: dict[str, FailureNote | None] = {}

    def missing(self) -> list[Job]:
        """The jobs to do: those that are not finished, and not left out after a failure.

        Raises UserError where one of them would overwrite something unasked.
        """
        statuses = {job.name: self._status(job) for job in self.jobs}
        refused = [status for status in statuses.values() if self._refuses(status)]
        if refused:
            raise refusal(refused)
        self._failed_before = {name: status.failed for name, status in statuses.items()}
        self._finished = {name for name, each in statuses.items() if each.state == "finished"}
        # A finished job whose backbone is trained again is judged again when that is done.
        done = self._finished
        left = [job for job in self.jobs if not done.issuperset((job.name, *job.waits_for))]
        todo = [job for job in left if not (self.skip_failed and statuses[job.name].failed)]
        n_folds = sum(isinstance(job, FoldJob) for job in self.jobs)
        n_finished = n_folds - sum(isinstance(job, FoldJob) for job in left)
        if n_finished:
            log.info("%d of %d folds are finished already", n_finished, n_folds)
        if len(todo) < len(left):
            log.warning("%d folds that failed before are left out", len(left) - len(todo))
        return todo

    def run(self, todo: Sequence[Job], unable: Mapping[str, str]) -> None:
        """Do the jobs that no other process does, then wait for the others, or for their ends.

        `unable` says, by their names, why some cannot be done. Raises Stopped when the watch says
        so.
        """
        for job in self.jobs:
            if job.name in self._finished:
                self._drop_checkpoints(job)
        doable = [job for job in todo if job.name not in unable]
        self.context.estimate = estimate(self.context, doable)
        places = {job.name: f"[{n}/{len(todo)}]" for n, job in enumerate(todo, start=1)}
        self._finished -= set(places)
        waiting, said = list(todo), False
        while waiting:
            elsewhere = []
            for job in waiting:
                self.context.watch.check()
                if not self._settle(job, places[job.name], unable):
                    elsewhere.append(job)
            said = said or self._log_elsewhere(elsewhere)
            if len(elsewhere) == len(waiting):
                time.sleep(WAIT)
            waiting = elsewhere

    def _settle(self, job: Job, place: str, unable: Mapping[str, str]) -> bool:
        """Do the job, or note why it cannot be done; False where it must wait for others."""
        for name in job.waits_for:
            if name in self.failures.reasons:
                reason = self.failures.reasons[name]
                self.failures.take(
                    job, UserError(reason if name in reason else f"{name}: {reason}")
                )
                return True
            if name not in self._finished:
                return False
        with self._locked(job) as ours:
            if not ours:
                return False
            status = self._status(job)
            if status.failed and status.failed != self._failed_before.get(job.name):
                # Another process has just tried: once for each command is enough.
                self.failures.add(job, status.failed.reason)
                return True
            if job.name in unable:
                self.failures.take(job, UserError(unable[job.name]))
                return True
            if self._refuses(status):
                raise refusal([status])
            if status.replaces:
                log.info("trained again: %s", status.message.partition("; ")[0])
            if not status.resumable:
                job.files(self.context.store).checkpoints.drop()
            done = status.state == "finished"
            if not done:
                try:
                    self.do(job, place)
                    done = True
                except Exception as error:
                    self.failures.take(job, error)
                release_memory()  # not in the handler: the error holds on to the model
            if done:
                self._finished.add(job.name)
        return True

    def do(self, job: Job, place: str) -> None:
        """Do a job whose lock is held; a runner that does it elsewhere overrides this alone."""
        run(job, self.context, place)

    @contextmanager
    def _locked(self, job: Job) -> Iterator[bool]:
        lock = job.files(self.context.store).lock
        ours = lock.acquire(wait=False)
        try:
            yield ours
        finally:
            if ours:
                lock.release()

    def _status(self, job: Job) -> JobStatus:
        return job.status(self.context.store, hashes=self.overwrite)

    def _refuses(self, status: JobStatus) -> bool:
        return status.replaces and not self.overwrite

    def _drop_checkpoints(self, job: Job) -> None:
        """Remove what a process left that was killed when it had finished the job."""
        checkpoints = job.files(self.context.store).checkpoints
        if not len(checkpoints):
            return
        with self._locked(job) as ours:
            newest = checkpoints.newest() if ours else None
            if newest and not job.depends_on().changes_since(newest.card.inputs):
                checkpoints.drop()

    def _log_elsewhere(self, jobs: Sequence[Job]) -> bool:
        """Whether another process does any of the jobs, which is then logged."""
        locks = [(job.name, job.files(self.context.store).lock) for job in jobs]
        held = [(name, lock) for name, lock in locks if lock.is_held()]
        if held:
            name, lock = held[0]
            log.info(
                "waiting for %d of the jobs, which another process is doing (%s by %s)",
                len(held),
                name,
                lock.holder(),
            )
        return bool(held)


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


def predict_all(jobs: Iterable[PredictJob], work: PredictWork) -> Iterator[Result]:
    """Do the jobs, each when its result is asked for."""
    return map(work, jobs)
