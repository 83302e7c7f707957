"""When a training must stop: at the first SIGINT or SIGTERM, or before its time is up."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from poolblend.errors import Stopped

log = logging.getLogger(__name__)

CONTINUE = "the same command continues"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Watch:
    """Asked between two steps whether to go on; `end` is a time on the monotonic clock."""

    def __init__(self, end: float | None = None) -> None:
        self.end = end
        self._signal: int | None = None
        self._longest: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For another process; the monotonic clock of another machine is another one."""
        ends = None if self.end is None else time.time() + self.end - time.monotonic()
        return {**self.__dict__, "end": ends}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.end is not None:
            self.end += time.monotonic() - time.time()

    def took(self, what: str, seconds: float) -> None:
        """Learn how long it may take from one question to the next, and then to stop in order."""
        self._longest[what] = max(self._longest.get(what, 0.0), seconds)

    def due(self) -> Stopped | None:
        """Why to stop now, if there is a reason."""
        if self._signal is not None:
            name = signal.Signals(self._signal).name
            return Stopped(f"stopped by {name}; {CONTINUE}", 128 + self._signal)
        reserve = 2 * sum(self._longest.values())
        if self.end is not None and time.monotonic() + reserve >= self.end:
            # What is finished can be blended: not a failure.
            return Stopped(f"stopped before the time limit; {CONTINUE}", 0)
        return None

    def check(self) -> None:
        """Raise Stopped where that is due and nothing has to be written first."""
        stop = self.due()
        if stop is not None:
            raise stop

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note the first signal instead of dying of it; the second acts as it always does.

        Outside the main thread, which alone can listen, signals stay as they are.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}

        def note(number: int, _: FrameType | None) -> None:
            self._signal = number
            for each in SIGNALS:
                signal.signal(each, before[each] or signal.SIG_DFL)
            log.warning(
                "%s: finishing the step at hand; once more to leave at once",
                signal.Signals(number).name,
            )

        for number in SIGNALS:
            # Ignored under nohup or in a shell's background job; None is not Python's to restore.
            if before[number] not in (signal.SIG_IGN, None):
                signal.signal(number, note)
        try:
            yield
        finally:
            for number in SIGNALS:
                if before[number] is not None:
                    signal.signal(number, before[number])
