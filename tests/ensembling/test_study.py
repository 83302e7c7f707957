"""A study outlives kills, is shared by processes, and never mixes one problem with another."""

from __future__ import annotations

import fcntl
import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from poolblend.ensembling import study
from poolblend.ensembling.blenders import BLENDERS
from poolblend.ensembling.problem import BlendProblem, StudyFile, Trial
from poolblend.ensembling.study import importances
from poolblend.errors import UserError

HERE = Path(__file__)
STARTS = 6
search = BLENDERS["optuna"]


def child(path: str, trials: str) -> None:
    """Run a search that waits for a line before each tick, and tell how it ended.

    Once the input has ended, it waits no more.
    """
    problem = runpy.run_path(str(HERE.with_name("conftest.py")))["make_searchable"]()
    evaluated = []
    plain_loss = BlendProblem.loss
    BlendProblem.loss = lambda *given: evaluated.append(1) or plain_loss(*given)

    def tick():
        sys.stdin.readline()
        print("tick", flush=True)

    study.INTERVAL = float("inf")
    file = StudyFile(Path(path), "all rows")
    fit = search(replace(problem, study=file, trials=int(trials), progress=tick))
    print(json.dumps({"ran": len(evaluated) - STARTS, "best": fit.history[-1].best}))


class Child:
    """Another process on the same search, let on tick by tick."""

    def __init__(self, path: Path, trials: int) -> None:
        command = [sys.executable, str(HERE), str(path), str(trials)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def tick(self, times: int) -> None:
        for _ in range(times):
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            assert self.process.stdout.readline() == "tick\n"

    def finish(self) -> dict[str, float]:
        return json.loads(self.process.communicate()[0].splitlines()[-1])


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "Größe 1 von 2"
    folder.mkdir()
    return StudyFile(folder / "stu dy.log", "without fold 2")


@pytest.fixture
def evaluated(monkeypatch):
    """Grows by one with each weighting scored."""
    calls, plain_loss = [], BlendProblem.loss
    monkeypatch.setattr(BlendProblem, "loss", lambda *given: calls.append(1) or plain_loss(*given))
    return calls


def stored(path):
    """All studies, by name, as Optuna reads them."""
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    storage = optuna.storages.JournalStorage(backend)
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


def rows(path):
    """The trials of the only study there is."""
    (one,) = stored(path).values()
    return one.get_trials()


def searched(fit):
    return [trial for trial in fit.history if trial.source == "search"]


def test_a_new_file_changes_nothing(searchable, file):
    plain, kept = search(searchable()), search(searchable(study=file))
    assert kept.history == plain.history
    np.testing.assert_array_equal(kept.weights_M, plain.weights_M)


def test_a_finished_study_returns_at_once_and_stays_as_it_is(searchable, file, evaluated):
    problem = searchable(study=file)
    first = search(problem)
    content = file.path.read_bytes()
    evaluated.clear()
    again = search(problem)
    assert len(evaluated) == STARTS
    assert again.history == first.history
    assert file.path.read_bytes() == content
    assert [each.name for each in file.path.parent.iterdir()] == ["stu dy.log"]


def test_more_trials_continue_and_never_fall_behind(searchable, file, evaluated):
    problem = searchable(study=file)
    first = search(problem)
    evaluated.clear()
    more = search(replace(problem, trials=100))
    assert len(evaluated) == STARTS + 40
    assert more.history[: len(first.history)] == first.history
    assert more.history[-1].best <= first.history[-1].best
    assert len({trial.weights_M for trial in searched(more)}) == 100
    assert search(replace(problem, trials=10)).history == more.history


def test_a_killed_search_is_continued_where_it_was_saved(searchable, file, evaluated):
    file = file._replace(label="all rows")
    with Child(file.path, 100) as killed:
        killed.tick(70)
    saved = len(rows(file.path)) - STARTS
    assert saved == 50
    best_saved = min(-trial.value for trial in rows(file.path))
    problem = searchable(study=file, trials=100)
    evaluated.clear()
    fit = search(problem)
    assert len(evaluated) == STARTS + 100 - saved
    assert fit.history[-1].best <= best_saved
    assert fit.history == search(searchable(trials=100)).history  # one never killed
    assert [each.name for each in file.path.parent.iterdir()] == ["stu dy.log"]
    assert len(searched(fit)) == len(rows(file.path)) - STARTS == 100
    assert {trial.state.name for trial in rows(file.path)} == {"COMPLETE"}


def test_processes_share_the_trials_and_repeat_none(searchable, file):
    file = file._replace(label="all rows")
    with Child(file.path, 200) as one, Child(file.path, 200) as other:
        one.tick(40)
        other.tick(60)  # 25 that it found, 35 of its own
        one.tick(40)
        ends = one.finish(), other.finish()
    assert all(0 < end["ran"] < 200 for end in ends)
    together = search(searchable(study=file, trials=200))
    ran = sum(end["ran"] for end in ends)
    assert ran == len(searched(together)) == len({trial.weights_M for trial in searched(together)})
    assert 200 <= ran <= 200 + study.BATCH
    assert together.history[-1].best <= min(end["best"] for end in ends)


def test_two_that_begin_together_make_one_study(file):
    with Child(file.path, 30) as one, Child(file.path, 30) as other:
        ends = one.finish(), other.finish()
    assert len(stored(file.path)) == 1
    assert len(rows(file.path)) == STARTS + sum(end["ran"] for end in ends)
    numbers = [trial.number for trial in rows(file.path)]
    assert sorted(numbers) == list(range(len(numbers)))


def test_an_interrupted_search_keeps_what_it_has(searchable, file):
    ticks = []

    def stop():
        ticks.append(1)
        if len(ticks) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(searchable(study=file, progress=stop))
    assert len(rows(file.path)) == STARTS + 7


def test_slow_trials_are_saved_one_by_one(searchable, file, monkeypatch):
    monkeypatch.setattr(study, "INTERVAL", 0.0)
    found = []
    tick = lambda: found.append(len(rows(file.path)))  # noqa: E731
    search(searchable(study=file, trials=5, progress=tick))
    assert found == [STARTS + n for n in range(1, 6)]


OTHERS = {
    "labels": lambda problem: replace(problem, y=1 - problem.y),
    "predictions": lambda problem: replace(problem, z_MNK=problem.z_MNK * 0.999),
    "precision": lambda problem: replace(problem, z_MNK=problem.z_MNK.astype(np.float32)),
    "seed": lambda problem: replace(problem, seed=7),
    "members": lambda problem: replace(problem, members=("a", "b", "c", "d")),
    "cuts": lambda problem: replace(problem, cuts=True),
    "space": lambda problem: replace(problem, space=replace(problem.space, name="rank")),
    "label": lambda problem: replace(problem, study=problem.study._replace(label="other")),
}


@pytest.mark.parametrize("change", OTHERS)
def test_other_inputs_are_another_study(searchable, file, evaluated, change):
    problem = searchable(study=file)
    search(problem)
    other = OTHERS[change](problem)
    evaluated.clear()
    assert search(other).history == search(replace(other, study=None)).history
    assert len(evaluated) == 2 * (STARTS + problem.trials)
    assert len(stored(file.path)) == 2


def test_another_metric_is_another_study(searchable, file):
    search(searchable("f1", study=file))
    assert search(searchable("mcc", study=file)).history == search(searchable("mcc")).history


@pytest.mark.parametrize(("metric", "direction"), [("f1", "MAXIMIZE"), ("log_loss", "MINIMIZE")])
def test_optuna_reads_scores_and_weights_under_their_names(searchable, file, metric, direction):
    fit = search(searchable(metric, study=file))
    (one,) = stored(file.path).values()
    assert one.study_name.startswith("without fold 2 [")
    assert one.direction.name == direction
    for trial, read in zip(fit.history, one.get_trials(), strict=True):
        assert read.number == trial.number
        assert read.state.name == "COMPLETE"
        assert read.user_attrs["source"] == trial.source
        assert read.value == (-trial.loss if direction == "MAXIMIZE" else trial.loss)
        names = (f"ü member-{m}" for m in range(4))
        assert set(read.distributions.values()) == {optuna.distributions.FloatDistribution(0, 1)}
        assert read.params == dict(zip(names, trial.weights_M, strict=True))


def test_trials_without_a_score_are_kept_as_failed(searchable, file):
    problem = searchable("roc_auc", trials=3, study=file)
    nowhere = replace(problem, y=np.zeros_like(problem.y))
    assert search(nowhere).history == search(replace(nowhere, study=None)).history
    assert search(nowhere).history == search(nowhere).history
    assert {trial.state.name for trial in rows(file.path)} == {"FAIL"}


def test_trials_that_others_left_running_or_added_by_hand_do_not_count(searchable, file):
    first = search(searchable(study=file, trials=20))
    (one,) = stored(file.path).values()
    one.ask()
    share = optuna.distributions.FloatDistribution(0, 1)
    one.add_trial(
        optuna.trial.create_trial(params={"x": 0.5}, distributions={"x": share}, value=9.0)
    )
    more = search(searchable(study=file, trials=30))
    assert more.history[: len(first.history)] == first.history
    assert len(searched(more)) == 30
    assert more.history[-1].best > -1


def test_nothing_pickled_is_stored(searchable, file):
    search(searchable(study=file))
    assert not [trial.system_attrs for trial in rows(file.path) if trial.system_attrs]
    assert "cma" not in file.path.read_text(encoding="utf-8")


@pytest.mark.parametrize("left", [b"{", b'{"op_code": 4, "wor', b"\xff\xfe half", b"x" * 5000])
def test_a_tail_torn_by_a_kill_is_cut_off_and_the_search_goes_on(searchable, file, evaluated, left):
    first = search(searchable(study=file, trials=30))
    with file.path.open("ab") as journal:
        journal.write(left)
    problem = searchable(study=file, trials=40)
    evaluated.clear()
    more = search(problem)
    assert more.history[: len(first.history)] == first.history
    assert len(evaluated) == STARTS + 10
    assert len(rows(file.path)) == STARTS + 40


def test_a_tail_torn_at_any_byte_costs_one_trial_at_most(searchable, file):
    search(searchable(study=file, trials=3))
    whole = file.path.read_bytes()
    start = whole.rfind(b"\n", 0, -1) + 1
    for end in range(start + 1, len(whole), 29):
        file.path.write_bytes(whole[:end])
        assert len(searched(search(searchable(study=file, trials=2)))) == 2


def test_a_lock_dies_with_its_process(searchable, file):
    """A process killed while it holds the lock keeps nobody waiting."""
    search(searchable(study=file, trials=5))
    lock = file.path.with_name(f".{file.path.name}.lock")
    holder = (
        "import sys; from pathlib import Path; from poolblend.store.locks import ProcessLock\n"
        "lock = ProcessLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", holder, str(lock)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.readline() == b"held\n"
        with lock.open("ab") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process.kill()
    assert len(searched(search(searchable(study=file, trials=9)))) == 9


def garbage(path):
    path.write_bytes(b"no journal at all\n" * 99)


def scribbled(path):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[len(lines) // 2] = b"?" * 40 + b"\n"
    path.write_bytes(b"".join(lines))


def other_lines(path):
    path.write_text('{"op_code": 99}\n{"a": 1}\n', encoding="utf-8")


def folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [garbage, scribbled, other_lines, folder])
def test_a_file_that_is_no_study_is_refused_by_name_in_one_line(searchable, file, spoil):
    search(searchable(study=file))
    spoil(file.path)
    with pytest.raises(UserError) as refusal:
        search(searchable(study=file))
    assert f"the study {file.path} cannot be used (" in str(refusal.value)
    assert "delete it, and the search begins anew" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_folder_that_cannot_be_made_is_refused(searchable, file):
    file.path.write_text("in the way")
    elsewhere = file._replace(path=file.path / "study.log")
    with pytest.raises(UserError, match=r"could not lock .*study.log.lock"):
        search(searchable(study=elsewhere))


def test_the_place_of_a_dead_entrant_is_taken_and_left(searchable, file):
    file.path.with_name(f".{file.path.name}.1.lock").touch()
    search(searchable(study=file))
    assert [each.name for each in file.path.parent.iterdir()] == ["stu dy.log"]


class TestImportances:
    def history(self, losses, weights):
        return tuple(
            Trial(number, "search", loss, loss, tuple(row))
            for number, (loss, row) in enumerate(zip(losses, weights, strict=True))
        )

    def test_the_member_that_decides_comes_first_as_in_optuna(self):
        weights = np.random.default_rng(0).dirichlet(np.ones(4), 80)
        losses = ((weights[:, 2] - 0.3) ** 2).tolist()
        found = importances(self.history(losses, weights), "abcd", seed=1)
        assert next(iter(found)) == "c"
        assert found["c"] > 0.9
        assert sum(found.values()) == pytest.approx(1)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        theirs = optuna.create_study()
        share = dict.fromkeys("abcd", optuna.distributions.FloatDistribution(0, 1))
        for loss, row in zip(losses, weights.tolist(), strict=True):
            params = dict(zip("abcd", row, strict=True))
            theirs.add_trial(
                optuna.trial.create_trial(params=params, distributions=share, value=loss)
            )
        evaluator = optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=1)
        reference = optuna.importance.get_param_importances(theirs, evaluator=evaluator)
        assert found == pytest.approx(reference, abs=0.02)

    @pytest.mark.parametrize("n_trials", [0, study.FEWEST_FOR_IMPORTANCE - 1])
    def test_too_few_trials_say_nothing(self, n_trials):
        weights = np.random.default_rng(0).dirichlet(np.ones(2), n_trials)
        assert importances(self.history(weights[:, 0].tolist(), weights), "ab") == {}

    def test_neither_do_equal_losses_nor_losses_without_a_value(self):
        weights = np.random.default_rng(0).dirichlet(np.ones(2), 50)
        assert importances(self.history([0.5] * 50, weights), "ab") == {}
        assert importances(self.history([np.inf] * 50, weights), "ab") == {}
        losses = [*weights[:40, 0].tolist(), *[np.inf] * 10]
        assert set(importances(self.history(losses, weights), "ab")) == {"a", "b"}

    def test_the_starts_are_left_out(self, searchable):
        problem = searchable()
        history = search(problem).history
        assert importances(history, problem.members) == importances(
            searched(search(problem)), problem.members
        )
        assert importances(search(replace(problem, trials=0)).history * 9, problem.members) == {}


if __name__ == "__main__":
    child(*sys.argv[1:])
