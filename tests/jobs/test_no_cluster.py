"""`--on` where there is no cluster."""

import pytest

from poolblend import config, pipeline
from poolblend.config import Cluster
from poolblend.errors import UserError
from poolblend.jobs.runners import display, nodes
from poolblend.jobs.runners.seam import Outcome
from poolblend.loading.competition import open_store

ray = pytest.importorskip("ray")


def test_auto_does_the_work_here_where_no_cluster_runs(toy, monkeypatch):
    def finds_none(*_, **__):  # a real one would find the cluster of another test
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray, "init", finds_none)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    settings = config.load(toy(), [])
    pipeline.train(settings, workers=Cluster("auto", most=1))
    assert open_store(settings).fold("tiny-max-s42", 2).card()


def test_a_cluster_that_cannot_be_reached_is_an_error(toy, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    for on, said in [("ray", r"ray \(RAY_ADDRESS is 127.0.0.1:1\)"), ("ray://127.0.0.1:1", "ray:")]:
        with pytest.raises(UserError, match=f"--on {said}.* cannot be reached"):
            pipeline.train(config.load(toy(), []), workers=Cluster(on))


def test_without_ray_one_line_says_what_to_install(toy, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"--on needs Ray.*pip install 'poolblend\[cluster\]'"):
        pipeline.train(config.load(toy(), []), workers=Cluster("ray"))


def test_a_cluster_without_cores_is_refused():
    with pytest.raises(UserError, match="no node with a free core"):
        nodes.room_of([], config.load(None).cluster, 3, None)


@pytest.mark.parametrize(
    ("resources", "sets", "room"),
    [
        ([{"CPU": 4}, {"CPU": 2}], [], (3, 2, 0.0)),
        ([{"CPU": 4}, {"CPU": 2}], ["cluster.threads=1"], (3, 1, 0.0)),
        ([{"CPU": 16, "GPU": 2}], [], (2, 8, 1.0)),
        ([{"CPU": 16, "GPU": 2}], ["cluster.gpus=0.5"], (3, 4, 0.5)),
        ([{"CPU": 64}, {"CPU": 8, "GPU": 1}], [], (1, 8, 1.0)),
    ],
)
def test_room_of_a_cluster_for_three_jobs(resources, sets, room):
    assert nodes.room_of(resources, config.load(None, sets).cluster, 3, None) == room


def test_progress_is_told_before_any_job_has_ended(monkeypatch, caplog):
    monkeypatch.setattr(display, "TOLD", 0.0)
    caplog.set_level("INFO", logger="poolblend")
    progress = display.Progress(3)
    progress.show(["first", "first"])
    progress.count(Outcome("failed", "no luck"))
    progress.show([])
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "0 of 3 jobs done, 2 running (first 2), 1 waiting, 0 failed"
    assert said[1].startswith("0 of 3 jobs done, 0 running (none), 2 waiting, 1 failed, ")
    assert "min left" in said[1]
