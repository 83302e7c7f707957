"""Predictions to a submission that the competition accepts: the sample's columns, ids and order.

Legend: N rows, K model outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype, is_numeric_dtype

from poolblend.competition.tasks import Task
from poolblend.errors import UserError, quoted, unknown

VALUES = ("labels", "probabilities")


def build_submission(
    task: Task,
    sample: pd.DataFrame,
    ids: Sequence[str],
    pred_NK: np.ndarray,
    values: str,
    *,
    id: str | None = None,
    cuts: np.ndarray | None = None,
) -> pd.DataFrame:
    """Write predictions into the sample's columns, in the order of the sample's ids.

    `ids` name the rows of pred_NK. `values` is "labels" (as the train file spells them) or
    "probabilities"; regression writes its values either way. A single output goes into a single
    column whatever its name; several are matched by name. `id` is the sample's id column, by
    default its first; `cuts` decide labels, by default the task's own. Raises UserError where ids
    or columns do not match.
    """
    if values not in VALUES:
        raise unknown("kind of submission", values, VALUES)
    id = id or str(sample.columns[0])
    _check_finite(task, ids, pred_NK)
    pred_NK = pred_NK[_positions(ids, sample[id])]
    columns = [str(column) for column in sample.columns.drop(id)]
    if values == "labels":
        labels = task.decode(task.labels(pred_NK, cuts)).reshape(len(sample), -1)
        names = _matched(columns, task.targets, values)
        cells = [_typed_as(sample[c], labels[:, k]) for c, k in zip(columns, names, strict=True)]
    else:
        cells = [pred_NK[:, k] for k in _matched(columns, task.outputs, values)]
    filled = dict(zip(columns, cells, strict=True)) | {id: sample[id].to_numpy()}
    return pd.DataFrame(filled, columns=sample.columns)


def sample_values(cells: pd.DataFrame) -> str:
    """What the sample's cells look like: "probabilities" where any is a fraction, else "labels"."""
    numbers = cells.select_dtypes("number").to_numpy(dtype=float)
    fractions = np.isfinite(numbers) & (numbers != np.round(numbers))
    return "probabilities" if fractions.any() else "labels"


def check_submission(
    submission: pd.DataFrame, sample: pd.DataFrame, *, id: str | None = None
) -> None:
    """Raise UserError unless columns, ids, their order and the kinds of values are the sample's.

    `id` is the sample's id column, by default its first.
    """
    if list(submission.columns) != list(sample.columns):
        raise UserError(
            f"submission has columns {', '.join(map(str, submission.columns))}; "
            f"expected the sample's: {', '.join(map(str, sample.columns))}"
        )
    id = id or str(sample.columns[0])
    _positions(submission[id], sample[id])
    moved = np.flatnonzero(submission[id].to_numpy() != sample[id].to_numpy())
    if len(moved):
        raise UserError(
            f"submission has id {quoted(submission[id].iloc[moved[0]])} at position {moved[0]}, "
            f"the sample {quoted(sample[id].iloc[moved[0]])}; keep the sample's order of rows"
        )
    for column in sample.columns.drop(id):
        _check_cells(submission[column], sample[column], submission[id])


def _positions(ids: Sequence[str] | pd.Series, wanted: pd.Series) -> np.ndarray:
    """Where each wanted id stands among `ids`, which must be the same set."""
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


def _matched(columns: Sequence[str], names: Sequence[str], values: str) -> list[int]:
    """For each of the sample's columns, the position of the prediction that fills it."""
    if len(columns) == len(names) == 1:
        return [0]
    if set(columns) != set(names):
        raise UserError(
            f"the sample submission has columns {_listed(columns)}, but {values} of this task "
            f"are {_listed(names)}; check the targets, and whether labels or probabilities are "
            "wanted"
        )
    place = {name: k for k, name in enumerate(names)}
    return [place[column] for column in columns]


def _typed_as(sample: pd.Series, labels: np.ndarray) -> np.ndarray:
    """Labels read as 0.0 and 1.0 from train, written as 0 and 1 where the sample does so."""
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


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(quoted(name)[1:-1] for name in names[:6])
    return shown + (f", … ({len(names)})" if len(names) > 6 else "")
