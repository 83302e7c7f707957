"""Columns whose rows of one value belong together, such as a prompt's: `folds.groups`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from poolblend.competition.drafting.findings import Finding
from poolblend.competition.names import words
from poolblend.competition.options import Folds
from poolblend.errors import quoted

IN_GROUPS = 0.9  # of train's rows share their value with another: else test has others by chance
# Words of a column's name that say that its rows belong together.
TOGETHER = {"prompt", "author", "user", "writer", "student", "topic", "essayset", "group"}


def find_groups(train: pd.DataFrame, test: pd.DataFrame, names: Sequence[str]) -> list[Finding]:
    """`folds.groups`: a column of repeated values of which test has none; empty if there is none.

    With it `folds.n`, where there are fewer groups than folds. `names` are the columns to look at.
    """
    for name in names:
        value = train[name].str.strip()
        n = value.nunique()
        filled = value.notna().all() and (value != "").all()
        if not filled or n < 2 or value.str.fullmatch(r"[+-]?\d*\.\d+").any():
            continue
        in_groups = value.duplicated(keep=False).mean()
        if in_groups < IN_GROUPS or test[name].str.strip().isin(value).any():
            continue
        reason = f"{n:,} values in train, and test has none of them: folds keep each whole"
        found = [Finding("folds.groups", name, reason, "guess")]
        if n < Folds().n:
            found.append(Finding("folds.n", n, "one for each group", "guess"))
        return found
    return []


def groups_to_consider(train: pd.DataFrame, names: Sequence[str]) -> Iterator[str]:
    """Notes on other columns that repeat values and are named like groups."""
    for name in names:
        n = train[name].nunique()
        if TOGETHER.intersection(words(name)) and 1 < n <= len(train) / 2:
            yield (
                f"column {quoted(name)} has {n:,} values in {len(train):,} rows: if the hidden "
                "test has others, set folds.groups to it"
            )
