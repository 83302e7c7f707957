"""`train.py --check` names what is damaged, stale or unfinished, and which commands make it again.

Each kind of damage to each kind of file is in tests/pipeline/test_damage.py.
"""

import os
import shutil
import subprocess
import sys

import pytest

from poolblend import pipeline
from poolblend.errors import UserError
from poolblend.loading.competition import open_store
from poolblend.store import files
from poolblend.store.survey import survey

MEMBER = "tiny-mean-s42"


@pytest.fixture
def checked(finished, capsys):
    """Runs the check, with other settings if given; what it prints on one line, and its error."""

    def run(settings=None):
        capsys.readouterr()
        error = ""
        try:
            finished._replace(settings=settings or finished.settings).check()
        except UserError as refusal:
            error = str(refusal)
        return " ".join(capsys.readouterr().out.split()), error

    return run


def changed(finished, **keys):
    return finished.settings.model_copy(update=keys)


def states(store):
    return {each.name: each.state for each in survey(store) if each.state != "whole"}


def test_a_whole_run_takes_a_few_lines_and_nothing_is_written(finished, capsys):
    pipeline.blend(finished.settings)  # without the outside member: pseudo-labels are refused
    pipeline.infer(finished.settings)
    pipeline.write_vectors(finished.settings)
    pipeline.write_pseudo_labels(finished.settings, "fold1")
    root = finished.store.root
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    capsys.readouterr()
    finished.check()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"run toy in {root}"
    table = [" ".join(line.split()) for line in lines[2:]]
    for line in (
        "folds 1 whole",
        "fold models 2 whole",
        "test predictions 2 whole",
        "vectors 4 whole",
        "pseudo-labels 1 whole",
        "blend 1 whole",
    ):
        assert line in table
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    finished.store.vectors(MEMBER, 1, "test").path.write_bytes(b"")
    with pytest.raises(UserError, match="^1 damaged of .*to repair it: python infer.py --vectors "):
        finished.check()
    finished.store.pseudo("fold1").path(1).write_bytes(b"")
    with pytest.raises(UserError, match="2 damaged of .*; repair the pseudo-labels first, as d"):
        finished.check()


def test_an_empty_store_is_said_to_be_empty_and_stays_so(finished, checked, tmp_path):
    out, error = checked(changed(finished, store=str(tmp_path / "none")))
    assert (out, error) == (f"nothing is stored yet for run toy in {tmp_path / 'none'}", "")
    assert not (tmp_path / "none").exists()


def test_a_messy_run_is_summed_up_and_doing_what_is_said_repairs_it(finished, checked, capsys):
    store = finished.store
    (store.fold_folder(MEMBER, 0) / "tokenizer.json").write_text("{}")
    (store.fold_folder(MEMBER, 1) / "card.json").unlink()
    store.blend_path.write_text("{}")
    store.submission_path.write_text("id,target\n")
    out, error = checked()
    assert "fold models 1 damaged, 1 unfinished" in out
    assert f"unfinished: {MEMBER} fold 1: train.py starts from the beginning" in out
    assert f"damaged: models/toy/{MEMBER}" not in out
    assert "damaged: submission.csv: submissions/toy/submission.csv is damaged" in out
    commands = "train.py --overwrite && python blend.py && python infer.py"
    assert error.startswith("3 damaged of ")
    assert error.endswith(f"; to repair it: python {commands} (with the same --config and --set)")
    finished.train(overwrite=True)
    finished.blend()
    finished.infer()
    assert checked()[1] == ""


def test_unfinished_artefacts_are_named_and_are_no_damage(finished, checked):
    store = finished.store
    (store.fold_folder(MEMBER, 1) / "card.json").unlink()
    store.folds_path.unlink()
    store.submission_path.unlink()
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    folder = store.fold_folder(MEMBER, 3)
    left = folder.with_name(f".fold3.{files._machine()}-{done.pid}.tmp")
    left.mkdir()
    folder.with_name(f".fold3.{files._machine()}-{os.getppid()}.tmp").mkdir()  # still running
    assert states(store) == {
        "folds.csv": "unfinished",
        f"{MEMBER} fold 1": "unfinished",
        "submission.csv": "unfinished",
        str(left): "left over",
    }
    store.submission_path.with_suffix(".json").rename(folder.with_name("away.json"))
    store.submission_path.write_text("id,target\n")
    assert states(store)["submission.csv"] == "damaged"  # the card is written first


