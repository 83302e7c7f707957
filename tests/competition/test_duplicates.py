"""Laws of repeated texts: what counts as equal, and what is logged."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from poolblend.competition.duplicates import log_repeats, normalised, text_sets
from poolblend.competition.tables import Tables


def frame(*texts: str, **columns: list[str]) -> pd.DataFrame:
    ids = [f"r{k}" for k in range(len(texts))]
    return pd.DataFrame({"id": ids, "text": texts, **columns})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A fire", "a  FIRE\n"),
        ("straße", "STRASSE"),
        ("cafe\u0301", "caf\u00e9"),
        ("ﬁre\u00a0１", "fire 1"),
    ],
)
def test_case_spaces_and_composition_do_not_tell_texts_apart(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)
    assert text_sets(frame(one, "else", other), ["text"]).tolist() == [0, 1, 0]


def test_all_text_columns_count_together() -> None:
    table = frame("a", "a", "a b", "A", keyword=["x", "y", "", "X"])
    assert text_sets(table, ["text"]).tolist() == [0, 0, 1, 0]
    assert text_sets(table, ["keyword", "text"]).tolist() == [0, 1, 2, 0]
    split = frame("a b", "a", keyword=["c", "b c"])
    assert text_sets(split, ["text", "keyword"]).tolist() == [0, 1]


def test_rows_without_any_text_are_no_duplicates_of_one_another() -> None:
    assert text_sets(frame("", " ", "a", "", "\t"), ["text"]).tolist() == [0, 1, 2, 3, 4]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture):
    """Function of train, test and targets: the lines that are logged."""
    caplog.set_level(logging.INFO)

    def log(train: pd.DataFrame, test: pd.DataFrame, y: np.ndarray, together: str = "duplicates"):
        tables = Tables("id", test, test, True, train, {})
        log_repeats(tables, ["text"], y, together)
        return caplog.messages

    return log


def test_repeats_conflicts_and_overlap_are_counted(logged) -> None:
    train = frame("a", "b", "A", "a", "c", "c", "", "", "d", "D ")
    test = frame("A", "d", "z", "", "C")
    y = np.array([0, 1, 1, 0, 1, 1, 0, 1, 0, 1])
    assert logged(train, test, y) == [
        "train: 4 rows repeat a text, 2 of them exactly, in 3 sets that each share a fold",
        "train: sets with conflicting labels: 2, such as ids 'r0' and 'r2'",
        "test: 3 of 5 texts are in train, too, 2 of them exactly",
    ]


def test_any_differing_target_is_a_conflict(logged) -> None:
    y_NK = np.array([[1.0, 2.0], [1.0, 2.5], [3.0, 3.0], [3.0, 3.0]])
    lines = logged(frame("a", "a", "b", "b"), frame("x"), y_NK, "none")
    assert lines[0].endswith("2 sets, which may make OOF scores too good across folds")
    assert lines[1] == "train: sets with conflicting labels: 1, such as ids 'r0' and 'r1'"


def test_without_repeats_nothing_is_logged(logged) -> None:
    assert logged(frame("a", "b"), frame("c"), np.array([0, 1])) == []
