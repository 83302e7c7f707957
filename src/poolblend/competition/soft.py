"""Soft labels: columns of probabilities to learn from, beside the hard labels that are scored.

Legend: N rows, K model outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.competition.columns import numbers, refuse_cells
from poolblend.competition.shares import whole_shares
from poolblend.competition.tasks import Task
from poolblend.errors import UserError


def probabilities(path: Path, column: pd.Series) -> np.ndarray:
    """A column of soft labels of the table in `path` as float64 (N,).

    Raises UserError, naming the row, for a cell that is no number from 0 to 1.
    """
    soft_N = numbers(column, path)
    fine_N = (soft_N >= 0) & (soft_N <= 1)
    expected = "a probability from 0 to 1"
    refuse_cells(path, column, fine_N, expected=expected, key=" of data.soft")
    return soft_N


def soft_labels(task: Task, train: pd.DataFrame, columns: Sequence[str], id: str) -> np.ndarray:
    """The soft labels (N, K) of a train table whose `columns` are probabilities.

    One column for binary, of the positive label; one per class for multiclass, in the order of
    `task.classes`, each row normalised to sum to 1; one per target for multilabel. Raises UserError
    for other tasks, another number of columns, and a row that does not sum to 1 (naming its `id`).
    """
    if not task.probabilistic:
        raise UserError(f"data.soft: {task.kind} targets are no probabilities; leave it out")
    if len(columns) != len(task.outputs):
        of = f"positive label {task.classes[1]}" if task.kind == "binary" else None
        raise UserError(
            f"data.soft names {len(columns)} columns, expected {len(task.outputs)}: one for "
            f"{of or 'each of ' + ', '.join(task.outputs)}, in this order"
        )
    soft_NK = train[list(columns)].to_numpy(np.float64)
    if task.kind != "multiclass":
        return soft_NK
    return whole_shares(soft_NK, train[id].tolist(), f"data.soft: the row of {id}")
