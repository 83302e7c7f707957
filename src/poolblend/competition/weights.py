"""How much each row counts: a column's weights.

Legend: N rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.competition.columns import numbers, refuse_cells


def row_weights(path: Path, column: pd.Series) -> np.ndarray:
    """The weight column of the table in `path` as float64 (N,).

    A row of weight 0 is predicted and scored, but not learned from. Raises UserError, naming the
    row, for a cell that is no finite number of at least 0.
    """
    weight_N = numbers(column, path)
    refuse_cells(
        path, column, weight_N >= 0, expected="a finite number, 0 or more", key=" of data.weight"
    )
    return weight_N
