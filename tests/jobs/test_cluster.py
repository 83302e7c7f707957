"""A Ray cluster ends in what one process makes, whatever becomes of its nodes on the way."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from poolblend import config, pipeline
from poolblend.config import Cluster
from poolblend.errors import PartlyFailedError, Stopped, UserError
from poolblend.jobs import context as contexts
from poolblend.jobs.runners import cluster as clusters
from poolblend.jobs.runners import nodes
from poolblend.jobs.runners.training import TrainWork
from poolblend.loading.competition import open_store
from rig import looking
from rig.masked import write_masked_encoder
from rig.toys import write_toy

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own warnings

FIRST = "tiny-mean-s42 fold 0"
ON = Cluster("ray")
LONG = ["train.epochs=60", "folds.n=2"]  # seconds for each fold


@pytest.fixture(scope="module")
def on_nodes(_imported):
    """A cluster that `--on ray` means: a head that computes nothing, and two nodes of one core.

    The process connects once, so that the nodes' processes import everything once.
    """
    from ray.cluster_utils import Cluster as Nodes

    made = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", made.address)
        assert nodes.connect(ray, "ray")
        yield made
        ray.shutdown()
    made.shutdown()


@pytest.fixture(params=["common folder", "no common folder"])
def common(request, monkeypatch):
    """Whether the nodes see the store."""
    sees = request.param == "common folder"
    if not sees:
        look = nodes.look_at
        monkeypatch.setattr(nodes, "look_at", lambda *given: look(*given) and False)
    return sees


@pytest.fixture
def one(toy, tmp_path):
    """Settings of a run with a store of its own, by name."""
    path = toy(checkpoints={"steps": 2})
    return lambda name, *sets: config.load(path, [f"store={tmp_path / name}", *sets])


def contents(settings):
    """Digests of all that the store holds, but for what can be deleted."""
    held = looking._contents(open_store(settings).root)[0]
    return {name: digest for name, digest in held.items() if not name.startswith("cache")}


def messages(caplog):
    return [record.getMessage() for record in caplog.records]


def test_what_a_cluster_makes_is_what_one_process_makes(on_nodes, common, one, caplog):
    caplog.set_level("INFO", logger="poolblend")
    members = "members=[mean, max, cls, {pooler: mean, tag: slim, train: {freeze_layers: 1}}]"
    alone, there = one("alone", members), one("there", members)
    left = set(Path(tempfile.gettempdir()).glob("poolblend-node-*"))
    for settings, workers in ((alone, 1), (there, ON)):
        caplog.clear()
        pipeline.train(settings, workers=workers)
        pipeline.blend(settings)
        pipeline.infer(settings, workers=workers)
    assert contents(there) == contents(alone)
    said = messages(caplog)
    assert any("2 nodes, 2 jobs at a time, 1 thread each" in line for line in said)
    assert any("do not see" in line for line in said) != common
    assert sum("tokens on average" in line for line in said) <= 2
    assert set(Path(tempfile.gettempdir()).glob("poolblend-node-*")) == left
    assert not list(open_store(there).root.glob(".*.marker"))
    pipeline.check(there)
    card = open_store(there).fold("tiny-mean-s42", 0).card()
    assert card.threads == 1
    assert card.provenance.machine


@pytest.mark.slow
def test_backbones_trained_further_come_first(on_nodes, common, tmp_path):
    path = write_toy(tmp_path, write_masked_encoder(tmp_path / "tiny"), n=24, n_test=8)
    mlm = "backbone.mlm={epochs: 1, lr: 0.01, batch_size: 8, max_length: 16}"
    sets = ["folds.n=2", "train.epochs=1", mlm]
    alone, there = (config.load(path, [*sets, f"store={tmp_path / n}"]) for n in ("a", "b"))
    pipeline.train(alone)
    pipeline.train(there, workers=ON)
    assert contents(there) == contents(alone)


@pytest.mark.slow
def test_a_node_that_dies_loses_nothing(on_nodes, common, one, monkeypatch):
    alone, there = one("alone", *LONG), one("there", *LONG)
    pipeline.train(alone)
    doomed = on_nodes.add_node(num_cpus=1)
    began, processes = threading.Event(), []

    def kill():
        """The node's own processes, and the one that trains there."""
        began.wait(120)
        time.sleep(0.7)
        remover = threading.Thread(target=on_nodes.remove_node, args=(doomed, False))
        remover.start()
        time.sleep(0.2)
        os.kill(processes[0], signal.SIGKILL)
        remover.join()

    killer = threading.Thread(target=kill)
    killer.start()
    hear = clusters.ClusterPool._hear

    def heard(pool):
        hear(pool)
        for place in pool._places.values():
            if place.node == doomed.node_id:
                processes.append(place.process)
                began.set()

    monkeypatch.setattr(clusters.ClusterPool, "_hear", heard)
    pipeline.train(there, workers=ON)
    killer.join()
    assert contents(there) == contents(alone)


class Unlucky(TrainWork):
    """On a node, the fold called FIRST does not go well."""

    act = "raise"

    def compute(self, task):
        if task.job.name == FIRST and self.elsewhere is None:
            if self.act == "raise":
                raise RuntimeError("no luck")
            if self.act == "full disk":
                raise OSError(errno.ENOSPC, "No space left on device")
            if self.act == "die":
                os.kill(os.getpid(), signal.SIGKILL)
        super().compute(task)

    def move(self, store, fetch):
        with pytest.MonkeyPatch.context() as patch:
            if self.act == "no backbone":
                patch.setattr(contexts, "locate_backbone", gone)
            super().move(store, fetch)


