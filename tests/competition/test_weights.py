"""Laws of weights: no row counts less than nothing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from refusals import refused

from poolblend.competition.weights import row_weights


def column(*cells: str | None) -> pd.Series:
    return pd.Series(cells, dtype=str, name="w")


def test_weights_are_read_as_numbers() -> None:
    weights = row_weights(Path("train.csv"), column("1", " .5", "2e1", "0", "0.0"))
    assert weights.tolist() == [1, 0.5, 20, 0, 0]


@pytest.mark.parametrize("cell", ["-1", "-0.001", "inf", "nan", "much"])
def test_a_weight_that_is_negative_or_no_number_is_refused_with_its_row(cell: str) -> None:
    with refused(f"train.csv row 3 holds '{cell}' in "):
        row_weights(Path("train.csv"), column("1", cell))


def test_a_row_without_a_weight_is_refused() -> None:
    with refused(
        "train.csv row 2 holds nothing in column 'w' of data.weight (1 such rows), expected a "
        "finite number, 0 or more; mend the cell"
    ):
        row_weights(Path("train.csv"), column(None, "1"))
