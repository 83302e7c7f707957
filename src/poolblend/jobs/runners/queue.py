"""Hand out a command's orders to a pool, in order, and collect how they ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from poolblend.errors import Stopped
from poolblend.jobs.runners.seam import WAIT, Order, Outcome, Pool
from poolblend.jobs.watch import CONTINUE, Watch
from poolblend.store import ProcessLock

log = logging.getLogger(__name__)


class Queue:
    """The orders that are left; `locks` of those that other processes may hold, by name.

    `prepare` gives an order as it is to be submitted, or None where it must wait for others.
    """

    def __init__(
        self,
        orders: Sequence[Order],
        locks: Mapping[str, ProcessLock],
        watch: Watch,
        prepare: Callable[[Order], Order | None] = lambda order: order,
    ) -> None:
        self.locks, self.watch, self.prepare = locks, watch, prepare
        self._places = {order.name: n for n, order in enumerate(orders)}
        self._waiting, self._elsewhere, self._running = list(orders), list[Order](), 0
        self._ends: list[Exception] = []  # why it ends early
        self._told = False  # the pool, of the end
        self._lost: set[str] = set()
        self._said_elsewhere = False

    def run(self, pool: Pool) -> Iterator[tuple[Order, Outcome]]:
        """Orders as they end: done, failed, or lost for the second time.

        Raises Stopped when the watch says so, and an error that concerns all orders; those that
        were running have then ended in order.
        """
        while self._running or ((self._waiting or self._elsewhere) and not self._ends):
            stop = None if self._told else self.watch.due()
            if stop is not None:
                self._end(stop, pool)
            if not self._ends and self._submit(pool):
                continue
            self._log_elsewhere()
            answers = pool.collect(WAIT) if self._running or not self._ends else []
            if not answers and not self._ends:
                self._look_again()
            for order, outcome in answers:
                self._running -= 1
                if isinstance(outcome, Stopped):
                    self._ends.append(outcome)  # by the time limit: others may have longer
                elif isinstance(outcome, Exception):
                    self._end(outcome, pool)
                elif outcome.state == "elsewhere":
                    self._elsewhere.append(order)
                elif outcome.state == "lost" and order.name not in self._lost:
                    self._lost.add(order.name)
                    log.warning("%s; %s is given to another worker", outcome.reason, order.name)
                    self._waiting.insert(0, order)
                else:
                    yield order, outcome
        if self._ends:
            raise _joined(self._ends)

    def _submit(self, pool: Pool) -> bool:
        for order in self._waiting:
            prepared = self.prepare(order)
            if prepared is not None and pool.has_room(prepared):
                self._waiting.remove(order)
                pool.submit(prepared)
                self._running += 1
                return True
        return False

    def _end(self, reason: Exception, pool: Pool) -> None:
        """Hand out nothing more; all that runs is told to stop."""
        self._ends.append(reason)
        if not self._told:
            self._told = True
            pool.stop(reason if isinstance(reason, Stopped) else Stopped(CONTINUE, 2))

    def _log_elsewhere(self) -> None:
        """Say once that other processes do some of the jobs."""
        if self._said_elsewhere:
            return
        held = [each.name for each in self._elsewhere if self.locks[each.name].is_held()]
        if held:
            self._said_elsewhere = True
            log.info(
                "waiting for %d of the jobs, which another process is doing (%s by %s)",
                len(held),
                held[0],
                self.locks[held[0]].holder(),
            )

    def _look_again(self) -> None:
        """Orders that others held may be free now."""
        self._waiting = sorted(
            [*self._waiting, *self._elsewhere], key=lambda order: self._places[order.name]
        )
        self._elsewhere = []


def _joined(ends: Sequence[Exception]) -> Exception:
    """The first error; of stops, one that names the places of all."""
    errors = [end for end in ends if not isinstance(end, Stopped)]
    if errors:
        return errors[0]
    first, places = ends[0], dict[str, None]()
    assert isinstance(first, Stopped)
    for end in ends:
        _, _, place = str(end).partition(CONTINUE)
        if place.strip():
            places[place.strip()] = None
    message = str(first).partition(CONTINUE)[0] + CONTINUE
    return Stopped(f"{message} {', '.join(places)}".strip(), first.status)