HOLD = """
import sys
from pathlib import Path

sys.path[:] = sys.argv[2:]
from poolblend.store.locks import ProcessLock

lock = ProcessLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_fold_whose_lock_is_held_is_in_training(finished):
    lock = finished.store.fold(MEMBER, 1).lock
    command = [sys.executable, "-c", HOLD, str(lock.path), *sys.path]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        (found,) = [each for each in survey(finished.store) if each.state != "whole"]
        assert (found.name, found.state) == (f"{MEMBER} fold 1", "in training")
        assert found.message.startswith(f"by process {other.pid} on ")
        other.kill()
    assert states(finished.store) == {}  # a dead process holds no lock


@pytest.mark.parametrize(
    ("damage", "commands"),
    [
        (lambda run: run.store.submission_path, "infer.py"),
        (lambda run: run.store.test_path(MEMBER, 1), "infer.py"),
        (lambda run: run.store.blend_path, "blend.py && python infer.py"),
        (lambda run: run.store.fold_folder(MEMBER, 1) / "card.json", "train.py --overwrite"),
    ],
    ids=["submission", "test predictions", "blend", "fold"],
)
def test_only_the_commands_that_are_needed_are_named(finished, checked, damage, commands):
    damage(finished).write_bytes(b"")
    assert f"to repair it: python {commands} (with" in checked()[1]


def test_what_the_config_or_data_would_change_is_stale(finished, checked):
    train = finished.settings.train.model_copy(update={"lr": 0.002})
    out, error = checked(changed(finished, train=train))
    assert f"stale: {MEMBER} fold 1: is stale" not in out
    assert f"stale: {MEMBER} fold 1: " in out
    assert "train.lr was 0.001, is 0.002" in out
    assert error.startswith("2 stale of ")
    assert "python train.py --overwrite && python blend.py && python infer.py" in error

    settings = changed(finished, train=train)
    finished._replace(settings=settings).train(overwrite=True)
    out, error = checked(settings)
    assert f"blend.json: since then, {MEMBER} fold 0 was trained again and 1 more" in out
    assert "to repair it: python blend.py && python infer.py" in error
    finished.blend()
    out, error = checked(settings)
    assert "stale: submission.csv: made from an older blend; run infer.py again" in out

    path = finished.settings.data_dir / "train.csv"
    path.write_text(path.read_text().replace("lovely", "sweet"))
    assert f"stale: {MEMBER} fold 0: train has changed" in checked(settings)[0]


@pytest.mark.parametrize("lacking", ["backbone", "train.csv", "demo"])
def test_where_staleness_is_unknown_damage_is_still_found(finished, checked, lacking, tmp_path):
    settings = finished.settings
    if lacking == "train.csv":
        (settings.data_dir / "train.csv").unlink()
    elif lacking == "demo":
        data = settings.data.model_copy(update={"demo": True, "dir": str(tmp_path / "demo")})
        settings = changed(finished, data=data)
    else:
        gone = settings.backbone.model_copy(update={"source": str(tmp_path / "gone")})
        settings = changed(finished, backbone=gone)
    out, error = checked(settings)
    assert "whether folds are stale is unknown:" in out
    assert error == ""
    assert not (tmp_path / "demo").exists()
    finished.store.oof_path(MEMBER, 0).write_bytes(b"")
    assert f"damaged: {MEMBER} fold 0:" in checked(settings)[0]


def test_members_of_other_configs_and_copied_stores_are_checked(finished, checked, tmp_path):
    shutil.copytree(finished.store.root, tmp_path / "a copy é")
    settings = changed(finished, store=str(tmp_path / "a copy é"))
    assert checked(settings)[1] == ""
    settings = changed(finished, store=settings.store, members=[])
    open_store(settings).oof_path(MEMBER, 0).write_bytes(b"")
    assert f"damaged: {MEMBER} fold 0" in checked(settings)[0]
