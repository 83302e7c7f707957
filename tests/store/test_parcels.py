"""Files that travel between stores arrive whole, and a card never before the rest."""

import pytest

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
    receive(store, parcel)
    assert {name: (store / name).read_bytes() for name in files_of(store, [store])} == parcel
    assert seen[-1] == ("card.json", False)
    assert not any(stood for _, stood in seen)
