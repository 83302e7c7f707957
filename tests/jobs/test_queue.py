"""The queue knows nothing of where its orders are done: here a pool of answers given beforehand."""

import pytest

from poolblend.errors import Stopped, UserError
from poolblend.jobs.runners.queue import Queue
from poolblend.jobs.runners.seam import Order, Outcome
from poolblend.jobs.watch import CONTINUE, Watch

DONE, ELSEWHERE, LOST = (
    Outcome("done"),
    Outcome("elsewhere"),
    Outcome("lost", "worker 1 was killed"),
)
LATE = Stopped(f"stopped before the time limit; {CONTINUE}", 0)
ASKED = Stopped(f"stopped by SIGINT; {CONTINUE}", 130)


class Scripted:
    """Has room for `room` orders; answers each as `answers` says, one at a time, else as done.

    `log` has what was submitted, and the stop.
    """

    def __init__(self, room=2, **answers):
        self.room, self.answers, self.running, self.log = room, answers, [], []

    def has_room(self, order):
        return len(self.running) < self.room

    def submit(self, order):
        self.log.append(order.name)
        self.running.append(order)

    def collect(self, seconds):
        if not self.running:
            self.log.append("rest")
            return []
        order = self.running.pop(0)
        answers = self.answers.get(order.name, [])
        return [(order, answers.pop(0) if answers else DONE)]

    def stop(self, why):
        self.log.append("stop")
        for order in self.running:
            self.answers[order.name] = [Stopped(f"{why} {order.name}", why.status)]


class Lock:
    def is_held(self):
        return True

    def holder(self):
        return "process 7 on another"


class Clock(Watch):
    """Says so after it was asked so many times."""

    def __init__(self, times):
        super().__init__()
        self.left = times

    def due(self):
        self.left -= 1
        return ASKED if self.left < 0 else None


def run(pool, names="abc", watch=None, prepare=lambda order: order):
    orders = [Order(name, "kind", None) for name in names]
    queue = Queue(orders, {name: Lock() for name in names}, watch or Watch(), prepare)
    return [(order.name, outcome.state) for order, outcome in queue.run(pool)]


def test_orders_are_begun_in_order_and_each_ends_once():
    pool = Scripted()
    assert run(pool) == [("a", "done"), ("b", "done"), ("c", "done")]
    assert pool.log == ["a", "b", "c"]


def test_a_lost_order_is_given_away_once_more_before_all_others(caplog):
    pool = Scripted(room=1, a=[LOST])
    assert run(pool) == [("a", "done"), ("b", "done"), ("c", "done")]
    assert pool.log == ["a", "a", "b", "c"]
    assert [each.getMessage() for each in caplog.records] == [
        "worker 1 was killed; a is given to another worker"
    ]
    assert run(Scripted(room=1, a=[LOST, LOST])) == [("a", "lost"), ("b", "done"), ("c", "done")]


def test_what_another_process_does_is_asked_for_again_after_a_rest(caplog):
    caplog.set_level("INFO", logger="poolblend")
    pool = Scripted(a=[ELSEWHERE, ELSEWHERE])
    assert run(pool) == [("b", "done"), ("c", "done"), ("a", "done")]
    assert pool.log == ["a", "b", "c", "rest", "a", "rest", "a"]
    told = "waiting for 1 of the jobs, which another process is doing (a by process 7 on another)"
    assert [each.getMessage() for each in caplog.records] == [told]


def test_an_order_waits_for_what_it_needs():
    pool, done = Scripted(), set()

    def prepare(order):
        return order if order.name != "a" or "c" in done else None

    orders = [Order(name, "kind", None) for name in "abc"]
    for order, _ in Queue(orders, {}, Watch(), prepare).run(pool):
        done.add(order.name)
    assert [name for name in pool.log if name != "rest"] == ["b", "c", "a"]


def test_a_stop_names_the_places_of_all_workers():
    pool = Scripted()
    with pytest.raises(Stopped) as end:
        run(pool, watch=Clock(2))
    assert pool.log == ["a", "b", "stop"]
    assert str(end.value) == f"{ASKED} a, b"
    assert end.value.status == 130


def test_one_workers_time_limit_begins_nothing_and_leaves_the_others_theirs():
    pool = Scripted(a=[LATE])
    orders, ended = [Order(name, "kind", None) for name in "abc"], []
    with pytest.raises(Stopped, match="time limit"):
        for order, _ in Queue(orders, {}, Watch()).run(pool):
            ended.append(order.name)
    assert pool.log == ["a", "b"]
    assert ended == ["b"]


def test_an_error_that_concerns_all_stops_the_others_in_order():
    pool = Scripted(a=[UserError("the disk is gone")])
    with pytest.raises(UserError, match="the disk is gone"):
        run(pool)
    assert pool.log == ["a", "b", "stop"]
