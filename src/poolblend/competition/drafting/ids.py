"""The column of ids: the sample submission's first column, where train has it."""

from __future__ import annotations

import pandas as pd

from poolblend.competition.drafting.findings import Finding
from poolblend.errors import quoted


def find_id(
    train: pd.DataFrame, test: pd.DataFrame, sample: pd.DataFrame, given: str | None
) -> Finding:
    """`data.id`: a column of sample, test and train with other values in each row; None without."""
    first = str(sample.columns[0])
    if given is not None:
        return Finding("data.id", None if given == "null" else given, "as given")
    for column in map(str, sample.columns):
        everywhere = all(column in table for table in (train, test))
        if everywhere and all(_unique(table[column]) for table in (train, test, sample)):
            reason = "in sample, test and train, each value once"
            return Finding("data.id", column, reason, "sure" if column == first else "guess")
    if first not in train:
        reason = f"train has no column {quoted(first)}: its rows are numbered"
        return Finding("data.id", None, reason)
    reason = f"train's column {quoted(first)} repeats values: its rows are numbered instead"
    return Finding("data.id", None, reason, "guess")


def _unique(column: pd.Series) -> bool:
    return bool(column.notna().all() and column.is_unique)
