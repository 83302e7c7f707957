import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from poolblend.errors import UserError
from poolblend.store import Store
from poolblend.store.predictions import from_table, to_table


class Part:
    """Stands for a tokenizer: writes a file into the folder that it is given."""

    def save_pretrained(self, folder):
        Path(folder, "tokenizer.json").write_text("{}")


class BrokenPart:
    def save_pretrained(self, folder):
        raise OSError(28, "No space left on device")


OOF = to_table(["a", "b"], np.array([[0.25], [0.75]]), ["target"], fold=0)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "toy")


def save(store, value=1.0, part=None, oof=OOF):
    store.save_fold(
        "m",
        0,
        tensors={"w": torch.full((3,), value)},
        parts=[part or Part()],
        oof=oof,
        card={"inputs": {}},
    )


def everything(store):
    return sorted(str(p.relative_to(store.root)) for p in store.root.rglob("*") if p.is_file())


def test_a_finished_fold_reads_back(store):
    assert store.fold_card("m", 0) is None
    save(store)
    assert store.fold_card("m", 0)["oof"]["bytes"] > 0
    assert torch.equal(store.load_tensors("m", 0)["w"], torch.ones(3))
    pd.testing.assert_frame_equal(store.read_oof("m", 0), OOF)
    assert store.members() == ["m"]
    assert everything(store) == [
        "models/toy/m/fold0/card.json",
        "models/toy/m/fold0/model.safetensors",
        "models/toy/m/fold0/tokenizer.json",
        "oof/toy/m/fold0.parquet",
    ]


def test_a_fold_saved_again_replaces_the_old_one_whole(store):
    save(store)
    before = store.fold_card("m", 0)
    save(store, value=2.0)
    assert torch.equal(store.load_tensors("m", 0)["w"], torch.full((3,), 2.0))
    assert store.fold_card("m", 0)["weights"]["sha256"] != before["weights"]["sha256"]
    assert len(everything(store)) == 4


def test_a_fold_that_fails_to_save_leaves_the_old_one_finished(store):
    save(store)
    with pytest.raises(UserError, match="No space left"):
        save(store, value=2.0, part=BrokenPart())
    assert torch.equal(store.load_tensors("m", 0)["w"], torch.ones(3))
    assert len(everything(store)) == 4


@pytest.mark.parametrize("missing", ["card.json", "model.safetensors"])
def test_a_fold_without_one_of_its_files_is_unfinished(store, missing):
    save(store)
    (store.fold_folder("m", 0) / missing).unlink()
    assert store.fold_card("m", 0) is None
    with pytest.raises(UserError, match="m fold 0 is not finished"):
        store.load_tensors("m", 0)


def test_a_fold_without_its_oof_rows_is_unfinished(store):
    save(store)
    store.oof_path("m", 0).unlink()
    assert store.fold_card("m", 0) is None


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_found_and_named_when_it_is_read(store):
    save(store)
    weights = store.fold_folder("m", 0) / "model.safetensors"
    flip_last_byte(weights)
    with pytest.raises(UserError, match=f"{weights} is damaged.*train m fold 0 again"):
        store.load_tensors("m", 0)
    flip_last_byte(store.oof_path("m", 0))
    with pytest.raises(UserError, match="fold0.parquet is damaged"):
        store.read_oof("m", 0)


def test_a_changed_tokenizer_is_found_too(store):
    save(store)
    (store.fold_folder("m", 0) / "tokenizer.json").write_text("[]")
    with pytest.raises(UserError, match="tokenizer.json is damaged"):
        store.load_tensors("m", 0)


@pytest.mark.parametrize("change", [{"inputs": None}, {"weights": None}, {"oof": []}])
def test_a_card_that_is_not_whole_leaves_its_fold_unfinished(store, change):
    save(store)
    path = store.fold_folder("m", 0) / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert store.fold_card("m", 0) is None


def test_test_predictions_count_only_for_what_they_were_made_from(store):
    table = OOF.drop(columns="fold")
    assert store.load_test("m", 0, {"weights_sha256": "1"}) is None
    store.save_test("m", 0, table, {"weights_sha256": "1"})
    pd.testing.assert_frame_equal(store.load_test("m", 0, {"weights_sha256": "1"}), table)
    assert store.load_test("m", 0, {"weights_sha256": "2"}) is None


def test_damaged_test_predictions_are_made_again(store):
    store.save_test("m", 0, OOF, {})
    path = store.test_path("m", 0)
    for damaged in (b"", path.read_bytes()[:50], b"PAR1 not really PAR1"):
        path.write_bytes(damaged)
        assert store.load_test("m", 0, {}) is None


def test_folds_read_back_with_their_ids_as_they_were(store):
    assert store.read_folds() is None
    folds = pd.DataFrame({"id": ["0001", "NA", "x"], "fold": [0, 1, 0]})
    store.write_folds(folds)
    assert store.read_folds().to_dict("list") == folds.to_dict("list")


@pytest.mark.parametrize(
    "broken",
    ["id,fold\na,x\n", "id\na\n", "", "id,fold\na,99999999999999999999999\n", 'id,fold\na\n"\n'],
)
def test_a_broken_folds_file_is_refused_by_name(store, broken):
    store.folds_path.parent.mkdir(parents=True)
    store.folds_path.write_text(broken)
    with pytest.raises(UserError, match=r"folds.csv is not a table of id, fold"):
        store.read_folds()


def test_no_blend_card_says_what_to_run(store):
    with pytest.raises(UserError, match=r"no blend card at .*run blend.py first"):
        store.read_blend()
    store.write_blend({"weights": {"m": 1.0}})
    assert store.read_blend() == {"weights": {"m": 1.0}}


def test_a_submission_is_kept_under_its_date_too(store):
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    path = store.write_submission(pd.DataFrame({"id": ["a"], "target": [1]}), {"run": "toy"}, now)
    assert path.read_text() == "id,target\na,1\n"
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "submission-20260102-030405.csv",
        "submission-20260102-030405.json",
        "submission.csv",
        "submission.json",
    ]


def test_predictions_are_joined_by_id_and_never_by_position():
    table = to_table(["a", "b", "c"], np.arange(6.0).reshape(3, 2), ["x", "y"])
    assert list(table) == ["id", "pred_x", "pred_y"]
    assert from_table(table, ["c", "a"], ["y", "x"]).tolist() == [[5.0, 4.0], [1.0, 0.0]]
