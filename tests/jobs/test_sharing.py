"""Processes at the same command share its folds: each is trained once, and none is lost."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rig import runs
from rig.children import SURROUNDINGS, answer
from rig.kills import Scene

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("sharing")


@pytest.fixture(scope="module")
def path(place):
    return answer(runs.write_toy, str(place), log=place / "log.txt")


@pytest.fixture(scope="module")
def right(path, place):
    """What one process alone leaves."""
    scene = Scene("alone", runs.train, path, place / "alone")
    scene.finish()
    return scene.describe()


@pytest.fixture
def scene(path, tmp_path):
    return Scene("shared", runs.train, path, tmp_path / "shared")


def unfinished(folder):
    """Hidden files but locks, which stay."""
    return [path for path in folder.rglob(".*") if path.suffix != ".lock"]


def saved(*children):
    """The folds that these have saved, in order."""
    return sorted(what[1][0] for c in children for _, what in c.told if what[0] == "finished")


def check(scene, right, children, statuses=None):
    """All ended as they should, each fold was made once, and all is what one alone makes."""
    assert [child.wait() for child in children] == (statuses or [0] * len(children))
    assert saved(*children) == [
        name for name in sorted(right) if re.search("fold.*card.json", name)
    ]
    assert scene.describe() == right


def test_two_processes_train_each_fold_once(scene, right):
    children = [scene.start(), scene.start()]
    check(scene, right, children)
    assert all(saved(child) for child in children)
    assert unfinished(scene.store) == []
    assert sorted(each.name for each in scene.store.iterdir()) == ["input", "models", "oof"]


@pytest.mark.slow
def test_ten_processes_do_fifty_jobs_once_each(path, tmp_path):
    members = ",".join(f"{{pooler: mean, tag: t{n}}}" for n in range(10))
    sets = (f"members=[{members}]", "folds.n=5", "train.epochs=1", "checkpoints.steps=null")
    scene = Scene("many", runs.train, path, tmp_path / "many", sets=sets)
    children = [scene.start() for _ in range(10)]
    assert [child.wait() for child in children] == [0] * 10
    assert len(saved(*children)) == len(set(saved(*children))) == 50
    check = scene.start(check=({}, {}, ()))
    assert check.wait() == 0
    assert saved(check) == []
    found = check.told[-1][1][1]
    assert found["corrupt"] == []
    assert unfinished(scene.store) == []


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGCONT, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_a_fold_is_waited_for_until_its_process_is_done_or_dead(scene, right, number):
    first = scene.start(runs.Signalled(signal.SIGSTOP, "checkpoint", 3))
    for _ in range(3):
        first.listen(until="checkpoint")
    other = scene.start()
    while len(saved(other)) < 5:
        other.listen(until="finished")
    assert not other.listen(1.0)  # it waits for the sixth
    doing = f"tiny-mean-s42 fold 0 by process {first.process.pid} on"
    line = f"waiting for 1 of the jobs, which another process is doing .{doing}"
    assert re.search(line, scene.log.read_text())
    first.send(number)
    killed = number == signal.SIGKILL
    check(scene, right, [first, other], [-number if killed else 0, 0])
    assert len(saved(first)) == (0 if killed else 1)
    assert ("fold 0: resumes at step 2 of 10" in scene.log.read_text()) == killed


@pytest.mark.parametrize(
    ("number", "status"),
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)],
)
def test_one_that_is_asked_to_stop_leaves_the_rest_to_the_other(scene, right, number, status):
    first = scene.start(runs.Signalled(number, "checkpoint", 2))
    first.listen(until="checkpoint")
    check(scene, right, [first, scene.start()], [status, 0])
    stopped = f"stopped by {number.name}; the same command continues [1/6] tiny-mean-s42 fold 0"
    assert stopped in scene.log.read_text()
    assert "fold 0: resumes at step " in scene.log.read_text()


def test_the_demo_and_the_folds_are_made_once(path, tmp_path):
    demo = tmp_path / "demo"
    scene = Scene("demo", runs.make_folds, path, tmp_path / "shared", sets=runs.of_the_demo(demo))
    children = [scene.start(runs.small_demo) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    log = scene.log.read_text()
    assert log.count("making the demo competition") == log.count("3 folds: ") == 1
    assert unfinished(tmp_path) == []
    assert len(list(demo.iterdir())) == 4


def begin(*flags):
    """`python train.py` with these flags."""
    return subprocess.Popen(
        [sys.executable, ROOT / "train.py", *flags],
        env={**os.environ, **SURROUNDINGS},
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs are started to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


@pytest.mark.slow
def test_the_script_stops_when_asked_to_and_is_continued(path, tmp_path):
    sets, chosen = ("train.epochs=9",), {"poolers": "max", "folds": "0"}
    alone = Scene("alone", runs.train, path, tmp_path / "alone", None, sets, chosen)
    alone.finish()
    scene = Scene("scripts", runs.train, path, tmp_path / "scripts", None, sets, chosen)
    flags = ["--config", path, "--pooler", "max", "--fold", "0", "--set", "train.epochs=9"]
    flags += ["--set", f"store={scene.store}"]
    limited = begin(*flags, "--time-limit", "1s")
    last = limited.communicate()[1].splitlines()[-1]
    assert last.startswith("stopped before the time limit; the same command continues")
    assert limited.returncode == 0
    for number in (signal.SIGTERM, signal.SIGINT):
        script = begin(*flags)
        assert any("tokens on average" in line for line in iter(script.stderr.readline, ""))
        script.send_signal(number)
        last = script.communicate()[1].splitlines()[-1]
        assert last.startswith(f"stopped by {number.name}; the same command continues")
        assert script.returncode == 128 + number
    assert scene.start().wait() == 0
    assert scene.describe() == alone.describe()
