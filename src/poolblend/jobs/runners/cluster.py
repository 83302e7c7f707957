"""Do jobs on a Ray cluster: the command's side.

This process locks, notes and keeps, one thread for each job; the nodes compute. Where they see the
folder of the store, they write there; where they do not, a job's files travel with it, and what it
has made comes back and is checked.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm.std import tqdm

from poolblend.cards.provenance import Provenance
from poolblend.config import Cluster, OnCluster
from poolblend.errors import Stopped, UserError
from poolblend.jobs.runners.child import Surroundings
from poolblend.jobs.runners.display import Relay
from poolblend.jobs.runners.seam import Order, Outcome, Work
from poolblend.store import Store
from poolblend.store.parcels import files_of, marked, receive

if TYPE_CHECKING:
    from poolblend.jobs.runners.node import Place, References, Sent

log = logging.getLogger(__name__)

INSTALL = "install it with pip install 'poolblend[cluster]', on every node"
SAME = ("python", "torch", "transformers", "tokenizers", "numpy")  # versions on all nodes
PASSED_ON = ("GOMP_SPINCOUNT", "TQDM_DISABLE", "HF_HUB_OFFLINE")
STARTED_HERE = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
REACHED = 10.0  # seconds to wait for a cluster's first machine
AHEAD = 2  # jobs are handed to Ray for so many times the cluster's room
HEARD = 0.5  # seconds between two looks at what tasks say
TOLD = 30.0  # seconds between two lines about the progress
PATIENCE = 20.0  # seconds for tasks to end after an error
SURE = 10.0  # seconds after which a node that has died is known to be dead


class Room(NamedTuple):
    """How many jobs the cluster does at a time, and what each takes: threads, and GPUs if any."""

    jobs: int
    threads: int
    gpus: float


@contextmanager
def open_cluster(
    work: Work, cluster: Cluster, n_orders: int, store: Store
) -> Iterator[ClusterPool | None]:
    """A pool for so many orders; None where `auto` finds no cluster."""
    ray = _ray()
    ours = not ray.is_initialized()
    if ours and not _connect(ray, cluster.address):
        yield None
        return
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        able = [node["Resources"] for node in nodes if node["Resources"].get("CPU", 0) >= 1]
        room = _room(able, work.on_cluster, n_orders, cluster.most)
        with marked(store.root) as marker:
            seen = _look(ray, nodes, marker)
        _announce(len(able), room, seen, store)
        with ClusterPool(ray, work, room, n_orders, root=store.root if seen else None) as pool:
            yield pool
    finally:
        if ours:
            ray.shutdown()


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError(f"--on needs Ray, which is not installed here: {INSTALL}") from None
    return ray


def _connect(ray: Any, address: str) -> bool:
    """Connect to the cluster; False where `auto` finds none."""
    code = Path(__file__).resolve().parents[2]
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    how = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"py_modules": [str(code)], "env_vars": environment},
    }
    named = os.environ.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        _check_reachable(address, address)
        try:
            ray.init(address, **how)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            raise UserError(f"--on {address}: {_line(error)}") from None
        return True
    _check_reachable(f"{address} (RAY_ADDRESS is {named})", named)
    try:
        ray.init("auto", **how)
        return True
    except ConnectionError as error:
        if named:
            raise UserError(f"--on {address}: {_line(error)}; see RAY_ADDRESS") from None
    if address == "auto":
        return False
    for name, value in STARTED_HERE.items():
        os.environ.setdefault(name, value)
    ray.init("local", include_dashboard=False, **how)
    return True


def _check_reachable(shown: str, address: str) -> None:
    """Raise UserError where nobody listens at host:port, for which Ray would wait minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # Ray's own words, such as auto
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED).close()
    except OSError as error:
        raise UserError(f"--on {shown}: cannot be reached ({error}); is the cluster up?") from None


