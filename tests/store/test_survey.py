"""The survey names every artefact with its state, and writes nothing."""

import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from poolblend.store import Store, files, write_folds
from poolblend.store.predictions import to_table
from poolblend.store.survey import survey
from rig.blend_cards import blend_card

OOF = to_table(["a", "b"], np.array([[0.25], [0.75]]), ["target"], fold=0)
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Part:
    def save_pretrained(self, folder):
        Path(folder, "tokenizer.json").write_text("{}")


@pytest.fixture
def store(tmp_path):
    """Two folds, a checkpoint, folds, test predictions, a blend and a submission."""
    store = Store(tmp_path, "toy")
    tensors = {"w": torch.ones(3)}
    for fold in (0, 1):
        store.save_fold(
            "m", fold, tensors=tensors, parts=[Part()], oof=OOF, card={"inputs": {"fold": fold}}
        )
    store.checkpoints("m", 2).save(5, tensors, {})
    store.save_test("m", 0, OOF.drop(columns="fold"), {})
    write_folds(store.folds_path, OOF[["id", "fold"]], {})
    store.write_blend(blend_card(run="toy"))
    store.write_submission(pd.DataFrame({"id": ["a"], "target": [1]}), {}, NOW)
    return store


def states(store):
    return {str(artefact): artefact.state for artefact in survey(store)}


def told(store, what):
    (found,) = [artefact for artefact in survey(store) if str(artefact) == what]
    return found.told


WHOLE = {
    "folds.csv": "whole",
    "m fold 0": "whole",
    "m fold 1": "whole",
    "m fold 2": "unfinished",
    "m checkpoint of fold 2": "whole",
    "m test predictions of fold 0": "whole",
    "blend.json": "whole",
    "submission.csv": "whole",
    "submission-20260101-000000.csv": "whole",
}


def test_an_empty_store_holds_nothing_and_stays_empty(tmp_path):
    store = Store(tmp_path / "none", "toy")
    assert list(survey(store)) == []
    assert not store.root.exists()


def test_everything_that_is_there_is_named_and_nothing_is_written(store):
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    assert states(store) == WHOLE
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == before
    assert told(store, "m fold 2") == "train.py goes on at its last checkpoint"


PLACES = {
    "m fold 0": "models/toy/m/fold0/model.safetensors",
    "m fold 1": "oof/toy/m/fold1.parquet",
    "m checkpoint of fold 2": "models/toy/m/checkpoints/fold2/step-00000005/state.safetensors",
    "m test predictions of fold 0": "oof/toy/m/test_fold0.parquet",
    "folds.csv": "input/toy/folds.csv",
    "blend.json": "oof/toy/blend.json",
    "submission.csv": "submissions/toy/submission.json",
    "submission-20260101-000000.csv": "submissions/toy/submission-20260101-000000.csv",
}


@pytest.mark.parametrize("what", PLACES)
def test_one_damaged_file_is_one_damaged_artefact_with_what_to_do(store, what):
    path = store.root / PLACES[what]
    content = path.read_bytes()
    path.write_bytes(content[:-4] + bytes([content[-4] ^ 1]) + content[-3:])
    assert states(store) == {**WHOLE, what: "damaged"}
    assert str(path.with_suffix("")) in told(store, what)
    assert (
        " again" in told(store, what)
        or "goes on" in told(store, what)
        or "restore" in told(store, what)
    )


@pytest.mark.parametrize(
    ("name", "state"), [("submission.csv", "unfinished"), ("submission.json", "damaged")]
)
def test_half_a_submission_is_named(store, name, state):
    """The card comes first: without it, somebody has removed it."""
    store.submission_path.with_name(name).unlink()
    assert states(store) == {**WHOLE, "submission.csv": state}
    assert "run infer.py again" in told(store, "submission.csv")


def test_folds_of_which_there_is_but_the_card_are_unfinished(store):
    store.folds_path.unlink()
    assert states(store) == {**WHOLE, "folds.csv": "unfinished"}


def test_a_checkpoint_half_removed_is_none(store):
    folder = store.checkpoints("m", 2).folders()[0]
    (folder / "card.json").unlink()
    whole = {what: state for what, state in WHOLE.items() if "checkpoint" not in what}
    assert states(store) == whole


def test_a_fold_without_a_card_is_unfinished(store):
    (store.fold_folder("m", 1) / "card.json").unlink()
    assert states(store) == {**WHOLE, "m fold 1": "unfinished"}
    assert told(store, "m fold 1") == "train.py begins anew"


HOLD = """
import sys; sys.path.insert(0, {src!r})
from pathlib import Path
from poolblend.store.locks import ProcessLock
lock = ProcessLock(Path({path!r}))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_fold_whose_lock_is_held_is_in_training_and_its_checkpoints_are_let_be(store):
    src = str(files.__file__).removesuffix("/poolblend/store/files.py")
    script = HOLD.format(src=src, path=str(store.lock("m", 2).path))
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        whole = {what: state for what, state in WHOLE.items() if "checkpoint" not in what}
        assert states(store) == {**whole, "m fold 2": "in training"}
        assert told(store, "m fold 2").startswith(f"by process {other.pid} on ")
        other.kill()
    assert store.lock("m", 2).path.exists()
    assert states(store) == WHOLE  # a dead process keeps no lock


def test_what_a_dead_process_left_is_named(store):
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    left = store.fold_folder("m", 3).with_name(f".fold3.{files._machine()}-{done.pid}.tmp")
    left.mkdir()
    alive = left.with_name(f".fold3.{files._machine()}-{os.getppid()}.tmp")
    alive.mkdir()
    assert states(store) == {**WHOLE, str(left): "left over"}