def gone(*_):
    raise UserError("there is no such folder here")


def send_class(monkeypatch):
    """The nodes cannot import this module: its class travels whole."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr("poolblend.jobs.runners.runner.TrainWork", Unlucky)


@pytest.mark.slow
def test_one_jobs_error_ends_no_other(on_nodes, common, one, monkeypatch, caplog):
    there = one("there")
    send_class(monkeypatch)
    with pytest.raises(PartlyFailedError, match=f"1 of 6 folds: {FIRST}: RuntimeError: no luck"):
        pipeline.train(there, workers=ON)
    assert "Traceback" in caplog.text
    assert open_store(there).fold("tiny-max-s42", 2).card()
    assert open_store(there).fold("tiny-mean-s42", 0).failure().reason == "RuntimeError: no luck"


@pytest.mark.slow
def test_a_job_of_which_two_processes_die_has_failed(on_nodes, one, monkeypatch):
    there = one("there")
    monkeypatch.setattr(Unlucky, "act", "die")
    monkeypatch.setattr(nodes, "SURE", 1.0)
    send_class(monkeypatch)
    with pytest.raises(PartlyFailedError, match=r"1 of 6 folds: .*, as did one before it"):
        pipeline.train(there, workers=ON)


@pytest.mark.slow
def test_a_node_that_lacks_the_backbone_gets_it(on_nodes, one, monkeypatch):
    look = nodes.look_at
    monkeypatch.setattr(nodes, "look_at", lambda *given: look(*given) and False)
    monkeypatch.setattr(Unlucky, "act", "no backbone")
    alone, there = one("alone"), one("there")
    pipeline.train(alone)
    send_class(monkeypatch)
    pipeline.train(there, workers=ON)
    assert contents(there) == contents(alone)


@pytest.mark.slow
def test_a_full_disk_of_a_node_fails_a_fold_after_two_tries(on_nodes, one, monkeypatch, caplog):
    look = nodes.look_at
    monkeypatch.setattr(nodes, "look_at", lambda *given: look(*given) and False)
    there = one("there")
    monkeypatch.setattr(Unlucky, "act", "full disk")
    send_class(monkeypatch)
    said = r"1 of 6 folds: .* cannot keep its files \(.*No space left.*\), as did one before it"
    with pytest.raises(PartlyFailedError, match=said):
        pipeline.train(there, workers=ON)
    assert any("is given to another process" in line for line in messages(caplog))
    assert open_store(there).fold("tiny-max-s42", 2).card()


@pytest.mark.slow
def test_a_killed_command_continues(on_nodes, common, one, toy):
    alone, there = one("alone", *LONG), one("there", *LONG)
    pipeline.train(alone)
    sets = [f"--set=store={there.store}", *(f"--set={each}" for each in LONG)]
    script = Path(config.__file__).parents[3] / "train.py"
    command = [sys.executable, script, "--config", toy(checkpoints={"steps": 2}), *sets]
    killed = subprocess.Popen([*command, "--on", "ray"])
    first = open_store(there).fold("tiny-mean-s42", 0)
    end = time.monotonic() + 120
    while not first.lock.is_held() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(3)
    killed.kill()
    killed.wait()
    pipeline.train(there, workers=ON)
    assert contents(there) == contents(alone)


@pytest.mark.slow
def test_a_stop_reaches_all_tasks_and_the_same_command_continues(
    on_nodes, common, one, monkeypatch
):
    alone, there = one("alone", *LONG), one("there", *LONG)
    pipeline.train(alone)
    hear, began, ends = clusters.ClusterPool._hear, [], []

    def heard(pool):
        hear(pool)
        if pool._places and not began:
            began.append(time.monotonic())
        if began and time.monotonic() > began[0] + 1.5 and not ends:
            ends.append(pool.stop(Stopped("stopped; the same command continues", 130)))

    monkeypatch.setattr(clusters.ClusterPool, "_hear", heard)
    with pytest.raises(Stopped, match="the same command continues.* at step"):
        pipeline.train(there, workers=ON)
    monkeypatch.setattr(clusters.ClusterPool, "_hear", hear)
    assert open_store(there).fold("tiny-max-s42", 1).card() is None
    pipeline.train(there)
    assert contents(there) == contents(alone)


def test_a_node_with_another_version_is_named(on_nodes, one, monkeypatch):
    monkeypatch.setattr(nodes, "SAME", ("torch", "other"))
    here = nodes.Provenance.here()
    libraries = {**here.libraries, "torch": "1.0"}
    monkeypatch.setattr(
        nodes.Provenance, "here", lambda: here.model_copy(update={"libraries": libraries})
    )
    with pytest.raises(UserError, match=r"node .* has torch .*, this machine 1\.0"):
        pipeline.train(one("there"), workers=ON)


def test_more_threads_than_a_node_has_are_refused(on_nodes, one):
    with pytest.raises(UserError, match=r"cluster\.threads is 64, more than any node"):
        pipeline.train(one("there", "cluster.threads=64"), workers=ON)
