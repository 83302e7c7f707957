"""The columns that a model can read: texts and their order, numbers, categories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from poolblend.competition.cells import numbers
from poolblend.competition.columns import MOST_CATEGORIES, unknown_share
from poolblend.competition.drafting.findings import Finding
from poolblend.competition.drafting.lengths import count_words, spread
from poolblend.competition.tables import MOST_UNKNOWN
from poolblend.errors import UserError

LONG = 4.0  # words of a cell on average, from which a column is text in any table
MOST_REPEATED = 64.0  # words of a text that many rows share, such as a question, and is read, too
REPEATS = 5  # rows for each value, from which a column repeats its values


class Column(NamedTuple):
    """A column of train and test: words of a cell on average, distinct and filled cells in train.

    `words` is 0 for a column of numbers.
    """

    name: str
    words: float
    distinct: int
    filled: int
    numeric: bool

    @property
    def repeated(self) -> bool:
        return self.filled >= REPEATS * self.distinct


def look_at(train: pd.DataFrame, names: Sequence[str]) -> list[Column]:
    """The columns that are not empty in train."""
    found = []
    for name in names:
        cells = train[name].dropna()
        if cells.empty:
            continue
        numeric, distinct = _is_numeric(cells), pd.Series(cells.unique())
        length = 0.0 if numeric else float(spread(distinct).map(count_words).mean())
        found.append(Column(name, length, len(distinct), len(cells), numeric))
    return found


def _is_numeric(cells: pd.Series) -> bool:
    try:
        return not np.isnan(numbers(cells)).any()
    except UserError:
        return False


def find_texts(columns: Sequence[Column]) -> list[Column]:
    """The columns to read as text, those that many rows share first; empty if there are none.

    A short text counts where no column is longer: it needs half the longest one's words, or four.
    A shared text that is long, such as a prompt's source, is left out where each row has its own.
    """
    longest = max((column.words for column in columns), default=0.0)
    if longest < 1:
        return []
    # Codes and links are one word: they count only where no column has more.
    least = min(LONG, max(longest / 2, min(longest, 1.1)))
    texts = [column for column in columns if column.words >= least]
    own = [column for column in texts if not column.repeated]
    if not own:
        return texts
    shared = [column for column in texts if column.repeated and column.words <= MOST_REPEATED]
    return [*[column for column in shared if column.words >= LONG], *own]


def describe(columns: Sequence[Column], rows: int) -> str:
    """`keyword (1.1 words, 221 values, 1 % empty)` for each of the columns."""
    shown = []
    for column in columns:
        empty = 100 * (1 - column.filled / rows)
        gaps = f", {empty:.0f} % empty" if column.filled < rows else ""
        shown.append(f"{column.name} ({column.words:.1f} words, {column.distinct:,} values{gaps})")
    return ", ".join(shown)


def find_features(
    train: pd.DataFrame, test: pd.DataFrame, columns: Sequence[Column]
) -> Iterator[Finding]:
    """`data.numeric` and `data.categorical` as options: what could be read beside the texts."""
    numeric = [column.name for column in columns if column.numeric and column.distinct > 1]
    categorical = [
        column.name
        for column in columns
        if not column.numeric
        and column.repeated
        and 1 < column.distinct <= MOST_CATEGORIES
        and column.words < LONG
        and unknown_share(train[column.name], test[column.name]) <= MOST_UNKNOWN
    ]
    if numeric:
        yield Finding("data.numeric", numeric, "numbers that models could read, too", "option")
    if categorical:
        reason = "categories that models could read, too"
        yield Finding("data.categorical", categorical, reason, "option")


def non_latin(train: pd.DataFrame, texts: Sequence[str]) -> float:
    """The share of the texts' letters that are not Latin."""
    letters = latin = 0
    for column in texts:
        for text in spread(train[column]).iloc[:500]:
            found = [letter for letter in text if letter.isalpha()]
            letters += len(found)
            latin += sum(letter < "\u0250" for letter in found)
    return 1 - latin / letters if letters else 0.0