def _room(
    nodes: list[dict[str, float]], wanted: OnCluster, n_orders: int, most: int | None
) -> Room:
    """Of nodes with these resources."""
    if not nodes:
        raise UserError("the Ray cluster has no node with a free core; start one with ray start")
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= min(1.0, wanted.gpus)]
    if with_gpus:
        jobs = sum(int(node["GPU"] / wanted.gpus) for node in with_gpus)
        each = min(int(node["CPU"] * wanted.gpus / node["GPU"]) for node in with_gpus)
        room = Room(jobs, wanted.threads or max(1, each), wanted.gpus)
    else:
        cores = sum(int(node["CPU"]) for node in nodes)
        each = min(cores // max(1, n_orders), *(int(node["CPU"]) for node in nodes))
        threads = wanted.threads or max(1, each)
        room = Room(sum(int(node["CPU"]) // threads for node in nodes), threads, 0.0)
        if not room.jobs:
            raise UserError(f"cluster.threads is {threads}, more than any node of the cluster has")
    return room._replace(jobs=max(1, min(room.jobs, n_orders, most or room.jobs)))


def _look(ray: Any, nodes: list[dict[str, Any]], marker: Path) -> bool:
    """Whether all nodes see the marker; UserError where their versions differ from this process's.

    The code of poolblend itself travels with the command.
    """
    from poolblend.jobs.runners.node import look

    asked = _ask_all(ray, nodes, look, marker)
    here = Provenance.here()
    versions = {"python": here.python, **here.libraries}
    sees = True
    for node, answer in zip(nodes, asked, strict=True):
        name = node["NodeManagerHostname"]
        try:
            found = ray.get(answer)
        except ray.exceptions.RayError as error:
            if node["NodeID"] not in _living(ray):
                continue
            raise UserError(
                f"node {name} ({node['NodeManagerAddress']}) cannot run poolblend: {_line(error)}; "
                "install what requirements.txt lists on every node"
            ) from None
        for library in SAME:
            if found.versions[library] != versions[library]:
                raise UserError(
                    f"node {name} has {library} {found.versions[library]}, this machine "
                    f"{versions[library]}: results would differ; install the same version"
                )
        sees &= found.sees
    return sees


def _ask_all(ray: Any, nodes: list[dict[str, Any]], function: Any, *given: Any) -> list[Any]:
    """References to what the function returns on each node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    how = {"num_cpus": 0, "max_retries": 0}
    places = [On(node["NodeID"], soft=False) for node in nodes]
    asked = [ray.remote(function).options(scheduling_strategy=place, **how) for place in places]
    return [each.remote(*given) for each in asked]


def _living(ray: Any) -> set[str]:
    """Ray's numbers of the nodes that live."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _announce(n_nodes: int, room: Room, seen: bool, store: Store) -> None:
    threads = "1 thread" if room.threads == 1 else f"{room.threads} threads"
    gpus = f" and {room.gpus:g} GPU" if room.gpus else ""
    log.info(
        "%d node%s, %d job%s at a time, %s%s each",
        n_nodes,
        "" if n_nodes == 1 else "s",
        room.jobs,
        "" if room.jobs == 1 else "s",
        threads,
        gpus,
    )
    if not seen:
        log.info("the nodes do not see %s: files travel to them and back", store.root)


class ClusterPool:
    """Does `work` on the cluster; `root` is the store's folder where all nodes see it."""

    def __init__(
        self, ray: Any, work: Work, room: Room, n_orders: int, *, root: Path | None
    ) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        from poolblend.jobs.runners import node

        self.ray, self.work, self.room, self.root = ray, work, room, root
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
        self._do = ray.remote(node.work_here).options(
            num_cpus=room.threads, num_gpus=room.gpus, max_retries=0
        )
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
        self._progress.show(len(self._numbers), self._places.values())
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

            nodes = [node for node in self.ray.nodes() if node["Alive"]]
            asked = _ask_all(self.ray, nodes, clean, self._sent.key)
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
        while True:
            with self._travelling(task) as files:
                made = self._do.remote(number, task, files, self._sent, self._switchboard)
                reply = self._await(made, number)
            place = self._places.pop(number, None)
            if not isinstance(reply, Exception):
                if reply.made:
                    with self._storing:
                        receive(self.work.store.root, reply.made)
                if isinstance(reply.result, Exception):
                    raise reply.result
                return reply.result
            reason = f"{_where(place)} {_how_it_ended(reply, self.ray)}"
            if isinstance(reply, self._dead) or not self._is_alive(place):
                log.warning("%s has died; %s goes on elsewhere", _where(place), name)
                continue
            lost += 1
            if lost > 1:
                raise UserError(f"{reason}, as did one before it")
            log.warning("%s; %s is given to another process", reason, name)

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

    def _is_alive(self, place: Place | None) -> bool:
        """Whether a node still lives, some time after a process there has died."""
        if place is None:
            return False
        end = time.monotonic() + SURE
        while time.monotonic() < end:
            if place.node not in _living(self.ray):
                return False
            time.sleep(HEARD)
        return True

    # --- files ----------------------------------------------------------------------------------

    def _send(self) -> Sent:
        """What all tasks share; the nodes fetch it once."""
        from poolblend.jobs.runners.node import Sent

        context = getattr(self.work, "context", None)
        backbones: dict[tuple[str, str], References] = {}
        if self.root is None and context is not None:
            for found in context.located.values():
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


class Progress:
    """Of all jobs: a bar on a terminal, else a line now and then."""

    def __init__(self, n: int) -> None:
        self._n, self._done, self._failed = n, 0, 0
        self._began = self._told = time.monotonic()
        self._bar = tqdm(total=n, unit="job", disable=None, leave=False, file=sys.stderr)

    def count(self, outcome: Outcome | Exception) -> None:
        """An order has ended."""
        state = outcome.state if isinstance(outcome, Outcome) else ""
        self._done += state == "done"
        self._failed += state in ("failed", "lost")
        self._bar.update(state in ("done", "failed", "lost"))

    def show(self, in_hand: int, places: Iterator[Place] | Any) -> None:
        """Say how it stands, if that is due."""
        machines = Counter(place.machine for place in places)
        running = ", ".join(f"{machine} {n}" for machine, n in sorted(machines.items()))
        self._bar.set_description_str(running, refresh=False)
        self._bar.set_postfix(failed=self._failed)
        now, ended = time.monotonic(), self._done + self._failed
        if not self._bar.disable or now - self._told < TOLD or ended == self._n:
            return
        self._told = now
        rate = 60 * ended / (now - self._began)
        left = f", {rate:.1f} a minute, about {(self._n - ended) / rate:.0f} min left" * bool(rate)
        n_running = sum(machines.values())
        log.info(
            "%d of %d jobs done, %d running (%s), %d waiting, %d failed%s",
            self._done,
            self._n,
            n_running,
            running or "none",
            self._n - ended - n_running,
            self._failed,
            left,
        )

    def close(self) -> None:
        self._bar.close()


def _where(place: Place | None) -> str:
    return "a node" if place is None else f"process {place.process} on {place.machine}"


def _how_it_ended(error: Exception, ray: Any) -> str:
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "was ended by Ray, since the node's memory ran out"
    return f"has ended ({_line(error)})"


def _line(error: Exception) -> str:
    """An error's first lines as one, not too long."""
    return " ".join(str(error).split())[:200]
