"""Laws of joins: rows stay as they are, and each finds exactly one row of the other table."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolblend.competition.joins import read_joined
from poolblend.competition.options import Join
from rig.tables import refused

TRAIN = "id,text,prompt\n3,c,p2\n1,a,p1\n2,b,p2\n"
PROMPTS = "prompt,title\np1,First\np3,Third\np2,Second\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text(TRAIN)
    (tmp_path / "prompts.csv").write_text(PROMPTS)
    return tmp_path


def read(folder: Path, *more: Join, on: str = "prompt"):
    return read_joined(folder, "train.csv", [Join(train="prompts.csv", on=on), *more], "train", [])


def test_rows_keep_their_order_and_number_and_gain_the_columns(folder: Path) -> None:
    table = read(folder)
    assert table.columns.tolist() == ["id", "text", "prompt", "title"]
    assert table["id"].tolist() == ["3", "1", "2"]
    assert table["title"].tolist() == ["Second", "First", "Second"]


def test_a_joined_column_can_be_the_key_of_the_next_table(folder: Path) -> None:
    (folder / "authors.csv").write_text("title,author\nFirst,A\nSecond,B\n")
    table = read(folder, Join(train="authors.csv", on="title"))
    assert table["author"].tolist() == ["B", "A", "B"]


def test_a_key_column_missing_on_either_side_is_refused(folder: Path) -> None:
    with refused(f"unknown column 'promt' in {folder / 'train.csv'}; did you mean 'prompt'?"):
        read(folder, on="promt")
    (folder / "prompts.csv").write_text("prompt_id,title\np1,First\n")
    with refused(f"unknown column 'prompt' in {folder / 'prompts.csv'}; did you mean 'prompt_id'?"):
        read(folder)


def test_a_key_that_would_multiply_rows_is_refused(folder: Path) -> None:
    (folder / "prompts.csv").write_text(PROMPTS + "p1,Again\n")
    with refused(
        f"{folder / 'prompts.csv'} has key 'p1' in rows 2 and 5 of column 'prompt' (1 such "
        "repeats); keys must be unique"
    ):
        read(folder)


def test_a_key_that_would_lose_rows_is_refused_with_the_first_and_how_many(folder: Path) -> None:
    (folder / "prompts.csv").write_text("prompt,title\np1,First\nP2,Second\n")
    with refused(
        f"{folder / 'prompts.csv'} lacks the key of 2 of the 3 rows in {folder / 'train.csv'}, the "
        "first row 2 with key 'p2' in column"
    ):
        read(folder)


def test_a_column_of_both_tables_is_refused(folder: Path) -> None:
    (folder / "prompts.csv").write_text("prompt,text\np1,First\np2,Second\n")
    with refused(
        f"{folder / 'prompts.csv'} has a column 'text', and so has {folder / 'train.csv'} that it "
        "is joined to; rename one, or drop it"
    ):
        read(folder)
