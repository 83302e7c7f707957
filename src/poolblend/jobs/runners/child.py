"""Do jobs in worker processes of this machine: the worker's side."""

from __future__ import annotations

import copy
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import torch
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from poolblend.errors import Stopped, UserError
from poolblend.jobs.runners.seam import Work

ORPHANED = Stopped("the process of the command has died; the same command continues", 1)
STEPS = 20  # after which a job's memory is known well enough


class Surroundings(NamedTuple):
    """What a worker takes over from the command's process.

    Threads to use, the environment, levels of loggers; whether stderr is a terminal, its encoding.
    """

    threads: int
    environment: Mapping[str, str]
    levels: Mapping[str, int]
    terminal: bool
    encoding: str


class LineToCommand:
    """The way to the process of the command; whatever it sends is whole, from any thread."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.RLock()
        self._stop: Stopped | None = None
        self._steps = 0

    def send(self, kind: str, content: Any = None) -> None:
        with self._lock, suppress(OSError):  # of a command that has died
            self._pipe.send((kind, content))

    def put_nowait(self, record: logging.LogRecord) -> None:
        """So that a QueueHandler takes this for its queue."""
        self.send("record", record)

    def note(self, what: Any) -> None:
        self.send("note", what)

    def stop(self) -> Stopped | None:
        self._steps += 1
        if self._steps % STEPS == 0:
            self.send_gpu()
            self.send("steps")
        if self._stop is None and self._pipe.poll():
            self._receive()
        return self._stop

    def next_task(self) -> Any:
        """The next task, waited for; None where there is none any more."""
        self._steps = 0
        return None if self._stop is not None else self._receive()

    def _receive(self) -> Any:
        try:
            message = self._pipe.recv()
        except (EOFError, OSError):
            message = ORPHANED
        if not isinstance(message, Stopped):
            return message
        self._stop = message
        return None

    def send_gpu(self) -> None:
        """The most that this process has held on its GPU, and what is free there."""
        if torch.cuda.is_available():
            self.send("gpu", (torch.cuda.max_memory_reserved(), torch.cuda.mem_get_info()[0]))
            torch.cuda.reset_peak_memory_stats()


class Sender(Protocol):
    """Takes what goes to the process of the command."""

    def send(self, kind: str, content: Any = None) -> None: ...


class Terminal(io.TextIOBase):
    """Stands for stderr: progress bars and whatever else is written go to the command's process."""

    encoding: str = "utf-8"  # tqdm asks for it

    def __init__(self, line: Sender, surroundings: Surroundings) -> None:
        self._line, self._terminal = line, surroundings.terminal
        self.encoding = surroundings.encoding

    def write(self, text: str) -> int:
        if text:
            self._line.send("text", text)
        return len(text)

    def isatty(self) -> bool:
        return self._terminal

    def writable(self) -> bool:
        return True


def main(pipe: Connection, surroundings: Surroundings) -> None:
    """Do the tasks that come, one after another, until the pipe is closed."""
    line = LineToCommand(pipe)
    os.environ.update(surroundings.environment)
    _ignore_signals()
    send_log(line, surroundings)
    import poolblend.jobs.runners.preloaded  # noqa: F401 - done already in a forked process

    torch.set_num_threads(surroundings.threads)
    threadpool_limits(surroundings.threads)
    line.send("ready")
    work: Work = line.next_task()
    if work is None:
        return
    work.enter(line)
    while (task := line.next_task()) is not None:
        outcome = do(work, task)
        line.send_gpu()
        line.send("outcome", outcome)


def do(work: Callable[[Any], Any], task: Any) -> Any:
    """What the work returns, or its error, as it can be sent."""
    try:
        return work(task)
    except Exception as error:
        return _sendable(error)


def _sendable(error: Exception) -> Exception:
    """The error as it can be raised in another process; a bug with its traceback."""
    if not isinstance(error, (Stopped, UserError, OSError, MemoryError)):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        copy.deepcopy(error)  # as it is taken apart and put together on the way
    except Exception:
        other = RuntimeError(f"{type(error).__name__}: {error}")
        other.add_note("".join(traceback.format_exception(error)))
        return other
    return error


def _ignore_signals() -> None:
    """Leave signals to the command's process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # blocked while this process was started
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def send_log(line: Sender, surroundings: Surroundings) -> None:
    """Leave the log and the terminal to the command's process."""
    sys.stderr = Terminal(line, surroundings)
    handler: Any = QueueHandler(line)  # type: ignore[arg-type]
    logging.basicConfig(format="%(message)s", handlers=[handler], force=True)
    for name, level in surroundings.levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger("poolblend.store.locks").setLevel(logging.ERROR)  # the command has said it
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a killed process leaves behind
