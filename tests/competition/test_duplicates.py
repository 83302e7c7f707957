"""Laws of repeated texts: what counts as equal, and what is counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from poolblend.competition.duplicates import find_repeats, merge_groups, normalised, text_sets


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


@pytest.mark.parametrize("other", ["a fire!", "afire", "á fire", "fire a"])
def test_other_texts_are_other_sets(other: str) -> None:
    assert text_sets(frame("a fire", other), ["text"]).tolist() == [0, 1]


def test_all_text_columns_count_together() -> None:
    table = frame("a", "a", "a b", "A", keyword=["x", "y", "", "X"])
    assert text_sets(table, ["text"]).tolist() == [0, 0, 1, 0]
    assert text_sets(table, ["keyword", "text"]).tolist() == [0, 1, 2, 0]
    split = frame("a b", "a", keyword=["c", "b c"])
    assert text_sets(split, ["text", "keyword"]).tolist() == [0, 1]


def test_rows_without_any_text_are_no_duplicates_of_one_another() -> None:
    assert text_sets(frame("", " ", "a", "", "\t"), ["text"]).tolist() == [0, 1, 2, 3, 4]


def test_groups_that_share_a_set_are_one_however_long_the_chain() -> None:
    group_N = np.array(["a", "b", "b", "c", "d", "e"])
    set_N = np.array([0, 0, 1, 1, 2, 3])
    merged_N = merge_groups(group_N, set_N)
    assert len(set(merged_N[:4])) == 1
    assert len(set(merged_N)) == 3
    assert sorted(set(merged_N)) == [0, 1, 2]


def test_groups_of_different_texts_stay_apart() -> None:
    group_N = np.array(["a", "b", "a", "b"])
    assert merge_groups(group_N, np.arange(4)).tolist() == [0, 1, 0, 1]


def test_repeats_conflicts_and_overlap_are_counted() -> None:
    train = frame("a", "b", "A", "a", "c", "c", "", "", "d", "D ")
    test = frame("A", "d", "z", "", "C")
    y = np.array([0, 1, 1, 0, 1, 1, 0, 1, 0, 1])
    found = find_repeats(train, test, ["text"], y, "id")
    assert (found.rows, found.exact, found.sets) == (4, 2, 3)
    assert (found.conflicts, found.example) == (2, ("r0", "r2"))
    assert (found.test, found.test_exact) == (3, 2)


def test_any_differing_target_is_a_conflict() -> None:
    train = frame("a", "a", "b", "b")
    y_NK = np.array([[1.0, 2.0], [1.0, 2.5], [3.0, 3.0], [3.0, 3.0]])
    found = find_repeats(train, frame("x"), ["text"], y_NK, "id")
    assert (found.conflicts, found.example) == (1, ("r0", "r1"))


def test_without_repeats_all_counts_are_0() -> None:
    found = find_repeats(frame("a", "b"), frame("c"), ["text"], np.array([0, 1]), "id")
    assert (found.rows, found.exact, found.sets, found.conflicts, found.test) == (0,) * 5
    assert found.example is None
