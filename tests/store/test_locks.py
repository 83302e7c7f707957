import os
import subprocess
import sys

import pytest

from poolblend.errors import UserError
from poolblend.store import ProcessLock
from poolblend.store import locks as module

HOLDER = """
import sys
from pathlib import Path
from poolblend.store import ProcessLock
lock = ProcessLock(Path(sys.argv[1]))
print(lock.acquire(wait=False), flush=True)
sys.stdin.read()
lock.release()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / ".fold0.lock"


@pytest.fixture
def elsewhere(path):
    """Starts a process that holds the lock, if it can, until its input ends."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        started.append(process)
        return process, process.stdout.readline().strip() == "True"

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_what_one_process_holds_another_does_not_get(path, elsewhere):
    lock = ProcessLock(path)
    assert lock.acquire(wait=False)
    _, got = elsewhere()
    assert not got
    lock.release()
    process, got = elsewhere()
    assert got
    assert not lock.acquire(wait=False)
    assert lock.is_held()
    assert lock.holder().startswith(f"process {process.pid} on ")


def test_a_process_that_dies_loses_the_lock(path, elsewhere):
    process, got = elsewhere()
    assert got
    process.kill()
    process.wait()
    lock = ProcessLock(path)
    assert path.exists()
    assert not lock.is_held()
    assert lock.acquire(wait=False)
    assert lock.holder().startswith(f"process {os.getpid()} on ")
    lock.release()


def test_only_the_file_of_a_dead_holder_is_swept(path, elsewhere):
    ProcessLock(path).sweep()
    assert not path.parent.exists()
    process, _ = elsewhere()
    ProcessLock(path).sweep()
    assert path.exists()
    process.kill()
    process.wait()
    ProcessLock(path).sweep()
    assert not path.exists()


def test_a_lock_that_is_let_go_leaves_no_file(path):
    with ProcessLock(path):
        assert path.exists()
    assert not path.exists()
    ProcessLock(path).release()


def test_a_file_removed_while_it_was_waited_for_is_no_lock(path, monkeypatch):
    """Between opening the file and locking it, its holder may have removed it."""
    locked = []

    def lock_late(file, wait):
        if not locked:
            path.unlink()
        locked.append(file)
        return True

    monkeypatch.setattr(module, "_lock", lock_late)
    lock = ProcessLock(path)
    assert lock.acquire()
    assert len(locked) == 2
    assert path.exists()
    lock.release()


def test_a_file_system_without_locks_is_told_of_and_used_all_the_same(path, monkeypatch, caplog):
    def unknown(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unknown)
    with ProcessLock(path):
        assert "no locks on this file system; start one process at a time" in caplog.text


def test_a_place_for_no_lock_is_one_line(path):
    path.parent.write_text("a file in the way")
    with pytest.raises(UserError, match="could not lock .*set `store` to another"):
        ProcessLock(path).acquire()
