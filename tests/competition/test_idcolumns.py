"""Laws of tables that lack ids: rows of train are numbered, those of test found by the sample."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from poolblend.competition.tables import Tables
from rig import tables as rig
from rig.tables import load_without_train, refused

FILES = {
    "train": "text,target\na,1\nb,0\nc,1\n",
    "test": "key,text\n7,x\n8,y\n",
    "sample": "key,target\n8,0\n7,0\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / f"{name}.csv").write_text(content, encoding="utf-8")
    return tmp_path


def load(folder: Path, **changes: object) -> Tables:
    return rig.load(folder, **{"id": None, **changes})


def test_rows_are_numbered_and_the_samples_first_column_holds_the_ids(folder: Path) -> None:
    tables = load(folder)
    assert tables.id == "key"
    assert tables.train["key"].tolist() == ["0", "1", "2"]
    assert tables.test["key"].tolist() == ["7", "8"]
    assert tables.sample["key"].tolist() == ["8", "7"]


def test_a_row_keeps_its_number_whatever_is_sampled(tmp_path: Path) -> None:
    rows = "".join(f"text {k},{k % 2}\n" for k in range(40))
    for name, content in (FILES | {"train": "text,target\n" + rows}).items():
        (tmp_path / f"{name}.csv").write_text(content)
    kept = load(tmp_path, sample_rows=10).train
    assert kept["text"].tolist() == [f"text {k}" for k in kept["key"]]


def test_ids_of_train_that_are_repeated_may_be_numbered_over(folder: Path) -> None:
    (folder / "train.csv").write_text("key,text,target\n5,a,1\n5,b,0\n")
    with refused("has id '5' in rows 2 and 3 of column 'key'"):
        load(folder, id="key")
    assert load(folder).train["key"].tolist() == ["0", "1"]
    with refused("sample.csv begins with column 'key', which the config names, too; expected its"):
        load(folder, groups="key")


def test_a_test_table_may_call_the_samples_ids_by_another_name(folder: Path) -> None:
    (folder / "test.csv").write_text("n,row,text\n1,7,x\n2,8,y\n3,9,z\n")
    (folder / "sample.csv").write_text("key,target\n9,0\n8,0\n7,0\n")
    assert load(folder).test["key"].tolist() == ["7", "8", "9"]


def test_a_test_table_without_ids_follows_the_samples_order(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (folder / "test.csv").write_text("text\nx\ny\n")
    tables = load(folder)
    assert tables.test["key"].tolist() == ["8", "7"]
    assert "test.csv has no ids: its rows are taken for those of" in caplog.text
    found = load_without_train(folder, id=None)
    pd.testing.assert_frame_equal(found.test, tables.test)
    assert found.id == "key"
    (folder / "test.csv").write_text("text\nx\ny\nz\n")
    with refused("sample.csv has, and 3 rows, not 2; expected that column, or a row for each"):
        load(folder)


def test_a_sample_whose_first_column_holds_no_ids_is_refused(folder: Path) -> None:
    (folder / "sample.csv").write_text("target,key\n0,7\n0,8\n")
    with refused("sample.csv begins with column 'target', which the config names, too"):
        load(folder)
    (folder / "sample.csv").write_text("key,target\n7,0\n7,0\n")
    with refused("sample.csv has id '7' in rows 2 and 3 of column 'key'"):
        load(folder)


def test_a_column_without_a_name_can_be_named(folder: Path) -> None:
    for name in FILES:
        path = folder / f"{name}.csv"
        pd.read_csv(path).rename(columns={"key": "id"}).to_csv(path)
    tables = load(folder, id="Unnamed: 0")
    assert tables.train["Unnamed: 0"].tolist() == ["0", "1", "2"]
    assert tables.test["Unnamed: 0"].tolist() == ["0", "1"]


def test_a_missing_id_column_names_the_key(folder: Path) -> None:
    with refused("known: target, text; data.id names the ids' column, or is null where train has"):
        load(folder, id="key")
