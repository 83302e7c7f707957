"""Files that travel between stores arrive whole, and a card never before the rest."""

import pytest

from poolblend.store import Store
from poolblend.store.parcels import files_of, fill, made_since, receive

MODEL = "models/run/m/fold0"


@pytest.fixture
def store(tmp_path):
    root = tmp_path / "store"
    fill(root, {f"{MODEL}/card.json": b"old", f"{MODEL}/left.txt": b"over", "oof/a.parquet": b"1"})
    return root


def test_locks_and_unfinished_files_stay(store):
    fill(store, {f"{MODEL}.lock": b"", f"{MODEL}/x.tmp": b"", ".checkpoints/b/card.json": b"c"})
    assert files_of(store, [store / "oof", store / MODEL / "card.json", store / "none"]) == [
        f"{MODEL}/card.json",
        "oof/a.parquet",
    ]
    assert files_of(store, [store / ".checkpoints"]) == [".checkpoints/b/card.json"]
    assert not [name for name in files_of(store, [store]) if name.endswith((".lock", ".tmp"))]


def test_only_what_is_new_or_changed_comes_back(store):
    sent = {name: (store / name).read_bytes() for name in files_of(store, [store])}
    assert made_since(store, sent) == {}
    fill(store, {"oof/a.parquet": b"2", "oof/b.parquet": b"3"})
    assert made_since(store, sent) == {"oof/a.parquet": b"2", "oof/b.parquet": b"3"}


def test_a_received_card_replaces_its_folder_and_is_written_last(store, monkeypatch):
    parcel = {f"{MODEL}/card.json": b"new", f"{MODEL}/model": b"w", "oof/a.parquet": b"2"}
    seen = []
    from poolblend.store import parcels

    whole = parcels.no_half_files

    def watched(path):
        seen.append((path.name, (store / MODEL / "card.json").exists()))
        return whole(path)

    monkeypatch.setattr(parcels, "no_half_files", watched)
    receive(Store(store, "run"), parcel)
    assert {name: (store / name).read_bytes() for name in files_of(store, [store])} == parcel
    assert seen[-1] == ("card.json", False)
    assert not any(stood for _, stood in seen)


def test_a_copy_of_a_backbone_stays_while_others_read_it(store):
    base = "models/run/bases/b"
    fill(store, {f"{base}/card.json": b"first", f"{base}/model.safetensors": b"w"})
    before = (store / base / "model.safetensors").stat().st_ino
    again = {f"{base}/card.json": b"second", f"{base}/model.safetensors": b"w"}
    receive(Store(store, "run"), again)
    assert (store / base / "card.json").read_bytes() == b"first"
    assert (store / base / "model.safetensors").stat().st_ino == before
    receive(Store(store, "run"), again | {f"{base}/model.safetensors": b"mended"})
    assert (store / base / "card.json").read_bytes() == b"second"
    assert (store / base / "model.safetensors").read_bytes() == b"mended"
