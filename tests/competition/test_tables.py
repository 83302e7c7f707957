"""Laws of reading a competition's files: nothing is lost, and what cannot be right is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from poolblend.competition.files import read_table
from rig.tables import load, load_without_train, refused

TRAIN = "id,keyword,text,target\n1,fire,a fire,1\n4,,calm,0\n5,NA,null,1\n7,flood,,0\n"
TEST = "id,keyword,text\n2,,nothing\n3,x,\n"
SAMPLE = "id,target\n3,0\n2,0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in (("train", TRAIN), ("test", TEST), ("sample", SAMPLE)):
        (tmp_path / f"{name}.csv").write_text(content, encoding="utf-8")
    return tmp_path


def test_tables_hold_ids_and_texts_as_strings_and_targets_as_numbers(folder: Path) -> None:
    tables = load(folder)
    assert tables.train["id"].tolist() == ["1", "4", "5", "7"]
    assert tables.train["text"].tolist() == ["a fire", "calm", "null", ""]
    assert tables.train["target"].dtype == np.int64
    assert tables.test.columns.tolist() == ["id", "keyword", "text"]
    assert tables.sample["id"].tolist() == ["3", "2"]
    assert tables.sample["target"].dtype == np.int64


def test_a_missing_text_becomes_empty_and_is_counted_per_column(folder: Path) -> None:
    tables = load(folder, text=["keyword", "text"])
    assert tables.missing_texts == {"keyword": 2, "text": 2}
    assert tables.train["keyword"].tolist() == ["fire", "", "NA", "flood"]
    assert tables.test["keyword"].tolist() == ["", "x"]


def test_parquet_reads_as_the_same_csv_does(folder: Path) -> None:
    wanted = load(folder, text=["keyword", "text"])
    for name in ("train", "test", "sample"):
        table = pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
        table.set_index("id").to_parquet(folder / f"{name}.parquet")
    names = {"train": "train.parquet", "test": "test.parquet"}
    found = load(folder, text=["keyword", "text"], **names, sample_submission="sample.parquet")
    assert found.missing_texts == wanted.missing_texts
    for name in ("train", "test", "sample"):
        columns = getattr(wanted, name).columns
        pd.testing.assert_frame_equal(getattr(found, name)[columns], getattr(wanted, name))


def write_parts(folder: Path, table: pd.DataFrame, *ends: int) -> None:
    """The table as parquet files 0.parquet, 1.parquet, …, of which all but the last end there."""
    folder.mkdir()
    for k, rows in enumerate(np.split(np.arange(len(table)), ends)):
        table.iloc[rows].to_parquet(folder / f"{k}.parquet", index=False)


def test_a_folder_of_parquet_files_reads_as_one_table_in_the_order_of_their_names(
    folder: Path,
) -> None:
    wanted = load(folder, text=["keyword", "text"])
    table = pd.read_csv(folder / "train.csv", keep_default_na=False, na_values=[""])
    write_parts(folder / "train", table, 1, 3)
    (folder / "train" / "_SUCCESS").write_text("")
    (folder / "train" / ".0.parquet.crc").write_bytes(b"crc")
    turned = pd.read_parquet(folder / "train" / "1.parquet")[table.columns[::-1]]
    turned.to_parquet(folder / "train" / "1.parquet", index=False)
    found = load(folder, text=["keyword", "text"], train="train")
    pd.testing.assert_frame_equal(found.train, wanted.train)
    assert found.missing_texts == wanted.missing_texts
    table.assign(id=1).iloc[3:].to_parquet(folder / "train" / "2.parquet", index=False)
    with refused("train has id '1' in rows 1 and 4 of column 'id'"):
        load(folder, train="train")


def test_a_folder_that_is_no_table_is_refused(folder: Path) -> None:
    table, place = pd.read_csv(folder / "train.csv"), folder / "parts"
    write_parts(place, table, 2)
    table[:1].assign(more=1).to_parquet(place / "2.parquet", index=False)
    with refused(f"{place / '2.parquet'} has other columns than {place / '0.parquet'}, such as"):
        load(folder, train="parts")
    twice = pa.table([pa.array(["1"])] * 2, names=["text", "text"])
    pa.parquet.write_table(twice, place / "2.parquet")
    with refused(f"{place / '2.parquet'} has two columns 'text', expected one of each name"):
        load(folder, train="parts")
    (place / "2.parquet").write_bytes(b"\x80\x04a pickle")
    with refused("2.parquet cannot be read as parquet: it holds a pickle, which is never opened"):
        load(folder, train="parts")
    (place / "2.parquet").unlink()
    (place / "2.parquet").mkdir()
    with refused(f"{place} is a folder that holds '2.parquet', expected parquet files alone"):
        load(folder, train="parts")
    with refused("is a folder that holds 'parts', expected parquet files alone"):
        load(folder, train=".")


def test_sample_rows_keeps_a_seeded_part_of_train_in_file_order(tmp_path: Path) -> None:
    rows = "".join(f"{k},text {k},{k % 2}\n" for k in range(100))
    (tmp_path / "train.csv").write_text("id,text,target\n" + rows)
    (tmp_path / "test.csv").write_text(TEST)
    (tmp_path / "sample.csv").write_text(SAMPLE)

    def ids(seed: int) -> list[str]:
        return load(tmp_path, sample_rows=20, seed=seed).train["id"].tolist()

    assert len(set(ids(1))) == 20
    assert ids(1) == sorted(ids(1), key=int)
    assert ids(1) == ids(1)
    assert ids(1) != ids(2)
    assert load(tmp_path, sample_rows=20).train.index.tolist() == list(range(20))
    assert len(load(tmp_path, sample_rows=1000).train) == 100


def test_predicting_reads_the_same_test_and_sample_without_train(folder: Path) -> None:
    wanted = load(folder)
    (folder / "train.csv").unlink()
    found = load_without_train(folder)
    pd.testing.assert_frame_equal(found.test, wanted.test)
    pd.testing.assert_frame_equal(found.sample, wanted.sample)
    (folder / "sample.csv").write_text("id,target\n2,0\n9,0\n")
    with refused("lacks 1 of the 2 ids in"):
        load_without_train(folder)


def test_a_missing_column_names_the_nearest(folder: Path) -> None:
    with refused(
        f"unknown column 'txt' in {folder / 'train.csv'}; did you mean 'text'? "
        "known: id, keyword, target, text"
    ):
        load(folder, text=["txt"])
    with refused("unknown column 'labels' in"):
        load(folder, target=["labels"])
    (folder / "sample.csv").write_text("ID,target\n2,0\n3,0\n")
    with refused(f"unknown column 'id' in {folder / 'sample.csv'}"):
        load(folder)


def test_rows_of_parquet_count_from_one(folder: Path) -> None:
    pd.DataFrame({"id": ["1", "1"], "text": "a", "target": 0}).to_parquet(folder / "t.parquet")
    with refused("has id '1' in rows 1 and 2 of column 'id'"):
        load(folder, train="t.parquet")


def test_ids_are_the_same_whatever_type_a_file_gives_them(folder: Path) -> None:
    pd.DataFrame({"id": [2, 3], "text": ["a", "b"]}).to_parquet(folder / "test.parquet")
    tables = load(folder, test="test.parquet")
    assert tables.test["id"].tolist() == ["2", "3"]
    pd.DataFrame({"id": [2.0, 3.0], "text": ["a", "b"]}).to_parquet(folder / "test.parquet")
    with refused("the first '2.0' (it has others, such as '3')"):
        load(folder, test="test.parquet")


@pytest.mark.parametrize(("limit", "value"), [("MOST_CELLS", 5), ("MOST_BYTES", 50)])
def test_a_parquet_file_is_refused_by_what_its_footer_tells_of_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"id": ["1", "2", "3"], "text": "a"}).to_parquet(path, row_group_size=1)
    read_table(path)
    monkeypatch.setattr(f"poolblend.competition.files.{limit}", value)
    monkeypatch.setattr("pyarrow.parquet.ParquetFile.read", lambda _: pytest.fail("was read"))
    with refused(f"{path} holds 3 rows of 2 columns, 0.0 GB unpacked, expected at most"):
        read_table(path)


class TestRowsToSubmit:
    """Where test holds ids that the sample lacks, as a code competition's hidden test does."""

    @pytest.fixture
    def larger(self, folder: Path) -> Path:
        """Test holds two ids more than the sample, one of them before those of the sample."""
        (folder / "test.csv").write_text("id,text\n1,a\n2,b\n3,c\n4,d\n")
        (folder / "sample.csv").write_text("id,target,p\n3,0,0.5\n2,1,0.5\n")
        return folder

    def test_the_submission_gets_tests_rows_in_the_samples_columns(
        self, larger: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        tables = load(larger)
        assert tables.sample["id"].tolist() == ["1", "2", "3", "4"]
        assert tables.sample.columns.tolist() == ["id", "target", "p"]
        assert tables.sample.dtypes.tolist()[1:] == [np.int64, np.float64]
        assert tables.sample["target"].tolist()[1:3] == [1, 0]
        assert not tables.own_rows
        (line,) = caplog.messages
        assert line.startswith(f"{larger / 'test.csv'} holds 2 ids that {larger / 'sample.csv'} la")
        assert "submission.ids: sample" in line

    def test_the_samples_rows_are_kept_where_asked_for(
        self, larger: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        tables = load(larger, ids="sample")
        assert tables.sample["id"].tolist() == ["3", "2"]
        assert len(tables.test) == 4
        assert tables.own_rows
        assert not caplog.messages

    def test_a_sample_of_other_ids_gives_its_columns_where_tests_rows_are_asked_for(
        self, larger: Path
    ) -> None:
        (larger / "sample.csv").write_text("id,target\nx,0\ny,1\nz,0\n")
        tables = load(larger, ids="test")
        assert tables.sample["id"].tolist() == ["1", "2", "3", "4"]
        assert tables.sample["target"].dtype == np.int64
        for ids in ("auto", "sample"):
            with refused("sample.csv lacks 4 of the 4 ids in") as caught:
                load(larger, ids=ids)
            assert "submission.ids: test" in str(caught.value)


class TestFurtherColumns:
    """Every column that the config names is there, whole and of its kind, before anything runs."""

    def test_a_template_reads_the_columns_that_it_names(self, folder: Path) -> None:
        tables = load(folder, text=["{keyword}: {text}"])
        assert tables.missing_texts == {"keyword": 2, "text": 2}
        with refused(f"unknown column 'key' in {folder / 'train.csv'}"):
            load(folder, text=["{key}: {text}"])

    def test_joined_columns_are_as_good_as_the_tables_own(self, folder: Path) -> None:
        (folder / "words.csv").write_text("keyword,weight,topic\nfire,2,a\nNA,1,\nflood,.5,b\n")
        (folder / "more.csv").write_text("keyword,topic\nx,c\ny,d\n")
        for name, content in (("train", TRAIN.replace("4,,", "4,fire,")), ("test", TEST)):
            (folder / f"{name}.csv").write_text(content.replace("2,,", "2,y,"))
        joins = [{"train": "words.csv", "test": "more.csv", "on": "keyword"}]
        tables = load(folder, text=["topic", "text"], joins=joins, weight="weight")
        assert tables.train["topic"].tolist() == ["a", "a", "", "b"]
        assert tables.train["weight"].tolist() == [2, 2, 1, 0.5]
        assert tables.test["topic"].tolist() == ["d", "c"]
        found = load_without_train(folder, text=["{topic} {text}"], joins=joins)
        pd.testing.assert_frame_equal(found.test, tables.test)

    @pytest.mark.parametrize("key", ["numeric", "categorical", "soft"])
    def test_a_list_of_columns_must_be_there(self, folder: Path, key: str) -> None:
        with refused(f"unknown column 'nope' in {folder / 'train.csv'}"):
            load(folder, **{key: ["nope"]})

    def test_categories_that_train_lacks_are_told_where_they_are_most(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for cells, told in ((["1", "2"], False), (["3", "4"], True)):
            for name, values in (("train", ["1.0", "2.0", "1.0", "2.0"]), ("test", cells)):
                table = read_table(folder / f"{name}.csv").assign(topic=values)
                table.to_csv(folder / f"{name}.csv", index=False)
            caplog.clear()
            load(folder, categorical=["topic"])
            line = "100 % of the cells in categorical column 'topic' hold categories that train"
            assert (line in caplog.text) == told

    @pytest.mark.parametrize("name", ["train", "test"])
    def test_a_cell_that_is_no_number_is_refused_with_file_row_and_value(
        self, folder: Path, name: str
    ) -> None:
        for each in ("train", "test"):
            table = read_table(folder / f"{each}.csv").assign(age="3")
            if each == name:
                table.loc[1, "age"] = "old"
            table.to_csv(folder / f"{each}.csv", index=False)
        with refused(f"{folder / name}.csv row 3 holds 'old' in numeric column 'age' (1 such"):
            load(folder, numeric=["age"])

    @pytest.mark.parametrize(
        ("key", "told"),
        [
            (
                "weight",
                "row 5 holds '-1' in column 'extra' of data.weight (1 such rows), expected a f",
            ),
            ("soft", "row 3 holds '2' in column 'extra' of data.soft (1 such rows), expected a p"),
        ],
    )
    def test_weights_and_soft_labels_are_refused_by_row(
        self, folder: Path, key: str, told: str
    ) -> None:
        cells = ["1", "2", "0", "-1" if key == "weight" else "1"]
        table = read_table(folder / "train.csv").assign(extra=cells)
        table.to_csv(folder / "train.csv", index=False)
        with refused(f"{folder / 'train.csv'} {told}"):
            load(folder, **{key: "extra" if key == "weight" else ["extra"]}, sample_rows=2)

    def test_a_target_outside_the_classes_is_refused_with_its_row(self, folder: Path) -> None:
        with refused(
            f"{folder / 'train.csv'} row 3 holds '0' in target column 'target' (2 such rows), "
            "which is outside data.classes (1, 2, 3); correct the cell, or add the label"
        ):
            load(folder, classes=[1, 2, 3], sample_rows=2)
        load(folder, classes=[0.0, "1", 2])

    @pytest.mark.parametrize("key", ["text", "numeric", "categorical"])
    def test_no_model_reads_what_it_is_to_predict(self, folder: Path, key: str) -> None:
        for column in ("keyword",) if key == "text" else ("target", "id", "keyword"):
            with refused(
                f"column '{column}' is read as text, number, category or possible labels, and also"
            ):
                load(folder, **{key: [column]}, weight="keyword")
        with refused("column 'target' is read as text"):
            load(folder, text=["{text} {target}"])


NO_IDS = {
    "train": "text,target\na,1\nb,0\nc,1\n",
    "test": "key,text\n7,x\n8,y\n",
    "sample": "key,target\n8,0\n7,0\n",
}


class TestJointTarget:
    """A template of `data.target` makes one label of several columns."""

    @pytest.fixture
    def joint(self, folder: Path) -> Path:
        table = pd.read_csv(folder / "train.csv", dtype=str, keep_default_na=False)
        table.loc[table["id"] == "4", "keyword"] = "calm"
        table.to_csv(folder / "train.csv", index=False)
        (folder / "sample.csv").write_text("id,keyword:target\n3,fire:1\n2,NA:1\n")
        return folder

    def test_the_label_is_the_filled_template_and_no_column_of_test(self, joint: Path) -> None:
        tables = load(joint, target=["{keyword}:{target}"])
        assert tables.train["keyword:target"].tolist() == ["fire:1", "calm:0", "NA:1", "flood:0"]
        assert tables.test.columns.tolist() == ["id", "text"]

    def test_a_gap_a_repeated_name_and_a_column_that_is_read_are_refused(self, joint: Path) -> None:
        with refused(
            "column 'keyword' is read as text, number, category or possible labels, and also"
        ):
            load(joint, target=["{keyword}:{target}"], text=["keyword", "text"])
        with refused("unknown column 'targets' in"):
            load(joint, target=["{keyword}:{targets}"], text=["text"])
        path = joint / "train.csv"
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table.assign(**{"keyword:target": "x"}).to_csv(path, index=False)
        with refused("has a column 'keyword:target', as the template"):
            load(joint, target=["{keyword}:{target}"])
        table.loc[2, "keyword"] = ""
        table.to_csv(path, index=False)
        with refused("1 empty cells in target column 'keyword', the first in row 4"):
            load(joint, target=["{keyword}:{target}"])


@pytest.fixture
def no_ids(tmp_path: Path) -> Path:
    """Tables without ids: rows of train are numbered, those of test found by the sample."""
    for name, content in NO_IDS.items():
        (tmp_path / f"{name}.csv").write_text(content, encoding="utf-8")
    return tmp_path


def test_rows_are_numbered_and_the_samples_first_column_holds_the_ids(no_ids: Path) -> None:
    tables = load(no_ids, id=None)
    assert tables.id == "key"
    assert tables.train["key"].tolist() == ["0", "1", "2"]
    assert tables.test["key"].tolist() == ["7", "8"]
    assert tables.sample["key"].tolist() == ["8", "7"]


def test_a_row_keeps_its_number_whatever_is_sampled(tmp_path: Path) -> None:
    rows = "".join(f"text {k},{k % 2}\n" for k in range(40))
    for name, content in (NO_IDS | {"train": "text,target\n" + rows}).items():
        (tmp_path / f"{name}.csv").write_text(content)
    kept = load(tmp_path, id=None, sample_rows=10).train
    assert kept["text"].tolist() == [f"text {k}" for k in kept["key"]]


def test_ids_of_train_that_are_repeated_may_be_numbered_over(no_ids: Path) -> None:
    (no_ids / "train.csv").write_text("key,text,target\n5,a,1\n5,b,0\n")
    with refused("has id '5' in rows 2 and 3 of column 'key'"):
        load(no_ids, id="key")
    assert load(no_ids, id=None).train["key"].tolist() == ["0", "1"]
    with refused("sample.csv begins with column 'key', which the config names, too; expected its"):
        load(no_ids, id=None, groups="key")


def test_a_test_table_may_call_the_samples_ids_by_another_name(no_ids: Path) -> None:
    (no_ids / "test.csv").write_text("n,row,text\n1,7,x\n2,8,y\n3,9,z\n")
    (no_ids / "sample.csv").write_text("key,target\n9,0\n8,0\n7,0\n")
    assert load(no_ids, id=None).test["key"].tolist() == ["7", "8", "9"]


def test_a_test_table_without_ids_follows_the_samples_order(
    no_ids: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (no_ids / "test.csv").write_text("text\nx\ny\n")
    tables = load(no_ids, id=None)
    assert tables.test["key"].tolist() == ["8", "7"]
    assert "test.csv has no ids: its rows get the ids of" in caplog.text
    found = load_without_train(no_ids, id=None)
    pd.testing.assert_frame_equal(found.test, tables.test)
    assert found.id == "key"
    (no_ids / "test.csv").write_text("text\nx\ny\nz\n")
    with refused("sample.csv has, and 3 rows, not 2; expected that column, or a row for each"):
        load(no_ids, id=None)


def test_a_sample_whose_first_column_holds_no_ids_is_refused(no_ids: Path) -> None:
    (no_ids / "sample.csv").write_text("target,key\n0,7\n0,8\n")
    with refused("sample.csv begins with column 'target', which the config names, too"):
        load(no_ids, id=None)
    (no_ids / "sample.csv").write_text("key,target\n7,0\n7,0\n")
    with refused("sample.csv has id '7' in rows 2 and 3 of column 'key'"):
        load(no_ids, id=None)


def test_a_column_without_a_name_can_be_named(no_ids: Path) -> None:
    for name in NO_IDS:
        path = no_ids / f"{name}.csv"
        pd.read_csv(path).rename(columns={"key": "id"}).to_csv(path)
    tables = load(no_ids, id="Unnamed: 0")
    assert tables.train["Unnamed: 0"].tolist() == ["0", "1", "2"]
    assert tables.test["Unnamed: 0"].tolist() == ["0", "1"]


def test_a_missing_id_column_names_the_key(no_ids: Path) -> None:
    with refused("known: target, text; data.id names the ids' column, or is null where train has"):
        load(no_ids, id="key")
