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
    """Estimates the time left for the folds in `tokens`, which are trained in that order.

    A member that has been trained already keeps its own speed. Any other is taken to train at its
    `timed` speed (seconds per token, by member), times what those that were trained took of theirs;
    without timed speeds, at the mean speed of those. Folds of frozen encoders (0 tokens) are left
    out.
    """

    def __init__(
        self, tokens: Mapping[tuple[str, int], int], timed: Mapping[str, float] | None = None
    ) -> None:
        self._tokens = {job: n for job, n in tokens.items() if n}
        self._timed = dict(timed or {})
        self._trained: dict[str, float] = defaultdict(float)  # tokens, by member
        self._seconds: dict[str, float] = defaultdict(float)
        self._last, self._done = time.monotonic(), 0.0
        self._reported: set[tuple[str, int]] = set()

    def before(self) -> str:
        """How long all folds will take, before the first; "" where no step was timed."""
        if not self._timed or not self._tokens:
            return ""
        seconds = sum(n * self._seconds_per_token(name) for (name, _), n in self._tokens.items())
        return f"about {duration(seconds)} for {_folds(self._tokens)}"

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
        log.info("about %s left for %s", duration(seconds), _folds(to_train))

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
