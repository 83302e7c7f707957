"""Columns of numbers and categories as a matrix that joins a text's vector.

Legend: N rows, F features.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from poolblend.competition.ids import NUMBER, row_number
from poolblend.errors import UserError, quoted, unknown

MOST_CATEGORIES = 100
LARGEST = 1e30  # in size; heads compute in single precision, which ends at 3e38


NOTHING = float(np.finfo(np.float64).max)  # the scale at which every number is 0


@dataclass(frozen=True)
class Columns:
    """What `fit_columns` learned of its rows: numbers' medians, means, scales; the categories."""

    numeric: tuple[str, ...] = ()
    medians: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    categorical: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()

    @property
    def width(self) -> int:
        """How many features F a row has."""
        return len(self.numeric) + sum(map(len, self.categories))

    def transform(self, frame: pd.DataFrame) -> np.ndarray:
        """float32 (N, F): numbers standardised, gaps as the median; categories one-hot.

        A gap in a category, or one that was not among the rows of the fit, is all zeros. Raises
        UserError for a column that is not there and a cell that is no number.
        """
        _check_present(frame, [*self.numeric, *self.categorical])
        blocks = [np.zeros((len(frame), 0))]
        if self.numeric:
            values_NF = np.stack([numbers(frame[name]) for name in self.numeric], axis=1)
            values_NF = np.where(np.isnan(values_NF), self.medians, values_NF)
            values_NF = (values_NF - self.means) / self.scales
            blocks.append(np.clip(values_NF, -LARGEST, LARGEST))
        for name, known in zip(self.categorical, self.categories, strict=True):
            position_N = pd.Index(known).get_indexer(pd.Index(_categories(frame[name])))
            blocks.append(position_N[:, None] == np.arange(len(known)))
        return np.concatenate(blocks, axis=1).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        return {key: _listed(value) for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Columns:
        told = {key: tuple(value) for key, value in told.items()}
        return cls(**told | {"categories": tuple(map(tuple, told["categories"]))})


def fit_columns(frame: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> Columns:
    """What the columns' matrix needs to know of the training rows, which are all of `frame`.

    A constant number has scale 1; of more than 100 categories, the most frequent are kept. A column
    that is empty in these rows, of which nothing can be learned, is zeros in all. Raises UserError
    for a column that is not there, and for a cell that is no number.
    """
    _check_present(frame, [*numeric, *categorical])
    medians = means = scales = np.zeros(0)
    if numeric:
        imputer, scaler = SimpleImputer(strategy="median"), StandardScaler()
        values_NF = np.stack([numbers(frame[name]) for name in numeric], axis=1)
        empty_F = np.isnan(values_NF).all(axis=0)
        make_pipeline(imputer, scaler).fit(np.where(empty_F, 0.0, values_NF))
        medians, means = imputer.statistics_, scaler.mean_
        scales = np.where(empty_F, NOTHING, scaler.scale_)
    return Columns(
        tuple(numeric),
        tuple(medians.tolist()),
        tuple(means.tolist()),
        tuple(scales.tolist()),
        tuple(categorical),
        tuple(_most_frequent(_categories(frame[name])) for name in categorical),
    )


def check_filled(path: Path, column: pd.Series) -> None:
    """Raise UserError for a column of `path` that has no value in any row."""
    if not any(_labels(column)):
        raise UserError(
            f"column '{column.name}' of {path} is empty in all {len(column)} rows, expected a "
            "value in some; leave it out of data.numeric and data.categorical"
        )


def refuse_cells(
    path: Path, column: pd.Series, fine_N: np.ndarray, *, expected: str, key: str = ""
) -> None:
    """Raise UserError, naming the first of them, where cells of the column are not fine."""
    bad = np.flatnonzero(~fine_N)
    if len(bad):
        cell = column.iloc[bad[0]]
        raise UserError(
            f"{path} row {row_number(path, bad[0])} holds "
            f"{'nothing' if not _labels(column)[bad[0]] else quoted(cell)} in column "
            f"'{column.name}'{key} ({len(bad)} such rows), expected {expected}; mend the cell"
        )


def numbers(column: pd.Series, path: Path | None = None) -> np.ndarray:
    """The cells as float64 (N,), an empty one as NaN; UserError for one that is no finite number.

    `path` is the file that messages name, with the row as a reader of it counts.
    """
    values_N = np.array([_number(cell) for cell in _labels(column)], dtype=np.float64)
    bad = np.flatnonzero(np.isinf(values_N))
    if len(bad):
        row = f"row {bad[0] + 1}" if path is None else f"{path} row {row_number(path, bad[0])}"
        raise UserError(
            f"{row} holds {quoted(column.iloc[bad[0]])} in numeric column '{column.name}' "
            f"({len(bad)} such rows), expected a finite number or an empty cell; mend the cell, or "
            "name the column in data.categorical"
        )
    return values_N


def _number(cell: str) -> float:
    """NaN for an empty cell, infinity for what is no number."""
    if not cell:
        return math.nan
    value = float(cell) if re.fullmatch(NUMBER, cell) else math.inf
    return value if abs(value) <= LARGEST else math.inf


def _labels(column: pd.Series) -> list[str]:
    """The cells as texts without spaces around them; a gap is empty."""
    return ["" if pd.isna(cell) else str(cell).strip() for cell in column.tolist()]


def _categories(column: pd.Series) -> list[str]:
    """The cells as labels; 1.0, as pandas writes whole numbers beside a gap, is 1."""
    return [re.sub(r"^([+-]?\d+)\.0+$", r"\1", label) for label in _labels(column)]


def unknown_share(train: pd.Series, test: pd.Series) -> float:
    """Which share of test's filled cells holds a category that train does not; 0 where none are."""
    known, cells = set(_categories(train)), [label for label in _categories(test) if label]
    return sum(label not in known for label in cells) / max(1, len(cells))


def _most_frequent(labels: Sequence[str]) -> tuple[str, ...]:
    """In sorted order; of equally frequent ones, the first in sorted order are kept."""
    counts = Counter(label for label in labels if label)
    kept = sorted(counts, key=lambda label: (-counts[label], label))[:MOST_CATEGORIES]
    return tuple(sorted(kept))


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def _check_present(frame: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in frame:
            raise unknown("column", name, frame.columns, "in data.numeric or data.categorical")
