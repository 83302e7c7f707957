"""Which labels are possible in a row, by a column of the tables; predictions of others become 0.

Shape legend: N rows, K classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from poolblend.competition.classes import Label, class_indices
from poolblend.competition.sample import split_labels
from poolblend.competition.tasks import Task
from poolblend.errors import UserError, quoted

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def possible_labels(
    task: Task, table: pd.DataFrame, column: str | None, *, strict: bool = True
) -> np.ndarray | None:
    """Bool (N, K): whether a row's cell names the class; all are possible where it names none.

    A cell holds labels as a sample submission's does, such as `A B D`. None without a column.
    Raises UserError for a label that is no class, naming the row by the table's index; unless
    `strict`, a warning counts such rows, and what else their cells name is possible.
    """
    if column is None:
        return None
    named = _labels_of_cells(table[column], task.classes)
    odd = {cell: label for cell, (labels, label) in named.items() if label is not None}
    if odd:
        cells = table[column]
        at_N = cells.isin(list(odd)).to_numpy()
        row, cell = cells.index[at_N][0], cells[at_N].iloc[0]
        what = (
            f"data.possible: row {quoted(row)} holds {quoted(cell)} in column '{column}', and "
            f"{quoted(odd[cell])} is no label of column '{task.targets[0]}'"
        )
        if strict:
            raise UserError(f"{what}; correct the cell, or list every label in data.classes")
        log.warning("%s; in %d rows such labels are ignored", what, at_N.sum())
    every_K = np.ones(len(task.classes), dtype=bool)
    rows = {
        cell: np.isin(np.arange(len(every_K)), places) if places else every_K
        for cell, (places, _) in named.items()
    }
    return np.stack([rows.get(cell, every_K) for cell in table[column].tolist()])


def _labels_of_cells(
    cells: pd.Series, classes: Sequence[Label]
) -> dict[object, tuple[list[int], str | None]]:
    """For each distinct cell, the places of the classes that it names; and one that is none."""
    import pandas as pd

    filled = cells.dropna()
    if pd.api.types.is_numeric_dtype(filled):
        split = {cell: [cell] for cell in filled.unique().tolist()}
    else:
        split = split_labels(filled, classes)
    found = {}
    for cell, labels in split.items():
        places = class_indices(classes, pd.Series(labels, dtype=object))
        unknown = next((str(x) for x, k in zip(labels, places, strict=True) if k is None), None)
        found[cell] = [k for k in places if k is not None], unknown
    return found


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
