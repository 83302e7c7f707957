"""Further tables of a folder that can be joined to train and test by a key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from poolblend.competition.drafting.table_files import role_of, stem_of
from poolblend.competition.files import read_table
from poolblend.competition.options import Join
from poolblend.errors import UserError


def find_joins(
    folder: Path, others: Sequence[str], train: pd.DataFrame, test: pd.DataFrame
) -> tuple[list[Join], list[str]]:
    """The tables that hold one row for each key of train and of test; notes on all others.

    `prompts_train.csv` and `prompts_test.csv` are one join.
    """
    joins: list[Join] = []
    notes: list[str] = []
    taken = {*train.columns, *test.columns}
    for pair in _pairs(others):
        names = " and ".join(dict.fromkeys(pair))
        try:
            left, right = (read_table(folder / name) for name in pair)
        except UserError as error:
            notes.append(f"{names}: not read ({error})")
            continue
        keys = [
            str(column) for column in left if column in train and column in test and column in right
        ]
        on = next((key for key in keys if _fits(key, left, train) and _fits(key, right, test)), "")
        added = {*left.columns, *right.columns} - {on}
        if not on:
            notes.append(f"{names}: not joined, as no column is a key of both train and test")
        elif not added or added & taken:
            notes.append(f"{names}: not joined on {on}, as its columns are in the tables already")
        else:
            test_name = pair[1] if pair[1] != pair[0] else None
            joins.append(Join(train=pair[0], test=test_name, on=on))
            taken |= added
    return joins, notes


def _pairs(others: Sequence[str]) -> list[tuple[str, str]]:
    """The table for train and the one for test, which are the same where there is no other."""
    pairs = []
    for name in others:
        if role_of(name) != "test":
            of_test = [
                other
                for other in others
                if (role_of(other), stem_of(other)) == ("test", stem_of(name))
            ]
            pairs.append((name, of_test[0] if of_test else name))
    return pairs


def _fits(key: str, other: pd.DataFrame, table: pd.DataFrame) -> bool:
    """Whether each row of the table has one row of the other."""
    unique = other[key].notna().all() and other[key].is_unique
    return bool(unique and table[key].isin(other[key]).all())
