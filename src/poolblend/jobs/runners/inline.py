"""Do jobs one after another in this process."""

from __future__ import annotations

import gc
import time

from poolblend.errors import Stopped
from poolblend.jobs.runners.seam import Order, Outcome, Work


class InlinePool:
    """Does each order when it is collected. Errors are raised as they are."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._order: Order | None = None
        self._stop: Stopped | None = None
        self._froze = False

    def has_room(self, order: Order) -> bool:
        return self._order is None

    def submit(self, order: Order) -> None:
        self._order = order

    def collect(self, seconds: float) -> list[tuple[Order, Outcome | Exception]]:
        order, self._order = self._order, None
        if order is None:
            time.sleep(seconds)
            return []
        return [(order, self._stop or self.work(order.task))]

    def stop(self, why: Stopped) -> None:
        self._stop = why

    def __enter__(self) -> InlinePool:
        # Each fold collects garbage; what was made before is none, and looking there takes longer
        # than a small fold.
        self._froze = gc.get_freeze_count() == 0
        if self._froze:
            gc.collect()
            gc.freeze()
        return self

    def __exit__(self, *_: object) -> None:
        if self._froze:
            gc.unfreeze()
