"""One display of all workers: a progress bar for each at the bottom, other text in whole lines."""

from __future__ import annotations

import logging
import sys
from typing import Any

from tqdm.std import tqdm

from poolblend.jobs.runners.seam import Work

TEXTS = "poolblend.loading.texts"


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
