"""A Ray cluster of several nodes on this machine: what it costs, and what a node's death costs.

  python benchmarks/cluster.py --overhead             200 jobs of one second on 2 nodes
  python benchmarks/cluster.py --travel               what a node reads and sends for one fold model
  python benchmarks/cluster.py --kills 10             a node is killed mid-fold, at random moments

`--overhead`: the jobs sleep, so that nothing but the runner is measured; busy is the share of the
cores' time that jobs took. `--kills`: tiny fold models; after each run the store is compared with
that of one process, and what was trained again is counted in steps. Exit status 1 where anything
differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from bench import ROOT, machine
from poolblend import config, pipeline
from poolblend.config import Cluster, OnCluster
from poolblend.jobs.runners import cluster as clusters
from poolblend.jobs.runners import nodes as ray_nodes
from poolblend.jobs.runners.queue import Queue
from poolblend.jobs.runners.seam import Order, Outcome
from poolblend.jobs.watch import Watch
from poolblend.store import Store

sys.path.insert(0, str(ROOT / "tests"))  # its toy competitions, and how it compares stores

from rig import looking, toys

SECONDS = 1.0  # that a job of --overhead sleeps
HEAR = clusters.ClusterPool._hear
PLACES: dict[int, Any] = {}  # where the jobs in hand are done


class Sleep:
    """Work that takes a second and nothing else."""

    def __init__(self, store: Store) -> None:
        self.store, self.on_cluster = store, OnCluster(threads=1)
        self.elsewhere: Callable[[Any], Any] | None = None

    def __call__(self, task: int) -> Outcome:
        return Outcome("done", value=(self.elsewhere or self.compute)(task))

    def compute(self, task: int) -> float:
        started = time.perf_counter()
        time.sleep(SECONDS)
        return time.perf_counter() - started

    def reads(self, task: int) -> list[Path]:
        return []

    def backbones(self) -> tuple[()]:
        return ()

    def move(self, store: Store, fetch: Any) -> None:
        self.store = store

    def enter(self, line: Any) -> None: ...

    def note(self, what: Any) -> None: ...


def nodes(count: int, cores: int) -> Any:
    """A head that computes nothing, and nodes of so many cores."""
    from ray.cluster_utils import Cluster as Nodes

    made = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(count):
        made.add_node(num_cpus=cores)
    os.environ["RAY_ADDRESS"] = made.address
    return made


def overhead(n_jobs: int, cores: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Sleep(Store(Path(folder), "run"))
        orders = [Order(f"job {n}", "sleep", n) for n in range(n_jobs)]
        started = time.perf_counter()
        with clusters.open_cluster(work, Cluster("ray"), n_jobs, work.store) as pool:
            assert pool is not None
            ready, firsts, slept = time.perf_counter(), [], 0.0
            for _, outcome in Queue(orders, {}, Watch()).run(pool):
                firsts.append(time.perf_counter())
                slept += outcome.value
            ended = time.perf_counter()
        n_cores = pool.room.jobs
    warm = firsts[n_cores - 1]  # the first jobs wait for processes that import everything
    busy = slept / (n_cores * (ended - ready))
    after = (n_jobs - n_cores) * SECONDS / (n_cores * (ended - warm))
    print(f"connected in {ready - started:.1f} s; {n_jobs} jobs in {ended - ready:.1f} s")
    print(f"busy {100 * busy:.0f} % of {n_cores} cores, {100 * after:.0f} % after the first jobs")
    beyond = (ended - warm) * n_cores / (n_jobs - n_cores) - SECONDS
    print(f"a job beyond its own time: {1000 * beyond:.0f} ms")


def travel() -> None:
    """Sizes of what goes to a node without the store's folder, and comes back."""
    sizes = {"received": 0}
    receive = clusters.receive

    def counted(store: Store, parcel: dict[str, bytes]) -> None:
        sizes["received"] += sum(map(len, parcel.values()))
        receive(store, parcel)

    clusters.receive = counted
    look = ray_nodes.look_at
    ray_nodes.look_at = lambda *given: look(*given) and False
    with tempfile.TemporaryDirectory() as folder:
        sets = [f"store={folder}", "train.freeze_layers=0", "data.sample_rows=120"]
        settings = config.load(None, [*sets, "members=[mean]"])
        started = time.perf_counter()
        pipeline.train(settings, folds="0", workers=Cluster("ray"))
        print(
            f"one fold model of MiniLM: {time.perf_counter() - started:.1f} s, connecting included"
        )
    print(f"received {sizes['received'] / 1e6:.1f} MB")


