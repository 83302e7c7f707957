"""How long the folds of a command that are left will take, from the tokens trained so far."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping

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
    speed; any other is taken to train at the mean speed of those. Folds of frozen encoders (0
    tokens) are left out.
    """

    def __init__(self, tokens: Mapping[tuple[str, int], int], workers: int = 1) -> None:
        self._tokens = {job: n for job, n in tokens.items() if n}
        self._workers = workers
        self._trained: dict[str, float] = defaultdict(float)  # tokens, by member
        self._seconds: dict[str, float] = defaultdict(float)
        # Of the folds in training: when the last epoch ended, and the share of steps done then.
        self._running: dict[tuple[str, int], tuple[float, float]] = {}
        self._begun = -1  # place of the last fold that was begun
        self._reported: set[tuple[str, int]] = set()

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
        folds = "1 fold" if len(to_train) == 1 else f"{len(to_train)} folds"
        left = max(sum(seconds) / self._workers, longest)
        log.info("about %s left for %s", duration(left), folds)

    def _seconds_per_token(self, member: str) -> float:
        if self._trained[member]:
            return self._seconds[member] / self._trained[member]
        return sum(self._seconds.values()) / sum(self._trained.values())
