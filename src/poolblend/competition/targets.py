"""Soft labels: probabilities that models learn from instead of hard labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd

from poolblend.competition.cells import normalise_shares
from poolblend.competition.tasks import Task
from poolblend.errors import UserError

log = logging.getLogger(__name__)


def soft_labels(
    task: Task, train: pd.DataFrame, columns: Sequence[str], id: str
) -> np.ndarray | None:
    """The soft labels (N, K) of a train table; None where every row has one hard label.

    They are those of `columns`; without any, the targets' own shares of each row, where each class
    has a target column. One column for binary, of the positive label; one per class for multiclass,
    in the order of `task.classes`, each row normalised to sum to 1; one per target for multilabel.
    Raises UserError for other tasks, another number of columns, and a row that does not sum to 1
    (naming its `id`).
    """
    if not columns:
        return _own_shares(task, train) if task.one_hot else None
    if not task.probabilistic:
        raise UserError(f"data.soft: {task.kind} targets are not probabilities; leave it out")
    if len(columns) != len(task.outputs):
        of = f"positive label {task.classes[1]}" if task.kind == "binary" else None
        raise UserError(
            f"data.soft names {len(columns)} columns, expected {len(task.outputs)}: one for "
            f"{of or 'each of ' + ', '.join(task.outputs)}, in this order"
        )
    soft_NK = train[list(columns)].to_numpy(np.float64)
    if task.kind != "multiclass":
        return soft_NK
    return normalise_shares(soft_NK, train[id].tolist(), f"data.soft: the row of {id}")


def _own_shares(task: Task, train: pd.DataFrame) -> np.ndarray | None:
    share_NK = task.shares(train)
    largest_N = share_NK.max(axis=1)
    if (largest_N == 1).all():
        return None
    log.info(
        "%d of %d rows are shared among classes: models learn the shares, and log_loss scores "
        "them; folds and other metrics use the class of the largest share (the first of equal "
        "ones in %d rows)",
        (largest_N < 1).sum(),
        len(train),
        ((share_NK == largest_N[:, None]).sum(axis=1) > 1).sum(),
    )
    return share_NK
