"""How many workers there are, and when one more may begin."""

import io
from multiprocessing import Pipe

import pytest
import torch

from poolblend.errors import Stopped, UserError
from poolblend.jobs.runners import memory, pools, processes
from poolblend.jobs.runners.display import Display
from poolblend.jobs.runners.inline import InlinePool
from poolblend.jobs.runners.memory import MemoryGuard, Running, Use
from poolblend.jobs.runners.processes import ProcessPool
from poolblend.jobs.runners.seam import Order
from poolblend.store import Store

GB = 1e9


@pytest.mark.parametrize(
    ("workers", "n_orders", "threads", "most", "each"),
    [
        ("auto", 9, 2, 2, 1),
        ("auto", 3, 8, 3, 2),
        ("auto", 100, 64, 16, 4),  # not more than share a machine's memory well
        ("auto", 0, 4, 1, 4),
        (2, 9, 2, 2, 1),
        (7, 3, 2, 3, 1),  # not more than there are jobs
        (3, 9, 8, 3, 2),
    ],
)
def test_threads_are_divided_among_workers(monkeypatch, workers, n_orders, threads, most, each):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(pools, "usable_cores", lambda: 64.0)
    assert pools.make_plan(workers, n_orders) == (most, each, ())


@pytest.mark.parametrize(("workers", "most"), [("auto", 8), (3, 3)])
def test_workers_take_the_gpus_that_the_user_allows(monkeypatch, workers, most):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    plan = pools.make_plan(workers, 100)
    assert (plan.most, plan.gpus) == (most, ("3", "5"))


def test_one_worker_is_this_process(tmp_path):
    with pools.open_pool(None, 1, 9, Store(tmp_path, "run")) as (pool, n):
        assert isinstance(pool, InlinePool)
        assert n == 1


@pytest.fixture
def guard(monkeypatch):
    """A guard on a machine of 10 GB, whose free memory is what the returned list holds last."""
    free = [10 * GB]
    monkeypatch.setattr(memory, "free_memory", lambda: (free[-1], 10 * GB))
    return MemoryGuard(), free


def fits(guard, *others, kind="a", gpu_free=None):
    running = [Running(name, Use(now * GB, now * GB), True) for name, now in others]
    return guard.fits(kind, running, held=Use(0), gpu_free=gpu_free)


def test_the_first_job_of_a_kind_runs_alone_until_it_is_measured(guard):
    guard, _ = guard
    assert fits(guard)
    assert not fits(guard, ("a", 1))
    guard.saw("a", Use(1 * GB))
    guard.measured("a")
    assert fits(guard, ("a", 1))
    assert not fits(guard, ("a", 1), kind="b")
    assert not fits(guard, ("b", 1))


def test_another_begins_only_where_all_that_run_can_grow_to_what_their_kind_took(guard):
    guard, free = guard
    guard.saw("a", Use(2 * GB))
    guard.measured("a")
    # 3 GB for it, 2 more for the one that runs with 1, and 1 of the machine's 10 stays free.
    free.append(6.1 * GB)
    assert fits(guard, ("a", 1))
    free.append(5.9 * GB)
    assert not fits(guard, ("a", 1))
    guard.measured("a", ended=True)  # 2.5 and 1.5
    assert fits(guard, ("a", 1))


def test_a_gpu_is_shared_only_while_its_own_memory_lasts(guard):
    guard, _ = guard
    guard.saw("a", Use(0, 4 * GB))
    guard.measured("a", ended=True)
    assert fits(guard, ("a", 5), gpu_free=6 * GB)
    assert not fits(guard, ("a", 5), gpu_free=5.5 * GB)  # 5, and what a process takes itself
    elsewhere = [Running("a", Use(0, 5 * GB), False)]
    assert guard.fits("a", elsewhere, held=Use(0), gpu_free=0.0)


def test_locks_that_do_nothing_are_said_once_to_protect_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pools, "try_locking", lambda folder: False)
    with pools.open_pool(None, 2, 9, Store(tmp_path, "run")) as (_, n):
        assert n == 2
    (line,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert line.startswith(
        f"{tmp_path} does not honour locks: the workers of this command are safe"
    )


class Process:
    """A worker process, of which the test holds the other end of the pipe."""

    def __init__(self, pid):
        self.pid, self.exitcode = pid, None

    def join(self, timeout=None):
        pass

    def kill(self):
        self.exitcode = -9


@pytest.fixture
def started(monkeypatch):
    """The workers that a pool starts: (process, our end of its pipe)."""
    made = []

    def start(*_):
        here, there = Pipe()
        made.append((Process(len(made) + 1), there))
        return made[-1][0], here

    monkeypatch.setattr(processes, "start_process", start)
    monkeypatch.setattr(processes, "held_by", lambda pid: 1 * GB)
    return made


def ends(worker, status):
    process, pipe = worker
    process.exitcode = status
    pipe.close()


def test_workers_that_cannot_start_end_the_command(started):
    with ProcessPool(None, 2, 1) as pool:
        pool.submit(Order("a", "kind", "task"))
        pool.submit(Order("b", "kind", "task"))
        ends(started[0], 1)
        (lost,) = pool.collect(0)
        assert lost[1].state == "lost"
        assert lost[1].reason == (
            "worker 1 (process 1) ended with exit status 1 before its first job and is not replaced"
        )
        assert not pool.has_room(Order("a", "kind", "task"))
        ends(started[1], 1)
        with pytest.raises(
            UserError, match="worker 2 .* before its first job; see the lines above"
        ):
            pool.collect(0)


def test_one_that_dies_is_replaced_unless_the_memory_is_guarded(started, guard):
    for watched, room in ((None, True), (guard[0], False)):
        started.clear()
        with ProcessPool("work", 2, 1, guard=watched) as pool:
            for n, name in enumerate("ab"):
                pool.submit(Order(name, "kind", "task"))
                started[n][1].send(("ready", None))
                assert pool.collect(0) == []
                assert [started[n][1].recv() for _ in range(2)] == ["work", "task"]
                started[n][1].send(("steps", None))
                assert pool.collect(0) == []
            ends(started[0], -9)
            ((order, outcome),) = pool.collect(0)
            assert (order.name, outcome.state) == ("a", "lost")
            assert "was killed by SIGKILL, as the system does when memory runs" in outcome.reason
            assert pool.has_room(order) == room
            pool.stop(Stopped("enough", 1))
            assert str(started[1][1].recv()) == "enough"


def test_workers_lines_are_printed_whole(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    display = Display()
    display.write(1, "a warn")
    display.write(2, "another's\nthird ")
    display.write(1, "ing\n")
    display.write(2, "line\n")
    display.write(1, "\rbar:  1%")
    display.write(1, "\rbar: 99%\n")
    display.close()
    assert terminal.getvalue().splitlines() == ["another's", "a warning", "third line", "bar: 99%"]
