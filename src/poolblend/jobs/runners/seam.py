"""The seam between the queue of a command's jobs and where they are done.

The queue hands out `Order`s and collects `Outcome`s; a `Pool` takes them to where they are done:
to this process, to worker processes, to a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from poolblend.config import OnCluster
from poolblend.errors import Stopped
from poolblend.modeling.sources import Located
from poolblend.store import Store

WAIT = 0.5  # seconds between two looks at what other processes do


class Order(NamedTuple):
    """One job of the queue; `task` is what the work is called with, and can be sent elsewhere.

    Orders of one `kind` take about as much memory.
    """

    name: str
    kind: str
    task: Any


class Outcome(NamedTuple):
    """How an order ended.

    elsewhere: another process holds its lock; failed: for a reason of its own; lost: with the
    process that did it.
    """

    state: Literal["done", "elsewhere", "failed", "lost"]
    reason: str = ""
    value: Any = None


class Work(Protocol):
    """What is done with each task: made by the command, and sent to each worker once.

    On a cluster the command's process calls it, one thread for each task, and `compute` alone is
    called on the nodes, by way of `elsewhere`.
    """

    store: Store
    on_cluster: OnCluster  # what a task takes
    elsewhere: Callable[[Any], Any] | None  # instead of `compute`, where it is set

    def __call__(self, task: Any, /) -> Outcome:
        """Do the task. An error that it raises concerns all tasks, and ends the command."""
        ...

    def compute(self, task: Any) -> Any:
        """The part that takes long; nothing is locked or noted in it."""
        ...

    def reads(self, task: Any) -> list[Path]:
        """Files and folders of the store that `compute` reads, where they exist."""
        ...

    def backbones(self) -> Iterable[Located]:
        """What `compute` reads besides, as it lies on this machine."""
        ...

    def move(self, store: Store, fetch: Callable[[tuple[str, str]], Path]) -> None:
        """On a node: use that store; `fetch` gets backbones that the node lacks, by hashes."""
        ...

    def enter(self, line: Line) -> None:
        """Called once in a process other than the one that made it, before the first task."""
        ...

    def note(self, what: Any) -> None:
        """In the process of the command: what a worker has noted on its line."""
        ...


class Line(Protocol):
    """A worker's way to the process of the command."""

    def stop(self) -> Stopped | None:
        """Why to stop now, if there is a reason; to be asked after every step."""
        ...

    def note(self, what: Any) -> None:
        """Send something small to `Work.note`."""
        ...


class Pool(Protocol):
    """A place where orders are done."""

    def has_room(self, order: Order) -> bool:
        """Whether the order can be begun now."""
        ...

    def submit(self, order: Order) -> None:
        """Take an order that there is room for."""
        ...

    def collect(self, seconds: float) -> list[tuple[Order, Outcome | Exception]]:
        """What has ended, waiting at most so long for the first; an error concerns all orders."""
        ...

    def stop(self, why: Stopped) -> None:
        """End all orders in order; they are still to be collected, as this error or another."""
        ...
