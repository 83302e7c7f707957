"""Do the jobs of `train.py`, beside other processes that run the same command.

A job that fails for a reason of its own is noted, and the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from poolblend.cards.fold import FailureNote
from poolblend.config import Workers
from poolblend.jobs.context import Context
from poolblend.jobs.failures import Failures
from poolblend.jobs.job import FoldJob, Job
from poolblend.jobs.runners.pools import open_pool
from poolblend.jobs.runners.queue import Queue
from poolblend.jobs.runners.seam import Order
from poolblend.jobs.runners.training import TrainTask, TrainWork, refusal
from poolblend.jobs.speed import estimate

log = logging.getLogger(__name__)


class Runner:
    """Does `jobs`, in order; finished ones are skipped, stale ones refused without `overwrite`.

    They are done by `workers`: this process for 1, else processes of their own.
    """

    def __init__(
        self,
        context: Context,
        jobs: Sequence[Job],
        *,
        overwrite: bool = False,
        skip_failed: bool = False,
        workers: Workers = 1,
    ) -> None:
        self.context, self.jobs = context, list(jobs)
        self.work = TrainWork(context, overwrite=overwrite)
        self.skip_failed, self.workers = skip_failed, workers
        self.failures = Failures()
        self._finished: set[str] = set()
        self._failed_before: dict[str, FailureNote | None] = {}

    def missing(self) -> list[Job]:
        """The jobs to do: those that are not finished, and not left out after a failure.

        Raises UserError where one of them would overwrite something unasked.
        """
        statuses = {job.name: self.work.status(job) for job in self.jobs}
        refused = [status for status in statuses.values() if self.work.refuses(status)]
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
        self._finished -= {job.name for job in todo}
        orders = [
            Order(
                job.name,
                _memory_kind(job),
                TrainTask(
                    job,
                    f"[{n}/{len(todo)}]",
                    self._failed_before.get(job.name),
                    unable.get(job.name),
                ),
            )
            for n, job in enumerate(todo, start=1)
        ]
        locks = {job.name: job.files(self.context.store).lock for job in todo}
        queue = Queue(orders, locks, self.context.watch, self._prepare)
        able = [job for job in todo if job.name not in unable]
        with open_pool(self.work, self.workers, len(able), self.context.store) as (pool, n):
            self.context.estimate = estimate(self.context, able, n)
            for order, outcome in queue.run(pool):
                job = order.task.job
                if outcome.state == "done":
                    self._finished.add(job.name)
                    continue
                reason = outcome.reason
                if outcome.state == "lost":
                    reason = self._note_lost(order, reason)
                    if isinstance(job, FoldJob):
                        self.context.estimate.end_fold(job.member.name, job.fold)
                self.failures.add(job, reason)

    def _prepare(self, order: Order) -> Order | None:
        """The order; None where what it waits for is not done, and unable where that failed."""
        for name in order.task.job.waits_for:
            if name in self.failures.reasons:
                reason = self.failures.reasons[name]
                unable = reason if name in reason else f"{name}: {reason}"
                return order._replace(task=order.task._replace(unable=unable))
            if name not in self._finished:
                return None
        return order

    def _note_lost(self, order: Order, reason: str) -> str:
        """Two processes have died of the job: its failure, unless another one has done it now."""
        outcome = self.work(order.task._replace(unable=f"{reason}, as did one before it"))
        return outcome.reason or reason

    def _drop_checkpoints(self, job: Job) -> None:
        """Remove what a process left that was killed when it had finished the job."""
        checkpoints = job.files(self.context.store).checkpoints
        if not len(checkpoints):
            return
        with self.work.locked(job) as ours:
            newest = checkpoints.newest() if ours else None
            if newest and not job.depends_on().changes_since(newest.card.inputs):
                checkpoints.drop()


def _memory_kind(job: Job) -> str:
    """What decides how much memory the job takes, but for the pooler."""
    if not isinstance(job, FoldJob):
        return job.name
    named = {"name", "tag", "seed", "pooler", "pooler_args"}
    return job.member.model_dump_json(exclude=named)
