"""A backbone that was trained on further is whole as its card says, or named, and no member."""

import pytest
import torch
from safetensors.torch import save_file

from poolblend.store import DamagedError, Store
from poolblend.store.backbones import content_sha256
from poolblend.store.cards import write_card
from poolblend.store.survey import survey


class Part:
    def __init__(self, weight=1.0):
        self.weight = weight

    def save_pretrained(self, folder):
        from pathlib import Path

        save_file({"w": torch.full((3,), self.weight)}, Path(folder, "model.safetensors"))
        Path(folder, "config.json").write_text("{}")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "toy")


@pytest.fixture
def saved(store):
    files = store.backbone("tiny-mlm")
    files.save(parts=[Part()], card={"inputs": {"seed": 1}})
    return files


def states(store):
    return {artefact.name: artefact.state for artefact in survey(store)}


def test_what_was_saved_is_vouched_for_file_by_file(store, saved):
    assert store.backbone("other").check() is None
    card = saved.check()
    assert card["inputs"] == {"seed": 1}
    assert sorted(card["files"]) == ["config.json", "model.safetensors"]
    assert {path.name for path in saved.folder.parent.iterdir()} == {"tiny-mlm"}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "card.json"])
@pytest.mark.parametrize("how", ["cut", "altered", "gone"])
def test_what_is_not_as_it_was_written_is_named(store, saved, name, how):
    path = saved.folder / name
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if how == "cut" else content[:-3] + b"#" + content[-2:])
    if (name, how) == ("card.json", "gone"):
        assert saved.check() is None
        assert states(store) == {"backbone tiny-mlm": "unfinished"}
        return
    told = rf"{path} is damaged: .*; train backbone tiny-mlm again with --overwrite"
    with pytest.raises(DamagedError, match=told):
        saved.check()
    assert states(store) == {"backbone tiny-mlm": "damaged"}


def test_a_file_that_came_later_is_refused_since_it_would_be_read(saved):
    (saved.folder / ".DS_Store").touch()  # which nobody reads
    assert saved.check()
    (saved.folder / "added_tokens.json").write_text("{}")
    with pytest.raises(DamagedError, match=r"added_tokens.json is damaged: it was not written wi"):
        saved.check()


@pytest.mark.parametrize("wrong", [{"backbone": "other"}, {"files": []}, {"files": {"a": 1}}])
def test_a_card_of_something_else_is_refused(saved, wrong):
    write_card(saved.folder / "card.json", saved.check() | wrong)
    with pytest.raises(DamagedError, match=r"card.json is damaged: it is not the card of this ba"):
        saved.check()


def test_its_hashes_tell_weights_from_the_rest_and_not_when_it_was_made(store, saved):
    first = content_sha256(saved.check())
    saved.save(parts=[Part()], card={"inputs": {"seed": 1}, "written": "later"})
    assert content_sha256(saved.check()) == first
    saved.save(parts=[Part(2.0)], card={})
    again = content_sha256(saved.check())
    assert again[0] != first[0]
    assert again[1] == first[1]


def test_a_save_that_fails_leaves_what_was_there(saved):
    class Broken:
        def save_pretrained(self, folder):
            raise OSError("No space left on device")

    before = saved.check()
    with pytest.raises(Exception, match="No space left"):
        saved.save(parts=[Part(2.0), Broken()], card={})
    assert saved.check() == before
    assert {path.name for path in saved.folder.parent.iterdir()} == {"tiny-mlm"}


@pytest.mark.parametrize("name", ["fold0", "checkpoints", "backbones"])
def test_a_backbone_of_any_name_is_no_member(store, name):
    files = store.backbone(name)
    files.save(parts=[Part()], card={})
    files.checkpoints.save(3, {"w": torch.ones(2)}, {})
    assert store.members() == []
    assert store.backbone_names() == [name]
    assert states(store) == {f"backbone {name}": "whole", f"checkpoint of backbone {name}": "whole"}


def test_one_that_was_begun_is_unfinished_or_in_training(store):
    files = store.backbone("tiny-mlm")
    files.checkpoints.save(3, {"w": torch.ones(2)}, {})
    (unfinished, _) = survey(store)
    assert unfinished.message == "train.py resumes from its last checkpoint"
    (state,) = files.checkpoints.folder.rglob("state.safetensors")
    state.write_bytes(b"")
    assert states(store) == {
        "backbone tiny-mlm": "unfinished",
        "checkpoint of backbone tiny-mlm": "damaged",
    }
    with files.lock():
        assert states(store) == {"backbone tiny-mlm": "in training"}
    files.checkpoints.drop()
    assert list(survey(store)) == []


def test_another_ones_checkpoint_is_not_gone_on_from(store):
    one, other = store.backbone("one").checkpoints, store.backbone("other").checkpoints
    one.save(3, {"w": torch.ones(2)}, {})
    one.folder.rename(other.folder)
    assert other.newest() is None
