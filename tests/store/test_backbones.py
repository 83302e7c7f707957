"""A backbone that was trained on further is whole as its card says, or named, and no member."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from poolblend.store import DamagedError, Store
from poolblend.store.survey import survey
from rig.cards import backbone_card, backbone_inputs, checkpoint_card
from rig.edited import edit_card


class Part:
    def __init__(self, weight=1.0):
        self.weight = weight

    def save_pretrained(self, folder):
        save_file({"w": torch.full((3,), self.weight)}, Path(folder, "model.safetensors"))
        Path(folder, "config.json").write_text("{}")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "toy")


@pytest.fixture
def saved(store):
    files = store.backbone("tiny-mlm")
    files.save(parts=[Part()], make_card=backbone_card)
    return files


def states(store):
    return {artefact.name: artefact.state for artefact in survey(store)}


def test_what_was_saved_is_vouched_for_file_by_file(store, saved):
    assert store.backbone("other").check() is None
    card = saved.check()
    assert card.inputs == backbone_inputs()
    assert sorted(card.files) == ["config.json", "model.safetensors"]
    assert [path.name for path in saved.folder.parent.iterdir()] == ["tiny-mlm"]


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


def test_a_card_of_another_backbone_is_refused(saved):
    edit_card(saved.folder / "card.json", lambda card: card.update(backbone="other"))
    with pytest.raises(DamagedError, match=r"card.json is damaged: it is not the card of this ba"):
        saved.check()


def test_its_hashes_tell_weights_from_the_rest_and_not_when_it_was_made(store, saved):
    first = saved.check().hashes()
    saved.save(parts=[Part()], make_card=partial(backbone_card, seconds=9.0))
    assert saved.check().hashes() == first
    saved.save(parts=[Part(2.0)], make_card=backbone_card)
    again = saved.check().hashes()
    assert again.weights_sha256 != first.weights_sha256
    assert again.files_sha256 == first.files_sha256


def test_a_save_that_fails_leaves_what_was_there(saved):
    class Broken:
        def save_pretrained(self, folder):
            raise OSError("No space left on device")

    before = saved.check()
    with pytest.raises(Exception, match="No space left"):
        saved.save(parts=[Part(2.0), Broken()], make_card=backbone_card)
    assert saved.check() == before
    assert [path.name for path in saved.folder.parent.iterdir()] == ["tiny-mlm"]


@pytest.mark.parametrize("name", ["fold0", "checkpoints", "backbones"])
def test_a_backbone_of_any_name_is_no_member(store, name):
    files = store.backbone(name)
    files.save(parts=[Part()], make_card=partial(backbone_card, name=name))
    files.checkpoints.save(3, {"w": torch.ones(2)}, checkpoint_card())
    assert store.members() == []
    assert store.backbone_names() == [name]
    assert states(store) == {f"backbone {name}": "whole", f"checkpoint of backbone {name}": "whole"}


def test_one_that_was_begun_is_unfinished_or_in_training(store):
    files = store.backbone("tiny-mlm")
    files.checkpoints.save(3, {"w": torch.ones(2)}, checkpoint_card())
    (unfinished, _) = survey(store)
    assert unfinished.message == "train.py resumes from its last checkpoint"
    (state,) = files.checkpoints.folder.rglob("state.safetensors")
    state.write_bytes(b"")
    assert states(store) == {
        "backbone tiny-mlm": "unfinished",
        "checkpoint of backbone tiny-mlm": "damaged",
    }
    with files.lock:
        assert states(store) == {"backbone tiny-mlm": "in training"}
    files.checkpoints.drop()
    assert list(survey(store)) == []


def test_another_ones_checkpoint_is_not_gone_on_from(store):
    one, other = store.backbone("one").checkpoints, store.backbone("other").checkpoints
    one.save(3, {"w": torch.ones(2)}, checkpoint_card())
    one.folder.rename(other.folder)
    assert other.newest() is None
