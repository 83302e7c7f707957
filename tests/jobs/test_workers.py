"""Workers end in what one process makes, whatever becomes of them on the way."""

import re
from functools import partial

import pytest

from poolblend import config, pipeline
from poolblend.errors import PartlyFailedError, Stopped
from poolblend.jobs.runners import runner
from poolblend.loading.competition import open_store
from rig import faulty, looking
from rig.children import start_server

FIRST, SECOND = "tiny-mean-s42 fold 0", "tiny-mean-s42 fold 1"


@pytest.fixture
def one(toy, tmp_path):
    """Settings of a run with a store of its own, by name."""
    start_server()
    path = toy(checkpoints={"steps": 2})
    return lambda name: config.load(path, [f"store={tmp_path / name}"])


@pytest.fixture
def fault(monkeypatch, tmp_path):
    """Something happens in a worker after some steps of a fold."""

    def plant(act, name=FIRST, steps=3, times=1):
        place = tmp_path / "faults"
        place.mkdir(exist_ok=True)
        how = {"act": act, "name": name, "steps": steps, "times": times, "place": place}
        monkeypatch.setattr(runner, "TrainWork", partial(faulty.FaultyWork, **how))
        return place

    return plant


def contents(settings):
    """Digests of all that the store holds."""
    return looking._contents(open_store(settings).root)[0]


def test_what_two_workers_make_is_what_one_makes_though_one_is_killed(one, fault, caplog):
    caplog.set_level("INFO", logger="poolblend")
    alone, shared = one("alone"), one("shared")
    pipeline.train(alone)
    place = fault(faulty.die)
    caplog.clear()
    pipeline.train(shared, workers=2)
    assert contents(shared) == contents(alone)
    assert len(list(place.iterdir())) == 1
    lines = [record.getMessage() for record in caplog.records]
    lost = [line for line in lines if "was killed by SIGKILL" in line]
    assert len(lost) == 1
    assert re.match(
        r"worker 1 \(process \d+\) was killed .*; .* fold 0 is given to another", lost[0]
    )
    assert any("fold 0: resumes at step 2 of 10" in line for line in lines)
    assert lines.count("2 workers, 1 thread each") == 1
    assert sum("tokens on average" in line for line in lines) <= 1


@pytest.mark.slow
def test_a_fold_of_which_two_workers_die_has_failed(one, fault, caplog):
    settings = one("shared")
    fault(faulty.die, times=2)
    with pytest.raises(PartlyFailedError, match=f"1 of 6 folds: {FIRST}: worker .*killed"):
        pipeline.train(settings, workers=2)
    store = open_store(settings)
    assert "as did one before it" in store.fold("tiny-mean-s42", 0).failure().reason
    assert store.fold("tiny-mean-s42", 0).card() is None
    assert store.fold("tiny-max-s42", 2).card()
    pipeline.train(settings)  # tries again
    assert store.fold("tiny-mean-s42", 0).card()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "status", "why"),
    [
        (faulty.interrupt, 130, "stopped by SIGINT"),
        (faulty.terminate, 143, "stopped by SIGTERM"),
        (faulty.be_late, 0, "stopped before the time limit"),
    ],
)
def test_all_workers_stop_in_order_and_the_same_command_continues(one, fault, act, status, why):
    alone, shared = one("alone"), one("shared")
    pipeline.train(alone)
    fault(act)
    with pytest.raises(Stopped, match=f"{why}; the same command continues .* at step") as end:
        pipeline.train(shared, workers=2)
    assert end.value.status == status
    store = open_store(shared)
    assert len(store.fold("tiny-mean-s42", 0).checkpoints)
    assert store.fold("tiny-max-s42", 2).card() is None
    pipeline.train(shared, workers=2)
    assert contents(shared) == contents(alone)


@pytest.mark.slow
def test_a_job_that_fails_in_a_worker_is_noted_as_in_one_process(one, fault, caplog):
    settings = one("shared")
    fault(faulty.fail, times=1)
    with pytest.raises(PartlyFailedError, match=f"1 of 6 folds: {FIRST}: RuntimeError: no luck"):
        pipeline.train(settings, workers=3)
    assert open_store(settings).fold("tiny-mean-s42", 0).failure().reason == "RuntimeError: no luck"
    assert "Traceback" in caplog.text
    assert "in fail" in caplog.text


@pytest.mark.slow
def test_two_workers_infer_what_one_does(one, capsys):
    settings = one("shared")
    store = open_store(settings)
    pipeline.train(settings)
    pipeline.blend(settings)
    pipeline.infer(settings)
    alone = store.submission_path.read_bytes()
    for path in store.root.rglob("test_fold*"):
        path.unlink()
    store.submission_path.unlink()
    pipeline.infer(settings, workers=2)
    assert store.submission_path.read_bytes() == alone
    capsys.readouterr()
    pipeline.verify_oof(settings, workers=2)
    assert "largest difference of all: 0" in capsys.readouterr().out
