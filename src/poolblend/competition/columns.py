"""Numeric and categorical columns as a matrix of extra features.

Shapes: F features.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from poolblend.competition.cells import LARGEST, numbers, stripped
from poolblend.errors import unknown

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES = 100
ZEROING_SCALE = float(np.finfo(np.float64).max)  # divides every number to 0


class Columns(BaseModel):
    """What `fit_columns` learned of its rows: numbers' medians, means, scales; the categories."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
        UserError for a column that is not there and a cell that is not a number.
        """
        import pandas as pd

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


def fit_columns(frame: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> Columns:
    """What the columns' matrix needs to know of the training rows, which are all of `frame`.

    A constant number has scale 1; of more than 100 categories, the most frequent are kept. A column
    that is empty in these rows becomes zeros everywhere. Raises UserError for a missing column and
    for a cell that is not a number.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check_present(frame, [*numeric, *categorical])
    medians = means = scales = np.zeros(0)
    if numeric:
        imputer, scaler = SimpleImputer(strategy="median"), StandardScaler()
        values_NF = np.stack([numbers(frame[name]) for name in numeric], axis=1)
        empty_F = np.isnan(values_NF).all(axis=0)
        make_pipeline(imputer, scaler).fit(np.where(empty_F, 0.0, values_NF))
        medians, means = imputer.statistics_, scaler.mean_
        scales = np.where(empty_F, ZEROING_SCALE, scaler.scale_)
    return Columns(
        numeric=tuple(numeric),
        medians=tuple(medians.tolist()),
        means=tuple(means.tolist()),
        scales=tuple(scales.tolist()),
        categorical=tuple(categorical),
        categories=tuple(_most_frequent(_categories(frame[name])) for name in categorical),
    )


def _categories(column: pd.Series) -> list[str]:
    """The cells as labels; 1.0, as pandas writes whole numbers beside a gap, is 1."""
    return [re.sub(r"^([+-]?\d+)\.0+$", r"\1", label) for label in stripped(column)]


def unknown_share(train: pd.Series, test: pd.Series) -> float:
    """The share of test's filled cells whose category is not in train; 0 without filled cells."""
    known, cells = set(_categories(train)), [label for label in _categories(test) if label]
    return sum(label not in known for label in cells) / max(1, len(cells))


def _most_frequent(labels: Sequence[str]) -> tuple[str, ...]:
    """In sorted order; of equally frequent ones, the first in sorted order are kept."""
    counts = Counter(label for label in labels if label)
    kept = sorted(counts, key=lambda label: (-counts[label], label))[:MOST_CATEGORIES]
    return tuple(sorted(kept))


def _check_present(frame: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in frame:
            raise unknown("column", name, frame.columns, "in data.numeric or data.categorical")
