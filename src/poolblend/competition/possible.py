"""Which labels are possible in a row, by a column of the tables; predictions of others become 0.

Shape legend: N rows, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from poolblend.competition.sample import split_labels
from poolblend.competition.tasks import Task
from poolblend.errors import UserError, quoted

if TYPE_CHECKING:
    import pandas as pd


def possible_labels(task: Task, table: pd.DataFrame, column: str | None) -> np.ndarray | None:
    """Bool (N, K): whether a row's cell names the class; all are possible where it is empty.

    A cell holds labels as a sample submission's does, such as `A B D`. None without a column.
    Raises UserError for a label that is no class, naming the row by the table's index.
    """
    if column is None:
        return None
    places = {str(label): k for k, label in enumerate(task.classes)}
    cells = table[column].map(_text, na_action="ignore").replace("", None)
    rows: dict[str, np.ndarray] = {}
    for cell, labels in split_labels(cells, task.classes).items():
        unknown = [label for label in labels if label not in places]
        if unknown:
            row = cells.index[cells == cell][0]
            raise UserError(
                f"data.possible: row {quoted(row)} holds {quoted(cell)} in column '{column}', and "
                f"{quoted(unknown[0])} is no label of column '{task.targets[0]}'; correct the "
                "cell, or list every label in data.classes"
            )
        rows[cell] = np.isin(np.arange(len(places)), [places[label] for label in labels])
    every_K = np.ones(len(places), dtype=bool)
    return np.stack([rows.get(cell, every_K) for cell in cells.tolist()])


def check_true_possible(
    task: Task, table: pd.DataFrame, column: str, y_N: np.ndarray, possible_NK: np.ndarray
) -> None:
    """Raise UserError for a row whose own label is not among those that its cell names."""
    forbidden_N = np.flatnonzero(~possible_NK[np.arange(len(y_N)), y_N])
    if len(forbidden_N):
        n = forbidden_N[0]
        more = f" ({len(forbidden_N)} rows are such)" if len(forbidden_N) > 1 else ""
        raise UserError(
            f"data.possible: row {quoted(table.index[n])} has the label "
            f"{quoted(task.classes[y_N[n]])}, which its cell in column '{column}' does not name"
            f"{more}; correct the cell, or the label"
        )


def only_possible(pred_NK: np.ndarray, possible_NK: np.ndarray | None) -> np.ndarray:
    """The probabilities without labels that are not possible, of the same sum.

    A row that gives nothing to the possible ones gives them equal shares.
    """
    if possible_NK is None:
        return pred_NK
    kept_NK = np.where(possible_NK, pred_NK, 0)
    sum_N1 = kept_NK.sum(axis=1, keepdims=True)
    equal_NK = possible_NK / possible_NK.sum(axis=1, keepdims=True)
    shares_NK = np.divide(kept_NK, sum_N1, out=equal_NK, where=sum_N1 > 0)
    return shares_NK * pred_NK.sum(axis=1, keepdims=True)


def _text(cell: object) -> str:
    return str(cell).strip()
