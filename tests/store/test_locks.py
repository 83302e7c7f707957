"""A lock is one process's alone, and that of a process that dies is free."""

import os
import subprocess
import sys

import pytest

from poolblend.errors import UserError
from poolblend.store import ProcessLock

HOLDER = """
import sys
from pathlib import Path
from poolblend.store.locks import ProcessLock
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


def test_a_lock_is_one_processs_until_it_is_released_or_its_process_dies(path, elsewhere):
    lock = ProcessLock(path)
    assert not lock.is_held()
    assert not path.parent.exists()  # asking makes no file
    assert lock.acquire(wait=False)
    _, got = elsewhere()
    assert not got
    lock.release()
    lock.release()
    process, got = elsewhere()
    assert got
    assert not lock.acquire(wait=False)
    assert lock.is_held()
    assert lock.holder().startswith(f"process {process.pid} on ")
    process.kill()
    process.wait()
    assert not lock.is_held()
    with lock:
        assert lock.holder().startswith(f"process {os.getpid()} on ")
    assert path.exists()  # the file stays


def test_a_file_system_without_locks_is_logged_and_used_all_the_same(path, monkeypatch, caplog):
    def unknown(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unknown)
    with ProcessLock(path):
        assert "no locks on this file system; start one process at a time" in caplog.text


def test_a_place_for_no_lock_is_one_line(path):
    path.parent.write_text("a file in the way")
    with pytest.raises(UserError, match="could not lock .*set `store` to another"):
        ProcessLock(path).acquire()
