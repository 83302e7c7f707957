"""How much each row counts: a column's weights, and weights that balance the labels.

Legend: N rows, K targets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils.class_weight import compute_sample_weight

from poolblend.competition.columns import numbers, refuse_cells
from poolblend.competition.tasks import Task
from poolblend.errors import UserError


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


def balanced_weights(task: Task, y: np.ndarray) -> np.ndarray:
    """Weights under which every label of these rows counts alike, of mean 1.

    (N,) for binary, multiclass and ordinal: N / (classes that occur * rows of the row's class);
    (N, K) for multilabel, for each label apart. `y` is as `Task.encode` writes it. Raises UserError
    for regression.
    """
    if task.kind == "regression":
        raise UserError(
            "train.class_weights: a regression task has no classes to balance; set it to none"
        )
    if y.ndim == 1:
        return compute_sample_weight("balanced", y)
    return np.stack([compute_sample_weight("balanced", y_N) for y_N in y.T], axis=1)
