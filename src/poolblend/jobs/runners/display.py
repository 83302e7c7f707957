"""One display of all workers: a progress bar for each at the bottom, other text in whole lines."""

from __future__ import annotations

import sys

from tqdm.std import tqdm


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
