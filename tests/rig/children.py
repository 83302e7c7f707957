"""Processes forked from one that has imported everything: a run costs no imports."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing import forkserver
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
SURROUNDINGS = {
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",
    # Several processes on tiny tensors: more threads only wait for each other.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def _forking():
    """multiprocessing's, whose server is started with the first child and has no threads yet."""
    paths = [str(TESTS), str(TESTS.parent / "src")]
    # Those that are there already: of an earlier call, or the user's.
    paths += [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p not in paths]
    os.environ |= SURROUNDINGS | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["rig.preloaded"])
    return forking


def start_server():
    """The server for children is also the one for workers: there is one in a process."""
    _forking()
    forkserver.ensure_running()


class Child:
    """A process at `work(tell, *args)`, as a script would run it; what it prints goes to `log`.

    `told` has what it has told so far, each with the seconds since it began.
    """

    def __init__(self, work, *args, log):
        forking = _forking()
        log.parent.mkdir(parents=True, exist_ok=True)
        self._reader, writer = forking.Pipe(duplex=False)
        self.process = forking.Process(target=_live, args=(work, args, log, writer))
        self.process.start()
        writer.close()
        self.told = []

    def listen(self, seconds=None, until=None):
        """Hear it until it ends, which is True, or has told of `until`, or the time is over."""
        end = None if seconds is None else time.monotonic() + seconds
        while self._reader.poll(None if end is None else max(0.0, end - time.monotonic())):
            try:
                self.told.append(self._reader.recv())
            except EOFError:
                self.process.join()
                return True
            if until is not None and until in self.told[-1][1]:
                return False
        return False

    def send(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        """SIGKILL, and wait for its end."""
        self.process.kill()
        return self.wait()

    def wait(self):
        """Its exit status; of a signal's victim, the negative number of the signal."""
        self.listen()
        return self.process.exitcode


def answer(work, *args, log):
    """What a child tells that does this, and nothing else."""
    child = Child(work, *args, log=log)
    if child.wait():
        raise failure(work.__name__, log)
    return child.told[-1][1]


def failure(name, log):
    """The error of a child that failed, with the end of its log."""
    lines = log.read_text(errors="replace").splitlines()
    return RuntimeError("\n".join([f"{name} failed: see {log}, which ends with", *lines[-20:]]))


def _live(work, args, log, writer):
    import torch
    from tqdm.auto import tqdm

    from poolblend.commands import command_line

    # Whatever shell began this may have told background jobs to ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A server that was started for workers has them blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    with Path(log).open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("poolblend").setLevel(logging.INFO)
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a killed process leaves behind
    started = time.monotonic()

    def tell(what):
        writer.send((time.monotonic() - started, what))

    command_line.run(lambda: work(tell, *args))
