"""Write predictions as a submission with the sample's columns, ids and order."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype, is_numeric_dtype

from poolblend.competition.filling import Filling, find_filling
from poolblend.competition.metrics import METRICS
from poolblend.competition.options import Submission
from poolblend.competition.tables import Unlabelled
from poolblend.competition.tasks import Task
from poolblend.errors import UserError, quoted

log = logging.getLogger(__name__)


def try_submission(task: Task, tables: Unlabelled, options: Submission, metric: str) -> Filling:
    """What fills the sample submission; raises UserError where it cannot be filled.

    Called before anything is trained or predicted.
    """
    filling = find_filling(task, tables, options, METRICS[metric].inputs)
    if filling.how:
        log.info("sample submission: %s", filling.how)
    even_NK = np.full((len(tables.test), len(task.outputs)), 1 / len(task.classes or (0,)))
    fill_submission(task, filling, tables, options, even_NK)
    return filling


def fill_submission(
    task: Task,
    filling: Filling,
    tables: Unlabelled,
    options: Submission,
    pred_NK: np.ndarray,
    cuts: np.ndarray | None = None,
) -> pd.DataFrame:
    """The submission from predictions of the rows of `test`, checked against its template."""
    id, test = tables.id, tables.test
    # With submission.ids=sample, test may hold further rows.
    asked_N = test[id].isin(filling.template[id]).to_numpy() | (options.ids != "sample")
    ids = list(test[id][asked_N])
    made = build_submission(task, filling, ids, pred_NK[asked_N], id=id, cuts=cuts)
    check_submission(made, filling.template, id=id, copied=filling.copied)
    return made


def build_submission(
    task: Task,
    filling: Filling,
    ids: Sequence[str],
    pred_NK: np.ndarray,
    *,
    id: str,
    cuts: np.ndarray | None = None,
) -> pd.DataFrame:
    """Write predictions into the columns of the filling's template, in the order of its ids.

    `ids` name the rows of pred_NK, `id` is the template's column of ids; `cuts` decide labels (as
    the train file spells them), by default the task's own. Raises UserError where ids do not match.
    """
    template = filling.template
    _check_finite(task, ids, pred_NK)
    pred_NK = pred_NK[_positions(ids, template[id])]
    filled: dict[str, object] = {id: template[id].to_numpy()}
    for column, source in filling.sources.items():
        if source.kind == "copy":
            filled[column] = template[column].array
        elif source.kind == "class":
            filled[column] = _shares(task, filling.values, pred_NK, cuts)[:, source.place]
        elif filling.top.size > 1:
            filled[column] = filling.top.cells(task.outputs, pred_NK)
        elif filling.values == "labels" or task.kind == "multiclass":
            labels = decided_labels(task, pred_NK, cuts)
            filled[column] = _typed_as(template[column], labels[:, source.place])
        else:
            filled[column] = pred_NK[:, source.place]
    return pd.DataFrame(filled, columns=template.columns)


def decided_labels(task: Task, pred_NK: np.ndarray, cuts: np.ndarray | None) -> np.ndarray:
    """Labels as train spells them, a column per target; of a one-hot task, one of class names."""
    labels = task.labels(pred_NK, cuts)
    if task.one_hot:
        return np.array(task.classes, dtype=object)[labels][:, None]
    return task.decode(labels).reshape(len(pred_NK), -1)


def _shares(task: Task, values: str, pred_NK: np.ndarray, cuts: np.ndarray | None) -> np.ndarray:
    """A column per class: its probability, or as labels 1 where it is the row's and 0 elsewhere."""
    if values == "labels":
        return np.eye(len(task.classes), dtype=np.int64)[task.labels(pred_NK, cuts)]
    return pred_NK if task.kind == "multiclass" else np.hstack([1 - pred_NK, pred_NK])


def check_submission(
    submission: pd.DataFrame, template: pd.DataFrame, *, id: str, copied: Sequence[str] = ()
) -> None:
    """Raise UserError unless columns, ids, their order and the kinds of values are the template's.

    `id` is the column of ids; the cells of `copied` columns must be the template's own.
    """
    if list(submission.columns) != list(template.columns):
        raise UserError(
            f"submission has columns {', '.join(map(str, submission.columns))}; "
            f"expected the sample's: {', '.join(map(str, template.columns))}"
        )
    _positions(submission[id], template[id])
    moved = np.flatnonzero(submission[id].to_numpy() != template[id].to_numpy())
    if len(moved):
        raise UserError(
            f"submission has id {quoted(submission[id].iloc[moved[0]])} at position {moved[0]}, "
            f"the sample {quoted(template[id].iloc[moved[0]])}; keep the sample's order of rows"
        )
    for column in copied:
        if not submission[column].reset_index(drop=True).equals(template[column]):
            raise UserError(
                f"submission column '{column}' is to be copied, but differs from the sample's"
            )
    for column in template.columns.drop([id, *copied]):
        _check_cells(submission[column], template[column], submission[id])


def _positions(ids: Sequence[str] | pd.Series, wanted: pd.Series) -> np.ndarray:
    """The position of each wanted id in `ids`; UserError unless both are the same set."""
    index = pd.Index(ids)
    if index.has_duplicates:
        twice = index[index.duplicated()]
        raise UserError(f"id {quoted(twice[0])} is predicted more than once; give each id one row")
    lacking = wanted[~wanted.isin(index)]
    if len(lacking):
        raise UserError(
            f"{len(lacking)} of the sample submission's {len(wanted)} ids have no prediction, "
            f"the first {quoted(lacking.iloc[0])}; predict the test table that the sample belongs "
            "to"
        )
    extra = index[~index.isin(wanted)]
    if len(extra):
        raise UserError(
            f"{len(extra)} predicted ids are not in the sample submission, the first "
            f"{quoted(extra[0])}; predict the test table that the sample belongs to"
        )
    return index.get_indexer(pd.Index(wanted))


def _typed_as(sample: pd.Series, labels: np.ndarray) -> np.ndarray:
    """Labels that train holds as 0.0 and 1.0, as 0 and 1 where the sample holds integers."""
    if is_integer_dtype(sample.dtype) and labels.dtype.kind == "f" and not (labels % 1).any():
        return labels.astype(np.int64)
    return labels


def _check_finite(task: Task, ids: Sequence[str], pred_NK: np.ndarray) -> None:
    bad_NK = ~np.isfinite(pred_NK)
    if bad_NK.any():
        row, column = np.argwhere(bad_NK)[0]
        raise UserError(
            f"{bad_NK.sum()} predictions are NaN or infinite, the first of "
            f"'{task.outputs[column]}' for id {quoted(list(ids)[row])}; predict the test rows again"
        )


def _check_cells(values: pd.Series, sample: pd.Series, ids: pd.Series) -> None:
    missing = values.isna()
    if is_numeric_dtype(values.dtype):
        missing |= ~np.isfinite(values.astype(np.float64))
    if missing.any():
        raise UserError(
            f"submission column '{values.name}' has {missing.sum()} cells that are empty, NaN or "
            f"infinite, the first at id {quoted(ids[missing].iloc[0])}; fill every cell"
        )
    # A sample may leave its cells empty: then it does not say what belongs there.
    if sample.notna().all() and is_numeric_dtype(values.dtype) != is_numeric_dtype(sample.dtype):
        kinds = [
            f"{'numbers' if is_numeric_dtype(c.dtype) else 'text'} ({quoted(c.iloc[0])})"
            for c in (values, sample)
        ]
        raise UserError(
            f"submission column '{values.name}' holds {kinds[0]}, the sample's holds {kinds[1]}; "
            "check whether labels or probabilities are wanted"
        )
