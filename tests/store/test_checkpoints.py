"""The last two checkpoints of a training, each whole or passed over."""

import pytest
import torch

from poolblend.errors import UserError
from poolblend.store import Checkpoints
from rig.cards import checkpoint_card


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints" / "fold0")


def save(checkpoints, step):
    checkpoints.save(step, {"w": torch.full((3,), float(step))}, checkpoint_card(step))


def names(checkpoints):
    return [folder.name for folder in checkpoints.folders()]


def test_the_newest_reads_back(checkpoints):
    assert checkpoints.newest() is None
    for step in (9, 10, 100):
        save(checkpoints, step)
    found = checkpoints.newest()
    assert found.card.step == 100
    assert torch.equal(found.tensors()["w"], torch.full((3,), 100.0))


def test_the_last_two_are_kept(checkpoints):
    for step in range(5):
        save(checkpoints, step)
    assert names(checkpoints) == ["step-00000003", "step-00000004"]
    assert len(checkpoints) == 2


@pytest.mark.parametrize("file", ["state.safetensors", "card.json"])
@pytest.mark.parametrize("damage", ["cut short", "emptied", "flipped", "gone"])
def test_the_older_one_is_used_where_the_newer_is_damaged(checkpoints, file, damage, caplog):
    save(checkpoints, 1)
    save(checkpoints, 2)
    path = checkpoints.folders()[-1] / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"cut short": content[:-2], "emptied": b"", "flipped": flipped}[damage])
    assert checkpoints.newest().card.step == 1
    if (file, damage) != ("card.json", "gone"):  # half removed, as by a kill
        assert f"{path} is damaged" in caplog.text
        assert "an older checkpoint is used" in caplog.text


def test_the_tensors_of_two_checkpoints_exchanged_are_found(checkpoints):
    for step in (1, 2):
        save(checkpoints, step)
    one, two = (folder / "state.safetensors" for folder in checkpoints.folders())
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    assert checkpoints.newest() is None


def test_a_damaged_checkpoint_is_replaced_by_one_of_the_same_step(checkpoints):
    save(checkpoints, 1)
    (checkpoints.folders()[0] / "state.safetensors").write_bytes(b"")
    save(checkpoints, 1)
    assert checkpoints.newest().card.step == 1


def test_a_disk_that_takes_no_more_keeps_the_last_one(checkpoints, monkeypatch):
    def full(tensors, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    save(checkpoints, 1)
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UserError, match="could not write .*No space left"):
        save(checkpoints, 2)
    assert names(checkpoints) == ["step-00000001"]
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-00000001"]


def test_dropping_leaves_nothing_and_other_folds_theirs(checkpoints):
    other = Checkpoints(checkpoints.folder.with_name("fold1"))
    save(checkpoints, 1)
    save(other, 1)
    checkpoints.drop()
    assert not checkpoints.folder.exists()
    assert other.newest().card.step == 1
    other.drop()
    assert not other.folder.parent.exists()
    other.drop()
