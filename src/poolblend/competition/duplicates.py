"""Repeated texts: which rows folds keep together, and how many there are.

Two texts are equal if they are equal after Unicode's NFKC, ignoring case and spaces.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from poolblend.competition.options import KeepTogether, Swap
from poolblend.competition.tables import Tables
from poolblend.errors import quoted

log = logging.getLogger(__name__)


def normalised(text: str) -> str:
    """The text as it is compared: NFKC, case folded, each run of spaces one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_sets(
    frame: pd.DataFrame,
    columns: Sequence[str],
    form: Callable[[str], str] = normalised,
    swap: Swap | None = None,
) -> np.ndarray:
    """The set (N,) each row belongs to: rows whose cells in all text `columns` are equal share one.

    So do rows that are equal after the columns of `swap` have changed places: models learn both.
    Sets count from 0 in order of their first rows. A row without any text is alone.
    """
    numbers: dict[object, int] = {}
    keys = _keys(frame, columns, form, swap)
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def log_repeats(
    tables: Tables,
    columns: Sequence[str],
    y: np.ndarray,
    keep_together: KeepTogether,
    swap: Swap | None = None,
) -> None:
    """Log how many texts of train are repeated, there and in test, and which have other targets.

    `y` (N, …) are train's targets. "Exactly" counts texts that are equal in every character.
    """
    train, test = tables.train, tables.test
    size_S = np.bincount(text_sets(train, columns, swap=swap))
    if len(size_S) < len(train):
        apart = ", which may make OOF scores too good across folds"
        log.info(
            "train: %d rows repeat a text, %d of them exactly, in %d sets%s",
            len(train) - len(size_S),
            len(train) - len(set(text_sets(train, columns, str, swap).tolist())),
            (size_S > 1).sum(),
            apart if keep_together == "none" else " that each share a fold",
        )
    set_N = text_sets(train, columns)  # in the other order another label may be right
    first_S = np.unique(set_N, return_index=True)[1]
    y_NK = y.reshape(len(y), -1)
    differs_N = (y_NK != y_NK[first_S][set_N]).any(axis=1)
    if differs_N.any():
        row = int(differs_N.argmax())
        ids = [quoted(train[tables.id].iloc[k]) for k in (int(first_S[set_N[row]]), row)]
        conflicts = len(np.unique(set_N[differs_N]))
        log.info("train: sets with conflicting labels: %d, such as ids %s and %s", conflicts, *ids)
    repeated = _shared(train, test, columns, normalised, swap)
    if repeated:
        exact = _shared(train, test, columns, str, swap)
        place = "test: %d of %d texts are in train, too, %d of them exactly"
        log.info(place, repeated, len(test), exact)


def _shared(
    train: pd.DataFrame,
    test: pd.DataFrame,
    columns: Sequence[str],
    form: Callable[[str], str],
    swap: Swap | None,
) -> int:
    """How many rows of test have the texts of a train row."""
    known = {key for key in _keys(train, columns, form, swap) if isinstance(key, tuple)}
    return sum(key in known for key in _keys(test, columns, form, swap))


def _keys(
    frame: pd.DataFrame,
    columns: Sequence[str],
    form: Callable[[str], str],
    swap: Swap | None,
) -> list[tuple[str, ...] | int]:
    """Each row's texts, in the smaller of its orders; the number of the row where it has none."""
    frames = [frame] if swap is None else [frame, frame.rename(columns=swap.renamed)]
    orders = (
        zip(*(map(form, each[column].tolist()) for column in columns), strict=True)
        for each in frames
    )
    rows = (min(row) for row in zip(*orders, strict=True))
    return [row if any(map(str.strip, row)) else number for number, row in enumerate(rows)]
