"""Stored hidden states: read through a memory map, checked by hash, limited in size."""

import pickle

import numpy as np
import pytest

from poolblend.store.files import UnwritableError
from poolblend.store.hidden_states import HiddenStatesFolder
from rig.cards import states_inputs

INPUTS = states_inputs()
X_SLH = np.arange(5 * 2 * 3, dtype=np.float32).reshape(5, 2, 3)


def save(folder, inputs=INPUTS):
    def fill(put):
        put(3, X_SLH[3:])  # in any order
        put(0, X_SLH[:3])
        return 0.25

    folder.save(inputs, X_SLH.shape, X_SLH.dtype, fill)


def test_states_are_read_as_they_were_put(tmp_path):
    assert HiddenStatesFolder(tmp_path).load(INPUTS) is None
    save(HiddenStatesFolder(tmp_path))
    found, card = HiddenStatesFolder(tmp_path).load(INPUTS)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert card.seconds == 0.25
    np.testing.assert_array_equal(found, X_SLH)


@pytest.mark.parametrize(
    "changed",
    [
        {"backbone_sha256": "c"},
        {"backbone_files_sha256": "c"},
        {"rows_sha256": "c"},
        {"layers": (1,)},
        {"precision": "bf16"},
        {"attention": "eager"},
        {"equal_lengths": True},
    ],
)
def test_states_of_anything_else_are_not_read(tmp_path, changed):
    folder = HiddenStatesFolder(tmp_path)
    save(folder)
    other = INPUTS.model_copy(update=changed)
    assert folder.load(other) is None
    # Nor where a file is put in the place of another.
    for suffix in (".npy", ".json"):
        folder.path(INPUTS).with_suffix(suffix).rename(folder.path(other).with_suffix(suffix))
    assert HiddenStatesFolder(tmp_path).load(other) is None


@pytest.mark.parametrize("damage", ["byte", "short", "no card", "card", "empty"])
def test_damaged_states_are_named_and_not_read(tmp_path, caplog, damage):
    folder = HiddenStatesFolder(tmp_path)
    save(folder)
    path = folder.path(INPUTS)
    content = bytearray(path.read_bytes())
    if damage == "byte":
        content[-1] ^= 1
    path.write_bytes({"short": content[:-4], "empty": b""}.get(damage, content))
    if damage == "no card":
        path.with_suffix(".json").unlink()
    if damage == "card":
        path.with_suffix(".json").write_text("{}")
    assert HiddenStatesFolder(tmp_path).load(INPUTS) is None
    assert str(path.stem) in caplog.text
    assert "computed again" in caplog.text
    save(HiddenStatesFolder(tmp_path))
    np.testing.assert_array_equal(HiddenStatesFolder(tmp_path).load(INPUTS)[0], X_SLH)


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    def fill(put):
        put(0, X_SLH[:3])
        raise KeyboardInterrupt

    folder = HiddenStatesFolder(tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        folder.save(INPUTS, X_SLH.shape, X_SLH.dtype, fill)
    assert not list((tmp_path / "cache").iterdir())


def test_a_disk_that_is_full_is_an_error_of_its_own(tmp_path):
    def fill(put):
        raise OSError(28, "No space left on device")

    with pytest.raises(UnwritableError, match="No space left"):
        HiddenStatesFolder(tmp_path).save(INPUTS, X_SLH.shape, X_SLH.dtype, fill)


def test_room_is_what_the_limit_leaves_or_half_of_the_free_disk(tmp_path, monkeypatch):
    limited = HiddenStatesFolder(tmp_path, 1000)
    assert limited.lacks_room(1000) is None
    save(limited)
    stored = limited.path(INPUTS).stat().st_size
    assert limited.lacks_room(1000 - stored) is None
    assert "cache_gb leaves" in limited.lacks_room(1001 - stored)
    assert "cache_gb leaves 0.0 GB" in HiddenStatesFolder(tmp_path, 0).lacks_room(1)
    free = type("Usage", (), {"free": 3000})
    monkeypatch.setattr("shutil.disk_usage", lambda place: free)
    unlimited = HiddenStatesFolder(tmp_path / "not" / "there")
    assert unlimited.lacks_room(1500) is None
    assert "half of the free disk space" in unlimited.lacks_room(1501)


def test_another_process_is_sent_no_states(tmp_path):
    folder = HiddenStatesFolder(tmp_path)
    save(folder)
    folder.load(INPUTS)
    sent = pickle.dumps(folder)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).load(INPUTS)[0], X_SLH)
