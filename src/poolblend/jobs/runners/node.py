"""Do a task on a node of a cluster: the node's side.

A process there does one task after another for the same command, and keeps what it was sent: the
work, and a backbone that the node lacks. On a GPU each task has a process of its own.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ray
import torch
from threadpoolctl import threadpool_limits

from poolblend.cards.provenance import Provenance
from poolblend.errors import Stopped
from poolblend.jobs.runners.child import Surroundings, do, send_log
from poolblend.jobs.runners.seam import Work
from poolblend.store import Store
from poolblend.store.parcels import Depot, Hashes, Parcel, made_since

HEARD = 0.5  # seconds between two looks for a stop
SILENCE = 600.0  # seconds without the command's process, after which a task stops
LOST = Stopped("the process of the command cannot be reached", 1)

References = Mapping[str, Any]  # to the contents of files in Ray's object store, by their paths


class Sent(NamedTuple):
    """What all tasks of a command have in common: read once by each process.

    `backbones` are the files of each backbone of the run, by its hashes. `work` and they are
    references, which are followed where they are needed. `root` is the folder of the store, where
    the nodes have it; None: each task has a store of its own.
    """

    key: str
    work: Any
    backbones: Mapping[Hashes, References]
    surroundings: Surroundings
    root: Path | None


class Reply(NamedTuple):
    """What `Work.compute` returned or raised, and the files that it made in a store of its own."""

    result: Any
    made: Parcel


class Node(NamedTuple):
    """What a node is."""

    name: str
    sees: bool  # the marker, in the folder of the store
    versions: dict[str, str | None]


def look(marker: Path) -> Node:
    """Of the node where this is called."""
    here = Provenance.here()
    return Node(platform.node(), marker.exists(), {"python": here.python, **here.libraries})


def clean(key: str) -> None:
    """Remove what tasks with this key have left on the node where this is called."""
    Depot(key).clear()


class Place(NamedTuple):
    """Where a task is done: the machine's name, the process, and Ray's number of the node."""

    machine: str
    process: int
    node: str


class Switchboard:
    """An actor between the tasks and the command's process."""

    def __init__(self) -> None:
        self._said: list[tuple[int, str, Any]] = []
        self._stop: Stopped | None = None

    def say(self, number: int, what: list[tuple[str, Any]]) -> Stopped | None:
        """What a task says; answers why it is to stop, if there is a reason."""
        self._said += [(number, kind, content) for kind, content in what]
        return self._stop

    def hear(self) -> list[tuple[int, str, Any]]:
        """What tasks have said since the last call: (number of the task, kind, content)."""
        said, self._said = self._said, []
        return said

    def stop(self, why: Stopped) -> None:
        self._stop = why


class LineToSwitchboard:
    """A task's way to the process of the command; a thread carries what is said."""

    def __init__(self, number: int, switchboard: Any) -> None:
        self._number, self._switchboard = number, switchboard
        self._waiting: list[tuple[str, Any]] = []
        self._stop: Stopped | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def send(self, kind: str, content: Any = None) -> None:
        self._waiting.append((kind, content))

    def put_nowait(self, record: Any) -> None:
        """So that a QueueHandler takes this for its queue."""
        self.send("record", record)

    def note(self, what: Any) -> None:
        self.send("note", what)

    def stop(self) -> Stopped | None:
        return self._stop

    def __enter__(self) -> LineToSwitchboard:
        here = ray.get_runtime_context().get_node_id()
        self.send("began", Place(platform.node(), os.getpid(), here))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def _carry(self) -> None:
        closed = False
        while not closed:
            closed = self._closed.is_set()
            waiting, self._waiting = self._waiting, []
            try:
                answer = self._switchboard.say.remote(self._number, waiting)
                self._stop = ray.get(answer, timeout=SILENCE) or self._stop
            except ray.exceptions.RayError:
                self._stop = self._stop or LOST
            self._closed.wait(HEARD)


_kept: dict[str, Work] = {}  # the work of the command that this process does tasks for


def work_here(number: int, task: Any, files: References, sent: Sent, switchboard: Any) -> Reply:
    """Do the task; `files` are those that it reads, for a store of its own."""
    with LineToSwitchboard(number, switchboard) as line:
        send_log(line, sent.surroundings)
        torch.set_num_threads(sent.surroundings.threads)
        threadpool_limits(sent.surroundings.threads)
        work = _kept.get(sent.key)
        if work is None:
            _kept.clear()
            work = _kept[sent.key] = ray.get(sent.work)
        work.enter(line)
        if sent.root is not None:
            return Reply(do(work.compute, task), {})
        return _in_a_store_of_its_own(work, task, files, sent)


def _in_a_store_of_its_own(work: Work, task: Any, files: References, sent: Sent) -> Reply:
    depot, parcel = Depot(sent.key), _fetched(files)
    fetch = partial(depot.backbone, lambda hashes: _fetched(sent.backbones[hashes]))
    with depot.filled(parcel) as root:
        store = Store(root, work.store.run, output=depot.folder)
        work.move(store, fetch)
        result = do(work.compute, task)
        return Reply(result, made_since(root, parcel))


def _fetched(files: References) -> Parcel:
    return dict(zip(files, ray.get(list(files.values())), strict=True))
