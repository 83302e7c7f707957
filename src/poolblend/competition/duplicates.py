"""Texts that are there more than once: rows that folds keep together, and how many they are.

Two texts are equal where they are so after Unicode's NFKC, without regard to case and spaces.

Legend: N rows.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def normalised(text: str) -> str:
    """The text as comparisons take it: NFKC, case folded, each run of spaces one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_sets(
    frame: pd.DataFrame, columns: Sequence[str], form: Callable[[str], str] = normalised
) -> np.ndarray:
    """The set (N,) each row belongs to: rows whose cells in all text `columns` are equal share one.

    Sets count from 0 in order of their first rows. A row without any text is alone.
    """
    numbers: dict[object, int] = {}
    keys = _keys(frame, columns, form)
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def merge_groups(group_N: np.ndarray, set_N: np.ndarray) -> np.ndarray:
    """The group (N,) of each row once groups that share a set are one, numbered from 0."""
    _, group_N = np.unique(group_N, return_inverse=True)
    n_groups = int(group_N.max()) + 1
    size = n_groups + int(set_N.max()) + 1
    links = coo_matrix((np.ones(len(set_N)), (group_N, n_groups + set_N)), shape=(size, size))
    merged = connected_components(links, directed=False)[1]
    return np.unique(merged[group_N], return_inverse=True)[1]


@dataclass(frozen=True)
class Repeats:
    """How many rows repeat a text of train; `exact` counts those that do to the letter.

    A set of equal texts conflicts where any target differs; `example` are the ids of two such rows.
    `test` rows are those whose text is in train.
    """

    rows: int
    exact: int
    sets: int
    conflicts: int
    example: tuple[str, str] | None
    test: int
    test_exact: int


def find_repeats(
    train: pd.DataFrame, test: pd.DataFrame, columns: Sequence[str], y: np.ndarray, id: str
) -> Repeats:
    """Count the repeated texts of train, with its targets `y` (N, …), and of test in train."""
    set_N = text_sets(train, columns)
    first_S, size_S = np.unique(set_N, return_index=True, return_counts=True)[1:]
    y_NK = y.reshape(len(y), -1)
    differs_N = (y_NK != y_NK[first_S][set_N]).any(axis=1)
    example = None
    if differs_N.any():
        row = int(differs_N.argmax())
        example = train[id].iloc[int(first_S[set_N[row]])], train[id].iloc[row]
    return Repeats(
        rows=len(train) - len(size_S),
        exact=len(train) - len(set(text_sets(train, columns, str).tolist())),
        sets=int((size_S > 1).sum()),
        conflicts=len(np.unique(set_N[differs_N])),
        example=example,
        test=_shared(train, test, columns, normalised),
        test_exact=_shared(train, test, columns, str),
    )


def _shared(
    train: pd.DataFrame,
    test: pd.DataFrame,
    columns: Sequence[str],
    form: Callable[[str], str],
) -> int:
    """How many rows of test have the texts of a train row."""
    known = {key for key in _keys(train, columns, form) if isinstance(key, tuple)}
    return sum(key in known for key in _keys(test, columns, form))


def _keys(
    frame: pd.DataFrame, columns: Sequence[str], form: Callable[[str], str]
) -> list[tuple[str, ...] | int]:
    """Each row's texts; the number of the row where it has none."""
    cells = (map(form, frame[column].tolist()) for column in columns)
    rows = zip(*cells, strict=True)
    return [row if any(map(str.strip, row)) else number for number, row in enumerate(rows)]
