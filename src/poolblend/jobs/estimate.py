"""How long the folds of a command will take: by timed steps, later by what has been trained."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sized

import numpy as np

from poolblend.config import Member
from poolblend.printing import duration

log = logging.getLogger(__name__)


def training_tokens(member: Member, lengths_N: np.ndarray) -> int:
    """Tokens that a training on rows of these lengths reads; 0 for a frozen encoder."""
    return 0 if member.head.frozen else member.train.epochs * int(lengths_N.sum())


class Estimate:
    """Estimates the time left for the folds in `tokens`, which are begun in that order.

    `workers` of them are trained at a time. A member that has been trained already keeps its own
    speed. Any other is taken to train at its `timed` speed (seconds per token, by member), times
    what those that were trained took of theirs; without timed speeds, at the mean speed of those.
    Folds of frozen encoders (0 tokens) are left out.
    """

    def __init__(
        self,
        tokens: Mapping[tuple[str, int], int],
        timed: Mapping[str, float] | None = None,
        workers: int = 1,
    ) -> None:
        self._tokens = {job: n for job, n in tokens.items() if n}
        self._timed, self._workers = dict(timed or {}), workers
        self._trained: dict[str, float] = defaultdict(float)  # tokens, by member
        self._seconds: dict[str, float] = defaultdict(float)
        # Of the folds in training: when the last epoch ended, and the share of steps done then.
        self._running: dict[tuple[str, int], tuple[float, float]] = {}
        self._begun = -1  # place of the last fold that was begun
        self._reported: set[tuple[str, int]] = set()

    def before(self) -> str:
        """How long all folds will take, before the first; "" where no step was timed.

        The steps were timed in one process with all threads, which workers then share.
        """
        if not self._timed or not self._tokens:
            return ""
        seconds = sum(n * self._seconds_per_token(name) for (name, _), n in self._tokens.items())
        return f"about {duration(seconds)} for {_folds(self._tokens)}"

    def begin_fold(self, member: str, fold: int, done: float) -> None:
        """A training begins, with this share of its steps done by an earlier command."""
        job = (member, fold)
        if job in self._tokens:
            self._running[job] = (time.monotonic(), done)
            self._begun = max(self._begun, list(self._tokens).index(job))

    def end_fold(self, member: str, fold: int) -> None:
        """A training has ended, in whatever way."""
        self._running.pop((member, fold), None)

    def after_epoch(self, member: str, fold: int, done: float) -> None:
        """Log the time left, after a fold's first epoch alone; `done` is a share of its steps."""
        job, now = (member, fold), time.monotonic()
        if job not in self._running:
            return
        last, before = self._running[job]
        self._trained[member] += (done - before) * self._tokens[job]
        self._seconds[member] += now - last
        self._running[job] = (now, done)
        jobs = list(self._tokens)
        to_train = {each: float(self._tokens[each]) for each in jobs[self._begun + 1 :]}
        for each, (_, share) in self._running.items():
            if share < 1:
                to_train[each] = (1 - share) * self._tokens[each]
        # A fold that is resumed at the end of an epoch has trained nothing yet.
        if job in self._reported or not to_train or not sum(self._trained.values()):
            return
        self._reported.add(job)
        seconds = [n * self._seconds_per_token(name) for (name, _), n in to_train.items()]
        longest = max(seconds)  # one worker alone does it
        left = max(sum(seconds) / self._workers, longest)
        log.info("about %s left for %s", duration(left), _folds(to_train))

    def _seconds_per_token(self, member: str) -> float:
        if self._trained[member]:
            return self._seconds[member] / self._trained[member]
        others = sum(n * self._expected(name) for name, n in self._trained.items())
        slower = sum(self._seconds.values()) / others if others else 1.0
        return self._expected(member) * slower

    def _expected(self, member: str) -> float:
        """Seconds per token as timed, for a member that was not timed the mean; 1 without any."""
        mean = sum(self._timed.values()) / len(self._timed) if self._timed else 1.0
        return self._timed.get(member, mean)


def _folds(jobs: Sized) -> str:
    return "1 fold" if len(jobs) == 1 else f"{len(jobs)} folds"
