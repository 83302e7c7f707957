"""The jobs of one command: what is left of them, and training it beside other processes.

A fold is trained by whoever holds its lock, which a process that dies loses. One that fails for a
reason of its own is noted, and the others go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from poolblend.cards.inputs import changed
from poolblend.config import Member
from poolblend.errors import UserError
from poolblend.jobs.failures import Failures
from poolblend.jobs.status import Look, look_at, refusal
from poolblend.jobs.trainer import Trainer
from poolblend.jobs.watch import Watch
from poolblend.training.memory import release_memory

log = logging.getLogger(__name__)

Job = tuple[Member, int]
LOOK_AGAIN = 0.5  # seconds between two looks at folds that other processes train


class Sharing:
    """Trains `jobs`, in order; `unable` says of members why none of their folds can be trained."""

    def __init__(
        self, trainer: Trainer, jobs: Sequence[Job], *, overwrite: bool, skip_failed: bool
    ) -> None:
        self.trainer, self.jobs = trainer, jobs
        self.overwrite, self.skip_failed = overwrite, skip_failed
        self.failures = Failures(trainer)
        self.unable: dict[str, str] = {}
        self.n_finished = self.n_skipped = 0
        self._failed_before: dict[tuple[str, int], Mapping[str, Any] | None] = {}

    def left(self, waiting: Collection[str] = ()) -> list[Job]:
        """The jobs to be done: those without a finished fold, and not left out.

        Members that are `waiting` for their backbone are not refused for what they were trained on
        before. Raises UserError where another job would overwrite something unasked.
        """
        looks = {(member.name, fold): self._look(member, fold) for member, fold in self.jobs}
        refused = [
            look
            for (name, _), look in looks.items()
            if name not in waiting and self._refuses(name, look)
        ]
        if refused:
            raise refusal(refused)
        missing = [job for job in self.jobs if looks[job[0].name, job[1]].state != "finished"]
        todo = [job for job in missing if not self._skips(looks[job[0].name, job[1]])]
        self._failed_before = {key: look.failed for key, look in looks.items()}
        self.n_finished, self.n_skipped = len(self.jobs) - len(missing), len(missing) - len(todo)
        return todo

    def say(self) -> None:
        """Log how many of the jobs there is nothing to do for."""
        if self.n_finished:
            log.info("%d of %d folds are finished already", self.n_finished, len(self.jobs))
        if self.n_skipped:
            log.warning("%d folds that failed before are left out", self.n_skipped)

    def _skips(self, look: Look) -> bool:
        """Whether the fold is left out, as it failed before."""
        return self.skip_failed and look.failed is not None

    def run(self, todo: Sequence[Job], watch: Watch) -> None:
        """Train the jobs that no other process does, then wait for the others, or for their ends.

        Raises Stopped when the watch says so.
        """
        waiting, told = list(todo), False
        while waiting:
            elsewhere = []
            for job in waiting:
                watch.check()
                if not self._train_alone(job, f"[{todo.index(job) + 1}/{len(todo)}]"):
                    elsewhere.append(job)
            if elsewhere and not told:
                (member, fold), told = elsewhere[0], True
                holder = self.trainer.store.lock(member.name, fold).holder()
                log.info(
                    "%d folds are trained elsewhere (%s fold %d by %s); waiting for them",
                    len(elsewhere),
                    member.name,
                    fold,
                    holder,
                )
            if len(elsewhere) == len(waiting):
                time.sleep(LOOK_AGAIN)
            waiting = elsewhere

    def sweep(self) -> None:
        """Remove what a process left that was killed when it had finished a fold."""
        for member, fold in self.jobs:
            store = self.trainer.store
            checkpoints, lock = store.checkpoints(member.name, fold), store.lock(member.name, fold)
            lock.sweep()
            if checkpoints.folder.parent.exists() and lock.acquire(wait=False):
                begun, inputs = checkpoints.newest(), self.trainer.inputs(member)
                kept = begun is not None and changed(begun.card["inputs"], inputs)
                if self._look(member, fold).state == "finished" and not kept:
                    checkpoints.drop()
                lock.release()

    def _train_alone(self, job: Job, place: str) -> bool:
        """Train the fold unless it has been meanwhile; False where another process is at it."""
        (member, fold), store = job, self.trainer.store
        lock = store.lock(member.name, fold)
        if not lock.acquire(wait=False):
            return False
        try:
            found = self._look(member, fold)
            if found.failed and found.failed != self._failed_before.get((member.name, fold)):
                # Another process has just tried: once for each command is enough.
                self.failures.add(member.name, fold, found.failed["reason"])
                return True
            if self._refuses(member.name, found):
                raise refusal([found])
            if found.replaces:
                log.info("trained again: %s", found.told)
            if not found.resumable:
                store.checkpoints(member.name, fold).drop()
            if found.state != "finished":
                self._train(member, fold, place)
        finally:
            lock.release()
        return True

    def _train(self, member: Member, fold: int, place: str) -> None:
        try:
            if member.name in self.unable:
                raise UserError(self.unable[member.name])
            self.trainer.train(member, fold, place)
        except Exception as error:
            self.failures.take(member, fold, error)
        else:
            return
        release_memory()  # not in the handler: the error holds on to the model

    def _look(self, member: Member, fold: int) -> Look:
        inputs = self.trainer.inputs(member)
        return look_at(self.trainer.store, member.name, fold, inputs, hashes=self.overwrite)

    def _refuses(self, name: str, look: Look) -> bool:
        """Whether training would overwrite something unasked; what cannot be trained would not."""
        return look.replaces and not self.overwrite and name not in self.unable
