"""What is shown of work that others do: a bar for each at the bottom, other text in whole lines."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tqdm.std import tqdm

from poolblend.jobs.runners.seam import Outcome, Work
from poolblend.printing import hide_bars

log = logging.getLogger(__name__)

TEXTS = "poolblend.loading.texts"
TOLD = 30.0  # seconds between two lines about the progress of all jobs


class Relay:
    """Shows what workers say; `work` takes what they note."""

    def __init__(self, work: Work) -> None:
        self.display, self._work = Display(), work
        self._texts: set[str] = set()  # logged by TEXTS in workers

    def take(self, worker: int, kind: str, content: Any) -> None:
        """Log records, text for the terminal, and notes; anything else is left out."""
        if kind == "record":
            self._log(content)
        elif kind == "text":
            self.display.write(worker, content)
        elif kind == "note":
            self._work.note(content)

    def _log(self, record: logging.LogRecord) -> None:
        """A worker's log line; what all find out for themselves is logged once."""
        if record.name == TEXTS and record.msg in self._texts:
            return
        if record.name == TEXTS:
            self._texts.add(record.msg)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


class Display:
    """What workers write to their terminals comes here in pieces."""

    def __init__(self) -> None:
        self._rest: dict[int, str] = {}  # of each worker: text after the last line break
        self._bars: dict[int, tqdm] = {}

    def write(self, worker: int, text: str) -> None:
        """A piece of what the worker writes; what follows a carriage return is a progress bar."""
        *lines, rest = (self._rest.get(worker, "") + text).split("\n")
        for line in lines:
            shown = line.rpartition("\r")[2].rstrip()
            if shown:
                self.clear(worker)
                tqdm.write(shown, file=sys.stderr)
        before, mark, now = rest.rpartition("\r")
        self._rest[worker] = mark + now
        if mark:
            # tqdm wipes a bar with blanks between two carriage returns.
            self._show(worker, now.rstrip() or before.rpartition("\r")[2].rstrip())

    def clear(self, worker: int) -> None:
        """The worker has no bar any more."""
        bar = self._bars.pop(worker, None)
        if bar is not None:
            bar.close()

    def close(self) -> None:
        for worker in list(self._bars):
            self.clear(worker)

    def _show(self, worker: int, text: str) -> None:
        if not text:
            self.clear(worker)
            return
        if worker not in self._bars:
            self._bars[worker] = tqdm(
                bar_format="{desc}", position=worker - 1, leave=False, file=sys.stderr
            )
        self._bars[worker].set_description_str(text)


class Progress:
    """Of all jobs: a bar on a terminal, else a line now and then."""

    def __init__(self, n: int) -> None:
        self._n, self._done, self._failed = n, 0, 0
        self._began = self._told = time.monotonic()
        self._bar = tqdm(total=n, unit="job", disable=hide_bars(), leave=False, file=sys.stderr)

    def count(self, outcome: Outcome | Exception) -> None:
        """An order has ended."""
        state = outcome.state if isinstance(outcome, Outcome) else ""
        self._done += state == "done"
        self._failed += state in ("failed", "lost")
        self._bar.update(state in ("done", "failed", "lost"))

    def show(self, running: Iterable[str]) -> None:
        """Say how it stands, if that is due; `running` has a machine's name for each job there."""
        machines = Counter(running)
        where = ", ".join(f"{machine} {n}" for machine, n in sorted(machines.items()))
        self._bar.set_description_str(where, refresh=False)
        self._bar.set_postfix(failed=self._failed)
        now, ended = time.monotonic(), self._done + self._failed
        if not self._bar.disable or now - self._told < TOLD or ended == self._n:
            return
        self._told = now
        rate = 60 * ended / (now - self._began)
        left = ""
        if ended:
            left = f", {rate:.1f} a minute, about {(self._n - ended) / rate:.0f} min left"
        n_running = sum(machines.values())
        log.info(
            "%d of %d jobs done, %d running (%s), %d waiting, %d failed%s",
            self._done,
            self._n,
            n_running,
            where or "none",
            self._n - ended - n_running,
            self._failed,
            left,
        )

    def close(self) -> None:
        self._bar.close()