def kills(n: int, seed: int) -> bool:
    """Whether all runs end in what one process makes."""
    random.seed(seed)
    clusters.ClusterPool._hear = heard
    made, right = nodes(2, 1), True
    again, total = [], 0
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / "tiny"
        toys.write_encoder(tiny)
        path = toys.write_toy(Path(folder), tiny, checkpoints={"steps": 5})
        sets = ["train.epochs=40", "members=[mean, max, cls, min]"]
        alone = config.load(path, [*sets, f"store={folder}/alone"])
        torch.set_num_threads(1)  # as on the nodes, for the same bits
        pipeline.train(alone)
        expected = looking._contents(Path(alone.store))[0]
        for number in range(n):
            shared = number % 2 == 0
            settings = config.load(path, [*sets, f"store={folder}/run{number}"])
            doomed = made.add_node(num_cpus=1)
            moment = random.uniform(0, 8)
            ended = threading.Event()
            killer = threading.Thread(target=kill_after, args=(moment, made, doomed, ended))
            killer.start()
            look = ray_nodes.look_at
            if not shared:
                ray_nodes.look_at = lambda *given, look=look: look(*given) and False
            pipeline.train(settings, workers=Cluster("ray"))
            ray_nodes.look_at = look
            ended.set()
            killer.join()
            found, corrupt = looking._contents(Path(settings.store))
            same = found == expected and not corrupt
            right &= same
            steps = [
                _resumed(card) for card in Path(settings.store).glob("models/*/*/fold*/card.json")
            ]
            again.append(sum(steps))
            total = len(steps)
            kind = "common folder" if shared else "no common folder"
            print(
                f"kill {number + 1} after {moment:.1f} s, {kind}: {'same' if same else 'DIFFERENT'}"
            )
    print(f"{n} kills, {total} fold models each: folds resumed from a checkpoint {again}")
    made.shutdown()
    return right


def kill_after(seconds: float, made: Any, doomed: Any, ended: threading.Event) -> None:
    """Kill the node, without grace, so many seconds after it has begun a job, or at the end."""
    began: list[int] = []
    while not began and not ended.wait(0.1):
        began = [each.process for each in PLACES.copy().values() if each.node == doomed.node_id]
    if not began:
        print("no job reached the node that was to be killed")
        made.remove_node(doomed)
        return
    process = began[0]
    ended.wait(seconds)
    remover = threading.Thread(target=made.remove_node, args=(doomed, False))
    remover.start()
    with suppress(ProcessLookupError):  # of a job that has ended by now
        os.kill(process, signal.SIGKILL)
    remover.join()


def heard(pool: clusters.ClusterPool) -> None:
    HEAR(pool)
    PLACES.clear()
    PLACES.update(pool._places)


def _resumed(card: Path) -> int:
    return len(json.loads(card.read_text())["resumed_at_steps"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--travel", action="store_true")
    parser.add_argument("--kills", type=int, default=0, metavar="N")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--cores", type=int, default=1, help="of each of the two nodes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(machine())
    if args.overhead or args.travel:
        made = nodes(2, args.cores)
        if args.overhead:
            overhead(args.jobs, args.cores)
        if args.travel:
            travel()
        made.shutdown()
    if args.kills:
        raise SystemExit(0 if kills(args.kills, args.seed) else 1)


if __name__ == "__main__":
    main()
