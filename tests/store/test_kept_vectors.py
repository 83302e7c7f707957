"""Vectors read back bit for bit, and whatever is not what was written is no vectors."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from poolblend.store import DamagedError, Store
from poolblend.store.survey import begun_folds, survey_extras
from poolblend.store.vectors import Vectors

VECTOR = np.arange(6, dtype=np.float32).reshape(3, 2) / 7
TRAIN = Vectors(np.array(["a", "é", "0001"]), VECTOR, np.array([0, 1, 0]), {"train_sha256": "1"})
TEST = TRAIN._replace(fold_N=None, made_from={"test_sha256": "2"})


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path, "toy")
    store.vectors("m", 0, "train").save(TRAIN)
    store.vectors("m", 0, "test").save(TEST)
    return store


def same(one, other):
    assert one.ids_N.tolist() == other.ids_N.tolist()
    np.testing.assert_array_equal(one.vector_NH, other.vector_NH, strict=True)
    assert one.made_from == other.made_from
    if other.fold_N is None:
        assert one.fold_N is None
    else:
        np.testing.assert_array_equal(one.fold_N, other.fold_N)


def test_vectors_read_back_where_they_were_made_from_just_this(store):
    file = store.vectors("m", 0, "train")
    same(file.load(TRAIN.made_from), TRAIN)
    same(store.vectors("m", 0, "test").load(TEST.made_from), TEST)
    assert file.load({"train_sha256": "other"}) is None
    assert store.vectors("m", 1, "train").load(TRAIN.made_from) is None


def test_the_files_are_tables_of_lists_of_one_length_under_the_names_that_are_told(store):
    folder = store.root / "oof" / "toy" / "m"
    assert sorted(path.name for path in folder.iterdir()) == [
        "test_vectors_fold0.parquet",
        "vectors_fold0.parquet",
    ]
    schema = parquet.read_schema(folder / "vectors_fold0.parquet")
    assert schema.names == ["id", "fold", "vector"]
    assert schema.field("vector").type == pa.list_(pa.float32(), 2)
    frame = pd.read_parquet(folder / "test_vectors_fold0.parquet")
    assert list(frame) == ["id", "vector"]
    np.testing.assert_array_equal(np.stack(frame["vector"]), VECTOR, strict=True)


def edited(**columns):
    """The file with other columns under the same note."""

    def edit(path):
        table = parquet.read_table(path)
        for name, values in columns.items():
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.array(values, table[name].type))
        parquet.write_table(table, path)

    return edit


def of_another_origin(path):
    table = parquet.read_table(path)
    note = table.schema.metadata[b"poolblend"].replace(b'"1"', b'"3"')
    parquet.write_table(table.replace_schema_metadata({b"poolblend": note}), path)


DAMAGES = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "emptied": lambda path: path.write_bytes(b""),
    "another value": edited(vector=[[0, 1], [2, 3], [4, 5]]),
    "other ids": edited(id=["é", "a", "0001"]),
    "other folds": edited(fold=[1, 1, 0]),
    "another origin": of_another_origin,
    "no note": lambda path: parquet.write_table(
        parquet.read_table(path).replace_schema_metadata({}), path
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_vectors_are_named_and_made_again(store, damage, caplog):
    file = store.vectors("m", 0, "train")
    DAMAGES[damage](file.path)
    with pytest.raises(DamagedError, match="vectors_fold0.parquet is damaged; infer.py --vectors"):
        file.check()
    assert file.load(TRAIN.made_from) is None
    assert f"{file.path} is damaged" in caplog.text


def test_vectors_of_another_place_are_damage(store):
    """A fold's vectors under another fold's name would be taken for those of an unseen row."""
    content = store.vectors("m", 0, "train").path.read_bytes()
    for place in (("m", 1, "train"), ("other", 0, "train"), ("m", 0, "test")):
        file = store.vectors(*place)
        file.path.parent.mkdir(exist_ok=True)
        file.path.write_bytes(content)
        with pytest.raises(DamagedError, match="is damaged"):
            file.check()


def test_the_survey_names_vectors_and_takes_them_for_no_fold(store):
    path = store.vectors("m", 0, "test").path
    found = {str(artefact): artefact.state for artefact in survey_extras(store)}
    assert found == {"m vectors of fold 0": "whole", "m test vectors of fold 0": "whole"}
    path.write_bytes(b"")
    found = {str(artefact): artefact.state for artefact in survey_extras(store)}
    assert found == {"m vectors of fold 0": "whole", "m test vectors of fold 0": "damaged"}
    assert begun_folds(store) == []
