"""Do jobs on a Ray cluster: the command's side.

This process locks, notes and keeps, one thread for each job; the nodes compute. Where they see the
folder of the store, they write there; where they do not, a job's files travel with it, and what it
has made comes back and is checked.
"""

from __future__ import annotations

import logging
import queue
import random
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolblend.config import Cluster
from poolblend.errors import Stopped, UserError
from poolblend.jobs.runners import nodes
from poolblend.jobs.runners.child import Surroundings
from poolblend.jobs.runners.display import Progress, Relay
from poolblend.jobs.runners.seam import Order, Outcome, Work
from poolblend.store import Store, UnwritableError
from poolblend.store.parcels import files_of, marked, receive

if TYPE_CHECKING:
    from poolblend.jobs.runners.node import Place, References, Sent

log = logging.getLogger(__name__)

AHEAD = 2  # jobs are handed to Ray for so many times the cluster's room
HEARD = 0.5  # seconds between two looks at what tasks say
PATIENCE = 20.0  # seconds for tasks to end after an error


@contextmanager
def open_cluster(
    work: Work, cluster: Cluster, n_orders: int, store: Store
) -> Iterator[ClusterPool | None]:
    """A pool for so many orders; None where `auto` finds no cluster."""
    ray = nodes.import_ray()
    ours = not ray.is_initialized()
    if ours and not nodes.connect(ray, cluster.address):
        yield None
        return
    try:
        living = [node for node in ray.nodes() if node["Alive"]]
        able = [node for node in living if node["Resources"].get("CPU", 0) >= 1]
        resources = [node["Resources"] for node in able]
        room = nodes.room_of(resources, work.on_cluster, n_orders, cluster.most)
        with marked(store) as marker:
            seen = nodes.look_at(ray, living, marker)
        nodes.announce(len(able), room, seen, store)
        places = [node["NodeID"] for node in able]
        root = store.root if seen else None
        with ClusterPool(ray, work, room, n_orders, places, root=root) as pool:
            yield pool
    finally:
        if ours:
            ray.shutdown()


