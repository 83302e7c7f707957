"""A run's artefacts read back as they were written; damaged ones are named."""

from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from poolblend.errors import UserError
from poolblend.store import DamagedError, Store
from poolblend.store.predictions import from_table, to_table
from rig.blend_cards import blend_card
from rig.cards import fold_card
from rig.edited import edit_card
from rig.submissions import submission_card


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


def save(store, value=1.0, part=None, oof=OOF, fold=0):
    store.fold("m", fold).save(
        tensors={"w": torch.full((3,), value)},
        parts=[part or Part()],
        oof=oof.assign(fold=fold),
        make_card=lambda hashes: fold_card(hashes, fold=fold),
    )


def everything(store):
    return sorted(str(p.relative_to(store.root)) for p in store.root.rglob("*") if p.is_file())


def test_a_finished_fold_reads_back(store):
    assert store.fold("m", 0).card() is None
    save(store)
    assert store.fold("m", 0).card().files.oof.bytes > 0
    assert torch.equal(store.fold("m", 0).tensors()["w"], torch.ones(3))
    pd.testing.assert_frame_equal(store.fold("m", 0).oof(), OOF)
    assert store.members() == ["m"]
    assert everything(store) == [
        "models/toy/m/fold0/card.json",
        "models/toy/m/fold0/model.safetensors",
        "models/toy/m/fold0/tokenizer.json",
        "oof/toy/m/fold0.parquet",
    ]


def test_a_fold_saved_again_replaces_the_old_one_whole(store):
    save(store)
    before = store.fold("m", 0).card()
    save(store, value=2.0)
    assert torch.equal(store.fold("m", 0).tensors()["w"], torch.full((3,), 2.0))
    assert store.fold("m", 0).card().files.weights.sha256 != before.files.weights.sha256
    assert len(everything(store)) == 4


def test_a_fold_that_fails_to_save_leaves_the_old_one_finished(store):
    save(store)
    with pytest.raises(UserError, match="No space left"):
        save(store, value=2.0, part=BrokenPart())
    assert torch.equal(store.fold("m", 0).tensors()["w"], torch.ones(3))
    assert len(everything(store)) == 4


def test_a_fold_without_its_card_is_unfinished(store):
    save(store)
    (store.fold_folder("m", 0) / "card.json").unlink()
    assert store.fold("m", 0).card() is None
    with pytest.raises(UserError, match="m fold 0 is not finished"):
        store.fold("m", 0).tensors()


KINDS = ["weights", "tokenizer", "oof", "card"]


def artefact(store, kind, fold=0):
    folder = store.fold_folder("m", fold)
    return {
        "weights": folder / "model.safetensors",
        "tokenizer": folder / "tokenizer.json",
        "oof": store.oof_path("m", fold),
        "card": folder / "card.json",
    }[kind]


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "emptied": lambda path: path.write_bytes(b""),
    "flipped": flip_a_bit,
    "grown": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_and_nothing_is_made_of_it(store, kind, damage):
    save(store)
    path = artefact(store, kind)
    DAMAGES[damage](path)
    if (kind, damage) in {("card", "gone"), ("card", "grown")}:
        return  # an unfinished fold, and a space after the card's last line
    with pytest.raises(
        DamagedError, match=f"{path} is damaged: .*; train m fold 0 again with --overwrite"
    ):
        store.fold("m", 0).check()
    files = store.fold("m", 0)
    for read, reads in ((files.tensors, {"weights", "tokenizer"}), (files.oof, {"oof"})):
        if kind in reads:
            with pytest.raises(DamagedError, match="is damaged"):
                read()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tokenizer"])
def test_files_exchanged_between_folds_are_found(store, kind):
    save(store)
    save(store, value=2.0, fold=1)
    one, other = (artefact(store, kind, fold) for fold in (0, 1))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    with pytest.raises(DamagedError, match="is damaged"):
        store.fold("m", 0).check()
    with pytest.raises(DamagedError, match="is damaged"):
        store.fold("m", 1).check()


def test_whole_folds_exchanged_are_found_by_what_their_cards_say(store):
    save(store)
    store.fold_folder("m", 0).rename(store.fold_folder("m", 1))
    store.oof_path("m", 0).rename(store.oof_path("m", 1))
    with pytest.raises(DamagedError, match="is damaged: it is not the card of this fold"):
        store.fold("m", 1).card()


@pytest.mark.parametrize("name", ["../fold1/tokenizer.json", "/etc/passwd", "a\nb", "a\0b"])
def test_a_card_that_names_files_elsewhere_is_damaged(store, name):
    save(store)
    others = {name: {"bytes": 1, "sha256": ""}}
    edit_card(artefact(store, "card"), lambda card: card["files"].update(others=others))
    with pytest.raises(DamagedError, match="files.others: .*a file outside of the fold's folder"):
        store.fold("m", 0).card()


def test_no_blend_card_says_what_to_run(store):
    with pytest.raises(UserError, match=r"no blend card at .*run blend.py first"):
        store.read_blend()
    card = blend_card(run=store.run)
    store.write_blend(card)
    assert store.read_blend() == card


def test_a_submission_is_kept_under_its_date_too(store):
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    path = store.write_submission(pd.DataFrame({"id": ["a"], "target": [1]}), submission_card, now)
    assert path.read_text() == "id,target\na,1\n"
    assert sorted(p.name for p in path.parent.glob("s*")) == [
        "submission-20260102-030405.csv",
        "submission-20260102-030405.json",
        "submission.csv",
        "submission.json",
    ]


def test_no_submission_lies_beside_a_card_that_is_not_its_own(store, monkeypatch):
    frame = pd.DataFrame({"id": ["a"], "target": [1]})
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    path = store.write_submission(frame, submission_card, now)
    path.with_name("submission-20260101-000000.json").write_text("{}")  # killed before its table
    replace, cards = Path.replace, []

    def last(self, target):
        if target.suffix == ".json":
            cards.append(target.name)
            assert not target.with_suffix(".csv").exists()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", last)
    store.write_submission(frame.assign(target=2), submission_card, now)
    assert {"submission-20260102-000000.json", "submission.json"} <= set(cards)
    assert sorted(each.suffix for each in path.parent.glob("s*")) == [".csv"] * 2 + [".json"] * 2


def test_predictions_are_joined_by_id_and_never_by_position():
    table = to_table(["a", "b", "c"], np.arange(6.0).reshape(3, 2), ["x", "y"])
    assert list(table) == ["id", "pred_x", "pred_y"]
    assert from_table(table, ["c", "a"], ["y", "x"]).tolist() == [[5.0, 4.0], [1.0, 0.0]]
