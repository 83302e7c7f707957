"""A corpus of damaged and odd tables: each is read right, or refused in one clear line."""

from __future__ import annotations

import csv
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from csv_cases import CSV
from file_cases import FILES
from tabular import Case
from value_cases import ODD_IDS, TEXTS, VALUES, csv_of

from poolblend import config, pipeline
from poolblend.competition.files import read_table
from poolblend.competition.filling import find_filling
from poolblend.competition.options import Submission
from poolblend.competition.submission import build_submission, check_submission
from poolblend.competition.tables import Tables
from poolblend.competition.tasks import make_task
from poolblend.errors import UserError
from rig.tables import load

CASES = [*CSV, *FILES, *VALUES]
LONGEST_LINE = 700


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """A reader that waits for a pipe would wait for ever, and the suite with it."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("hangs"))
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def read(folder: Path, case: Case) -> Tables:
    """All that is checked of a competition before anything is trained for it."""
    names = ["target", "other"] if case.kind == "multilabel" else ["target"]
    tables = load(folder, case.kind, train=case.train, target=names)
    task = make_task(case.kind, tables.train, names)
    task.encode(tables.train)
    filling = find_filling(task, tables, Submission())
    even_NK = np.full((len(tables.test), len(task.outputs)), 1 / len(task.classes or (0,)))
    made = build_submission(task, filling, list(tables.test["id"]), even_NK, id="id")
    check_submission(made, tables.sample, id="id")
    return tables


def test_the_corpus_is_large_and_each_case_has_a_name_of_its_own() -> None:
    assert len(CASES) >= 80
    assert len({case.name for case in CASES}) == len(CASES)


def clear(message: str, folder: Path) -> None:
    """One printable line that does not run on."""
    assert message.isprintable()
    assert len(message) < LONGEST_LINE + message.count(str(folder)) * len(str(folder))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_read_right_or_refused_in_one_line(case: Case, tmp_path: Path) -> None:
    folder = case.write(tmp_path / "data")
    before = sorted(folder.iterdir())
    if isinstance(case.expected, str):
        with pytest.raises(UserError, match=case.expected) as caught:
            read(folder, case)
        clear(str(caught.value), folder)
    else:
        assert case.expected(read(folder, case))
    assert sorted(folder.iterdir()) == before


def test_a_file_of_many_blocks_is_read_whole_and_its_last_row_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    rows = [[str(k), 'a\n,"' * (k % 99), "\n" * (k % 2)] for k in range(9999)]
    path.write_text(csv_of("id,text,more", *zip(*rows, strict=True)), encoding="utf-8")
    assert path.stat().st_size > 1 << 20
    assert read_table(path).fillna("").to_numpy().tolist() == rows
    with path.open("a", encoding="utf-8") as file:
        file.write("9999,short\n")
    limit = csv.field_size_limit()
    with pytest.raises(UserError, match="row 10001 has 2 cells, the header 3 .'9999,short'"):
        read_table(path)
    assert csv.field_size_limit() == limit


def test_a_file_that_goes_away_or_is_closed_to_us_is_refused(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "train.csv"
    path.write_text("id\n1\n")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fail)
    for number in (errno.ENOENT, errno.EACCES, errno.EIO, errno.ESTALE):
        with pytest.raises(UserError, match=f"train.csv cannot be read: {os.strerror(number)};"):
            read_table(path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read it anyway")
def test_a_file_without_rights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.touch(mode=0)
    with pytest.raises(UserError, match="train.csv cannot be read: Permission denied"):
        read_table(path)


REFUSED = {case.name.partition(":")[0]: case for case in CASES if case.refused}  # one of each group


@pytest.mark.parametrize("group", REFUSED)
def test_a_refused_case_leaves_nothing_in_the_store(group: str, toy, tmp_path: Path) -> None:
    case = REFUSED[group]
    names = ["target", "other"] if case.kind == "multilabel" else ["target"]
    data = {"dir": str(case.write(tmp_path / "case")), "target": names}
    data |= {"train": case.train, "sample_submission": "sample.csv"}
    metric = {"binary": "f1", "multilabel": "f1_macro", "regression": "rmse", "ordinal": "qwk"}
    sets = [f"task={case.kind}", f"metric={metric.get(case.kind, 'accuracy')}"]
    settings = config.load(toy(data=data), sets)
    with pytest.raises(UserError, match=str(case.expected)):
        pipeline.train(settings)
    assert not (tmp_path / "store").exists()


def test_odd_ids_and_texts_go_all_the_way_to_a_submission(toy, tmp_path: Path) -> None:
    folder = tmp_path / "träin data, (1)"
    folder.mkdir()
    texts = [*(text[:20_000] for text in TEXTS.values()), *["plain"] * 3]
    train_ids = [
        f"{id}{k}" for k in range(2) for id in (*ODD_IDS, *range(len(texts) - len(ODD_IDS)))
    ]
    ids = [*ODD_IDS, *(f"test {k}" for k in range(len(texts) - len(ODD_IDS)))]
    y = [k % 2 for k in range(2 * len(texts))]
    (folder / "train.csv").write_text(csv_of("id,text,target", train_ids, texts * 2, y))
    (folder / "test.csv").write_text(csv_of("id,text", ids, texts))
    (folder / "sample_submission.csv").write_text(csv_of("id,target", ids[::-1], [0] * len(ids)))
    path = toy(data={"dir": str(folder), "target": ["target"]}, members=["mean"])
    settings = config.load(path)
    for command in (pipeline.train, pipeline.blend):
        command(settings)
    made = pd.read_csv(pipeline.infer(settings), dtype=str, keep_default_na=False)
    assert made["id"].tolist() == ids[::-1]
