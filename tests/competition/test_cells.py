"""Laws of cells: parsed without loss or not at all, and refused with their row."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolblend.competition.cells import bounded, check_filled, parse_column
from rig.tables import refused


@pytest.mark.parametrize(
    ("cells", "parsed"),
    [
        (["1", "-2", "+3"], [1, -2, 3]),
        (["1", "2.5", "1e3"], [1.0, 2.5, 1000.0]),
        (["1", "spam"], ["1", "spam"]),
        (["007", "8"], ["007", "8"]),
        (["0.5", "0"], [0.5, 0.0]),
        (["True", "False"], ["True", "False"]),
        (["99999999999999999999", "1"], None),
    ],
)
def test_a_column_is_parsed_only_as_far_as_every_cell_allows(
    cells: list[str], parsed: list | None
) -> None:
    found = parse_column(pd.Series(cells, dtype=str)).tolist()
    wanted = cells if parsed is None else parsed
    assert found == wanted
    assert [type(value) for value in found] == [type(value) for value in wanted]


def test_a_column_with_a_gap_is_left_as_it_is() -> None:
    column = pd.Series(["1", None], dtype=str)
    assert parse_column(column) is column


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_integers_are_parsed_exactly(numbers: list[int]) -> None:
    assert parse_column(pd.Series([str(number) for number in numbers])).tolist() == numbers


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_are_parsed_exactly(numbers: list[float]) -> None:
    assert parse_column(pd.Series([repr(number) for number in numbers])).tolist() == numbers


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_a_column_that_is_all_empty_is_refused(blank: str | None) -> None:
    column = pd.Series([blank] * 5, dtype=str, name="empty")
    with refused("column 'empty' of t.csv is empty in all 5 rows, expected a value in some"):
        check_filled(Path("t.csv"), column)
    check_filled(Path("t.csv"), column.where(column.index != 2, "1"))


def weights(*cells: str | None, most: float = math.inf) -> list[float]:
    column = pd.Series(cells, dtype=str, name="w")
    return bounded(
        Path("train.csv"), column, most, expected="0 or more", key="data.weight"
    ).tolist()


def test_numbers_within_bounds_are_read_however_they_are_written() -> None:
    assert weights("1", " .5", "2e1", "0", "0.0") == [1, 0.5, 20, 0, 0]
    assert weights("1", "0.25", most=1) == [1, 0.25]


@pytest.mark.parametrize("cell", ["-1", "-0.001", "inf", "nan", "much"])
def test_a_cell_out_of_bounds_or_no_number_is_refused_with_its_row(cell: str) -> None:
    with refused(f"train.csv row 3 holds '{cell}' in "):
        weights("1", cell)


def test_an_empty_cell_and_one_above_the_upper_bound_are_refused() -> None:
    with refused(
        "train.csv row 2 holds nothing in column 'w' of data.weight (1 such rows), expected 0 or "
        "more; correct the cell"
    ):
        weights(None, "1")
    with refused("train.csv row 3 holds '1.1' in column 'w'"):
        weights("1", "1.1", most=1)
