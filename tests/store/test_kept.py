"""Kept predictions and vectors count only where they are whole and made from just this."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from poolblend.store import DamagedError, Store
from poolblend.store.predictions import to_table, vectors_table
from poolblend.store.survey import known_folds, survey

IDS = ["a", "é", "0001"]
VECTOR = np.arange(6, dtype=np.float32).reshape(3, 2) / 7
PREDICTIONS = to_table(IDS, VECTOR, ["x", "y"])
HASHES = {"test_sha256": "1", "weights_sha256": "2"}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path, "toy")
    store.test_predictions("m", 0).keep(PREDICTIONS, HASHES)
    store.vectors("m", 0, "test").keep(vectors_table(IDS, VECTOR, None), HASHES)
    store.vectors("m", 0, "train").keep(vectors_table(IDS, VECTOR, np.array([0, 1, 0])), HASHES)
    return store


@pytest.fixture(params=["predictions", "vectors"])
def kept(store, request):
    return store.test_predictions("m", 0) if request.param == "predictions" else vectors(store)


def vectors(store):
    return store.vectors("m", 0, "test")


def test_they_read_back_where_they_were_made_from_just_this(store):
    pd.testing.assert_frame_equal(store.test_predictions("m", 0).load(HASHES), PREDICTIONS)
    table = vectors(store).load(HASHES)
    assert table["id"].tolist() == IDS
    np.testing.assert_array_equal(np.stack(table["vector"]), VECTOR, strict=True)
    for hashes in ({}, HASHES | {"test_sha256": "3"}, HASHES | {"test_joins_sha256": "4"}):
        assert vectors(store).load(hashes) is None
    assert store.vectors("m", 1, "test").load(HASHES) is None


def test_vectors_are_lists_of_one_length_beside_id_and_fold(store):
    folder = store.root / "oof" / "toy" / "m"
    assert sorted(path.name for path in folder.glob("*.parquet")) == [
        "test_fold0.parquet",
        "test_vectors_fold0.parquet",
        "vectors_fold0.parquet",
    ]
    schema = parquet.read_schema(folder / "vectors_fold0.parquet")
    assert schema.names == ["id", "fold", "vector"]
    assert schema.field("vector").type == pa.list_(pa.float32(), 2)
    assert parquet.read_schema(folder / "test_vectors_fold0.parquet").names == ["id", "vector"]


def rewritten(path):
    """Other values in a whole parquet file."""
    table = parquet.read_table(path)
    parquet.write_table(table.take([1, 0, 2]), path)


def edited(path):
    card = path.with_suffix(".json")
    card.write_text(card.read_text().replace('"test_sha256": "1"', '"test_sha256": "3"'))


DAMAGES = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "emptied": lambda path: path.write_bytes(b""),
    "rewritten": rewritten,
    "card gone": lambda path: path.with_suffix(".json").unlink(),
    "card emptied": lambda path: path.with_suffix(".json").write_bytes(b""),
    "card edited": edited,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_ones_are_named_and_made_again(kept, damage, caplog):
    DAMAGES[damage](kept.path)
    with pytest.raises(DamagedError, match=r"fold0.parquet is damaged; infer.py .*makes .* again"):
        kept.check()
    assert kept.load(HASHES) is None
    assert f"{kept.path} is damaged" in caplog.text


def test_those_of_another_place_are_damage(store):
    """Those of another fold's model would be taken for those of a model that knows less."""
    source = store.test_predictions("m", 0).path
    for member, fold in (("m", 1), ("other", 0)):
        file = store.test_predictions(member, fold)
        file.path.parent.mkdir(exist_ok=True)
        for end in (".parquet", ".json"):
            file.path.with_suffix(end).write_bytes(source.with_suffix(end).read_bytes())
        with pytest.raises(DamagedError, match="is damaged"):
            file.check()


def test_the_survey_names_vectors_and_takes_them_for_no_fold(store):
    vectors(store).path.write_bytes(b"")
    found = {each.name: each.state for each in survey(store) if each.kind == "vectors"}
    assert found == {"train vectors of m fold 0": "whole", "test vectors of m fold 0": "damaged"}
    assert known_folds(store) == [("m", 0)]  # for its test predictions