class ClusterPool:
    """Does `work` on the cluster's `able` nodes; `root` is the store's folder where all see it."""

    def __init__(
        self,
        ray: Any,
        work: Work,
        room: nodes.Room,
        n_orders: int,
        able: list[str],
        *,
        root: Path | None,
    ) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        from poolblend.jobs.runners import node

        self.ray, self.work, self.room, self.root = ray, work, room, root
        self._able, self._on = able, On
        self._most = room.jobs * AHEAD
        errors = ray.exceptions
        self._dead = (errors.NodeDiedError, errors.LocalRayletDiedError, errors.ObjectLostError)
        self._stop: Stopped | None = None
        self._numbers: dict[int, Order] = {}  # of orders in hand
        self._places: dict[int, Place] = {}  # of those that have begun
        self._references: dict[str, tuple[Any, int]] = {}  # of files on their way, with users
        self._ended: queue.Queue[tuple[int, Outcome | Exception]] = queue.Queue()
        self._here, self._storing = threading.local(), threading.Lock()
        self._relay = Relay(work)
        self._progress = Progress(n_orders)
        here = On(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(node.Switchboard).options(num_cpus=0, scheduling_strategy=here)
        self._switchboard = actor.remote()
        takes = {"num_cpus": room.threads, "num_gpus": room.gpus, "max_retries": 0}
        self._task = partial(ray.remote(node.work_here).options, **takes)
        self._sent = self._send()

    def has_room(self, order: Order) -> bool:
        return len(self._numbers) < self._most

    def submit(self, order: Order) -> None:
        number = next(n for n in range(2, self._most + 3) if n not in self._numbers)
        self._numbers[number] = order
        threading.Thread(target=self._call, args=(number, order), daemon=True).start()

    def collect(self, seconds: float) -> list[tuple[Order, Outcome | Exception]]:
        end = time.monotonic() + seconds
        ended: list[tuple[int, Outcome | Exception]] = []
        while not ended:
            self._hear()
            left = end - time.monotonic()
            with suppress(queue.Empty):
                ended.append(self._ended.get(timeout=max(0.0, min(left, HEARD))))
            if left <= 0:
                break
        with suppress(queue.Empty):
            while True:
                ended.append(self._ended.get_nowait())
        if ended:
            self._hear()  # what they have said at their ends
        answers = []
        for number, outcome in ended:
            answers.append((self._numbers.pop(number), outcome))
            self._places.pop(number, None)
            self._relay.display.clear(number)
            self._progress.count(outcome)
        self._progress.show(place.machine for place in self._places.values())
        return answers

    def stop(self, why: Stopped) -> None:
        self._stop = why
        with suppress(self.ray.exceptions.RayError):
            self.ray.get(self._switchboard.stop.remote(why))

    def __enter__(self) -> ClusterPool:
        self.work.elsewhere = self._elsewhere
        return self

    def __exit__(self, *_: object) -> None:
        self.work.elsewhere = None
        if self._numbers:
            self.stop(self._stop or Stopped("stopped", 1))
            end = time.monotonic() + PATIENCE
            while self._numbers and time.monotonic() < end:
                self.collect(HEARD)
        self._progress.close()
        self._relay.display.close()
        self.ray.kill(self._switchboard)
        if self.root is None:
            from poolblend.jobs.runners.node import clean

            living = [node for node in self.ray.nodes() if node["Alive"]]
            asked = nodes.ask_all(self.ray, living, clean, self._sent.key)
            self.ray.wait(asked, num_returns=len(asked), timeout=PATIENCE)

    # --- in the thread of an order --------------------------------------------------------------

    def _call(self, number: int, order: Order) -> None:
        self._here.number, self._here.order = number, order
        try:
            outcome: Outcome | Exception = self.work(order.task)
        except Exception as error:
            outcome = error
        self._ended.put((number, outcome))

    def _elsewhere(self, task: Any) -> Any:
        """What a node has computed, or raised."""
        number, name, lost = self._here.number, self._here.order.name, 0
        do = self._task()
        while True:
            with self._travelling(task) as files:
                made = do.remote(number, task, files, self._sent, self._switchboard)
                reply = self._await(made, number)
            place = self._places.pop(number, None)
            result = reply if isinstance(reply, Exception) else reply.result
            if isinstance(reply, Exception):
                reason = f"{_where(place)} {_how_it_ended(reply, self.ray)}"
                if isinstance(reply, self._dead) or not self._is_alive(place):
                    log.warning("%s has died; %s goes on elsewhere", _where(place), name)
                    continue
            elif self.root is None and isinstance(result, (OSError, UnwritableError)):
                reason = f"{_where(place)} cannot keep its files ({nodes.one_line(result)})"
            else:
                if reply.made:
                    with self._storing:
                        receive(self.work.store, reply.made)
                if isinstance(result, Exception):
                    raise result
                return result
            lost += 1
            if lost > 1:
                raise UserError(f"{reason}, as did one before it")
            log.warning("%s; %s is given to another process", reason, name)
            do = self._on_another_node(place)

    def _is_alive(self, place: Place | None) -> bool:
        return place is not None and nodes.stays_alive(self.ray, place.node)

    def _on_another_node(self, place: Place | None) -> Any:
        """The task on a node other than that, if there is one: what failed there may fail again."""
        known = [node for node in self._able if place is not None and node != place.node]
        others = [node for node in known if node in nodes.living(self.ray)]
        where = self._on(random.choice(others), soft=True) if others else None
        return self._task(scheduling_strategy=where)

    def _await(self, made: Any, number: int) -> Any:
        """The reply; the error where the process or the node has died."""
        exceptions = self.ray.exceptions
        while not self.ray.wait([made], timeout=HEARD)[0]:
            if self._stop is not None and number not in self._places:
                self.ray.cancel(made)
                raise self._stop
        try:
            return self.ray.get(made)
        except exceptions.TaskCancelledError:
            raise self._stop or Stopped("cancelled by Ray", 1) from None
        except exceptions.RayTaskError as error:  # of our own code on the node
            raise error.as_instanceof_cause() from None
        except exceptions.RayError as error:
            return error

    # --- files ----------------------------------------------------------------------------------

    def _send(self) -> Sent:
        """What all tasks share; the nodes fetch it once."""
        from poolblend.jobs.runners.node import Sent

        backbones: dict[tuple[str, str], References] = {}
        for found in self.work.backbones() if self.root is None else ():
            files = (file for file in found.folder.iterdir() if file.is_file())
            backbones[found.weights_sha256, found.files_sha256] = {
                file.name: self.ray.put(file.read_bytes()) for file in files
            }
        sent = self.ray.put(self.work)
        columns, lines = shutil.get_terminal_size()
        levels = {name: logging.getLogger(name).getEffectiveLevel() for name in ("", "poolblend")}
        surroundings = Surroundings(
            self.room.threads,
            {"COLUMNS": str(columns), "LINES": str(lines)},
            levels,
            sys.stderr.isatty(),
            getattr(sys.stderr, "encoding", None) or "utf-8",
        )
        return Sent(uuid.uuid4().hex[:12], sent, backbones, surroundings, self.root)

    @contextmanager
    def _travelling(self, task: Any) -> Iterator[References]:
        """References to the files that the task reads; tasks at the same time share them."""
        names: list[str] = []
        if self.root is None:
            root = self.work.store.root
            names = files_of(root, self.work.reads(task))
        with self._storing:
            for name in names:
                reference, users = self._references.get(name, (None, 0))
                if reference is None:
                    reference = self.ray.put((root / name).read_bytes())
                self._references[name] = reference, users + 1
        try:
            yield {name: self._references[name][0] for name in names}
        finally:
            with self._storing:
                for name in names:
                    reference, users = self._references.pop(name)
                    if users > 1:
                        self._references[name] = reference, users - 1

    def _hear(self) -> None:
        for number, kind, content in self.ray.get(self._switchboard.hear.remote()):
            if kind == "began":
                self._places[number] = content
            else:
                self._relay.take(number, kind, content)


def _where(place: Place | None) -> str:
    return "a node" if place is None else f"process {place.process} on {place.machine}"


def _how_it_ended(error: Exception, ray: Any) -> str:
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "was ended by Ray, since the node's memory ran out"
    return f"has ended ({nodes.one_line(error)})"
