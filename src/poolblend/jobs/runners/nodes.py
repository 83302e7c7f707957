"""Connect to a Ray cluster, and look at its nodes: how many jobs they do, and what they see."""

from __future__ import annotations

import logging
import os
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

from poolblend.cards.provenance import Provenance
from poolblend.config import OnCluster
from poolblend.errors import UserError
from poolblend.store import Store

log = logging.getLogger(__name__)

INSTALL = "install it with pip install 'poolblend[cluster]', on every node"
SAME = ("python", "torch", "transformers", "tokenizers", "numpy")  # versions on all nodes
PASSED_ON = ("GOMP_SPINCOUNT", "TQDM_DISABLE", "HF_HUB_OFFLINE")
STARTED_HERE = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
REACHED = 10.0  # seconds to wait for a cluster's first machine
SURE = 10.0  # seconds after which a node that has died is known to be dead
LOOKS = 0.5  # seconds between two looks for that


class Room(NamedTuple):
    """How many jobs the cluster does at a time, and what each takes: threads, and GPUs if any."""

    jobs: int
    threads: int
    gpus: float


def import_ray() -> Any:
    """The module; UserError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError(f"--on needs Ray, which is not installed here: {INSTALL}") from None
    return ray


def connect(ray: Any, address: str) -> bool:
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
            raise UserError(f"--on {address}: {one_line(error)}") from None
        return True
    _check_reachable(f"{address} (RAY_ADDRESS is {named})", named)
    try:
        ray.init("auto", **how)
        return True
    except ConnectionError as error:
        if named:
            raise UserError(f"--on {address}: {one_line(error)}; see RAY_ADDRESS") from None
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


def room_of(
    nodes: list[dict[str, float]], wanted: OnCluster, n_orders: int, most: int | None
) -> Room:
    """The room of nodes with these resources; UserError where a job fits on none of them."""
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


def look_at(ray: Any, nodes: list[dict[str, Any]], marker: Path) -> bool:
    """Whether all nodes see the marker; UserError where their versions differ from this process's.

    The code of poolblend itself travels with the command.
    """
    from poolblend.jobs.runners.node import look

    asked = ask_all(ray, nodes, look, marker)
    here = Provenance.here()
    versions = {"python": here.python, **here.libraries}
    sees = True
    for node, answer in zip(nodes, asked, strict=True):
        name = node["NodeManagerHostname"]
        try:
            found = ray.get(answer)
        except ray.exceptions.RayError as error:
            if not stays_alive(ray, node["NodeID"]):
                continue
            where = f"node {name} ({node['NodeManagerAddress']})"
            raise UserError(
                f"{where} cannot run poolblend: {one_line(error)}; install what requirements.txt "
                "lists on every node"
            ) from None
        for library in SAME:
            if found.versions[library] != versions[library]:
                raise UserError(
                    f"node {name} has {library} {found.versions[library]}, this machine "
                    f"{versions[library]}: results would differ; install the same version"
                )
        sees &= found.sees
    return sees


def ask_all(ray: Any, nodes: list[dict[str, Any]], function: Any, *given: Any) -> list[Any]:
    """References to what the function returns on each node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    how = {"num_cpus": 0, "max_retries": 0}
    places = [On(node["NodeID"], soft=False) for node in nodes]
    asked = [ray.remote(function).options(scheduling_strategy=place, **how) for place in places]
    return [each.remote(*given) for each in asked]


def living(ray: Any) -> set[str]:
    """Ray's numbers of the nodes that live."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def stays_alive(ray: Any, node: str) -> bool:
    """Whether the node still lives, some time after something has failed there."""
    end = time.monotonic() + SURE
    while time.monotonic() < end:
        if node not in living(ray):
            return False
        time.sleep(LOOKS)
    return True


def announce(n_nodes: int, room: Room, seen: bool, store: Store) -> None:
    """Say what the cluster does at a time, and whether files travel."""
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


def one_line(error: Exception) -> str:
    """An error's first lines as one, not too long."""
    return " ".join(str(error).split())[:200]
