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
    """Estimates the time left for the folds in `tokens`, which are trained in that order.

    A member that has been trained already keeps its own speed; any other is taken to train at the
    mean speed of those. Folds of frozen encoders (0 tokens) are left out.
    """

    def __init__(self, tokens: Mapping[tuple[str, int], int]) -> None:
        self._tokens = {job: n for job, n in tokens.items() if n}
        self._trained: dict[str, float] = defaultdict(float)  # tokens, by member
        self._seconds: dict[str, float] = defaultdict(float)
        self._last, self._done = time.monotonic(), 0.0
        self._reported: set[tuple[str, int]] = set()

    def begin_fold(self, done: float) -> None:
        """A training begins, with this share of its steps done by an earlier command."""
        self._last, self._done = time.monotonic(), done

    def after_epoch(self, member: str, fold: int, done: float) -> None:
        """Log the time left, after a fold's first epoch alone; `done` is a share of its steps."""
        job, now = (member, fold), time.monotonic()
        if job not in self._tokens:
            return
        self._trained[member] += (done - self._done) * self._tokens[job]
        self._seconds[member] += now - self._last
        self._last, self._done = now, done
        jobs = list(self._tokens)
        to_train = {each: float(self._tokens[each]) for each in jobs[jobs.index(job) + 1 :]}
        if done < 1:
            to_train[job] = (1 - done) * self._tokens[job]
        # A fold that is resumed at the end of an epoch has trained nothing yet.
        if job in self._reported or not to_train or not sum(self._trained.values()):
            return
        self._reported.add(job)
        seconds = sum(n * self._seconds_per_token(name) for (name, _), n in to_train.items())
        folds = "1 fold" if len(to_train) == 1 else f"{len(to_train)} folds"
        log.info("about %s left for %s", duration(seconds), folds)

    def _seconds_per_token(self, member: str) -> float:
        if self._trained[member]:
            return self._seconds[member] / self._trained[member]
        return sum(self._seconds.values()) / sum(self._trained.values())
