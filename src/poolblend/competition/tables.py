"""Read and check a competition's files: train, test and sample submission.

Everything is read as strings, so that an id "0001" keeps its zeros and a text "NA" stays a text.
In messages, rows are numbered as in a spreadsheet: a CSV's header is row 1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.competition.cells import bounded, check_filled, numbers, parse_column
from poolblend.competition.classes import Label, class_indices, listed
from poolblend.competition.columns import unknown_share
from poolblend.competition.files import read_table, table_of
from poolblend.competition.ids import (
    check_unique,
    find_test_ids,
    ids_of_sample,
    number_rows,
    row_number,
    rows_to_submit,
)
from poolblend.competition.joins import (
    add_joined,
    check_columns,
    read_joined,
    unknown_column,
)
from poolblend.competition.options import Data, Folds, Submission
from poolblend.competition.tasks import SINGLE
from poolblend.competition.templates import is_template, target_table, text_columns
from poolblend.errors import UserError, quoted

log = logging.getLogger(__name__)

# Share of unknown categories in a test column above which a warning is logged.
MOST_UNKNOWN = 0.5
NEW_ROWS = Path("the DataFrame")  # their name in messages


@dataclass(frozen=True)
class Unlabelled:
    """The tables that predicting needs, checked; ids and texts are strings and never missing.

    `test` holds ids and texts, and any other column as strings. `sample` is the sample submission
    with the rows to submit; `own_rows` is false where rows were added for ids that it lacks. Column
    `id` of each table holds the ids.
    """

    id: str
    test: pd.DataFrame
    sample: pd.DataFrame
    own_rows: bool


@dataclass(frozen=True)
class Tables(Unlabelled):
    """A competition's three tables, checked.

    `train` has the columns of `test` and parsed targets; soft labels and weights are float64.
    `missing_texts` counts the empty cells of each text column in train and test together.
    """

    train: pd.DataFrame
    missing_texts: dict[str, int]


def load_tables(
    folder: Path, data: Data, kind: str, folds: Folds, submission: Submission
) -> Tables:
    """Read and check the three files in `folder`, for a task of this kind.

    With `data.sample_rows`, this many random train rows are kept, in the file's order, after all
    rows are checked. Raises UserError for files, columns, ids or cells that are missing, repeated
    or do not match, and for targets outside `data.classes`.
    """
    texts = text_columns(data.text)
    inputs = data.inputs
    answers = [*text_columns(data.target), *data.soft, *([data.weight] if data.weight else [])]
    columns = [*inputs, *answers, *([folds.groups] if folds.groups else [])]
    id, sample_ids = _id_column(folder, data, columns)
    _check_inputs(inputs, [id, *answers])
    _check_groups(folds.groups, [*answers, *data.numeric])
    train = _read_train(folder, data, id, columns)
    test = _read_test(folder, data, id, inputs, sample_ids)
    sample, own_rows = _read_sample(folder, data, id, test[id], submission)
    _parse_train(folder / data.train, train, data, kind, folds.groups)
    for column in data.categorical:
        share = unknown_share(train[column], test[column])
        if share > MOST_UNKNOWN:
            log.warning(
                "%s: %.0f %% of the cells in categorical column '%s' hold categories that train "
                "does not have: models see these cells as empty",
                folder / data.test,
                100 * share,
                column,
            )
    if data.sample_rows is not None and data.sample_rows < len(train):
        rng = np.random.default_rng(folds.seed)
        kept = np.sort(rng.choice(len(train), data.sample_rows, replace=False))
        train = train.iloc[kept].reset_index(drop=True)
    test = test.drop(columns=[*text_columns(data.target), *data.targets], errors="ignore")
    missing = {c: int(train[c].isna().sum() + test[c].isna().sum()) for c in texts}
    empty_texts = dict.fromkeys(texts, "")
    train, test = train.fillna(empty_texts), test.fillna(empty_texts)
    return Tables(id, test, sample, own_rows, train, missing)


def load_test(folder: Path, data: Data, submission: Submission) -> Unlabelled:
    """Read and check what predicting needs, as `load_tables` does; train need not be there."""
    texts = text_columns(data.text)
    inputs = data.inputs
    id, sample_ids = _id_column(folder, data, inputs)
    test = _read_test(folder, data, id, inputs, sample_ids)
    sample, own_rows = _read_sample(folder, data, id, test[id], submission)
    return Unlabelled(id, test.fillna(dict.fromkeys(texts, "")), sample, own_rows)


def read_new(frame: pd.DataFrame, folder: Path, data: Data) -> pd.DataFrame:
    """Rows of no table of the competition, read and checked as test's are; they need no ids."""
    texts = text_columns(data.text)
    inputs = data.inputs
    needed = [*inputs, *(join.on for join in data.joins)]
    table = table_of(frame, NEW_ROWS, needed=needed)
    table = add_joined(NEW_ROWS, table, folder, data.joins, "test", needed)
    _check_read(NEW_ROWS, table, data.numeric, inputs)
    return table.fillna(dict.fromkeys(texts, ""))


def _id_column(folder: Path, data: Data, columns: Sequence[str]) -> tuple[str, pd.Series | None]:
    """The id column's name; if data.id is null, the sample's first column, with its ids."""
    if data.id is not None:
        return data.id, None
    ids = ids_of_sample(folder / data.sample_submission, columns)
    return str(ids.name), ids


def _read_train(folder: Path, data: Data, id: str, columns: Sequence[str]) -> pd.DataFrame:
    path = folder / data.train
    table = read_joined(folder, data.train, data.joins, "train", [id, *columns])
    if data.id is None:
        table[id] = number_rows(path, table)
    return _with_ids(path, table, id, columns)


def _read_test(
    folder: Path, data: Data, id: str, inputs: Sequence[str], sample_ids: pd.Series | None
) -> pd.DataFrame:
    path = folder / data.test
    table = read_joined(folder, data.test, data.joins, "test", [id, *inputs])
    if sample_ids is not None:
        table[id] = find_test_ids(path, table, folder / data.sample_submission, sample_ids)
    table = _with_ids(path, table, id, inputs)
    _check_read(path, table, data.numeric, inputs)
    return table


def _check_read(
    path: Path, table: pd.DataFrame, numeric: Sequence[str], inputs: Sequence[str]
) -> None:
    """Raise UserError where the table lacks a column that models read, or a number is none."""
    check_columns(path, table, inputs)
    for column in numeric:
        numbers(table[column], path)


def _read_sample(
    folder: Path, data: Data, id: str, test_ids: pd.Series, submission: Submission
) -> tuple[pd.DataFrame, bool]:
    """The sample submission, its columns parsed, as `rows_to_submit` gives it."""
    path = folder / data.sample_submission
    sample = _with_ids(path, read_table(path, needed=[id]), id, [])
    if len(sample.columns) < 2:
        raise UserError(
            f"{path} has no column beside '{id}', expected one for each value to submit; "
            "download the competition's own sample again"
        )
    for column in sample.columns.drop(id):
        sample[column] = parse_column(sample[column])
    return rows_to_submit(path, sample, folder / data.test, test_ids, submission.ids)


def _with_ids(path: Path, table: pd.DataFrame, id: str, columns: Sequence[str]) -> pd.DataFrame:
    """The table, checked: UserError where `columns` are missing, or ids missing or repeated."""
    if id not in table:
        raise UserError(
            f"{unknown_column(path, id, table)}; data.id names the ids' column, or is "
            "null where train has none"
        )
    check_columns(path, table, columns)
    check_unique(path, table[id])
    return table


def _parse_train(
    path: Path, train: pd.DataFrame, data: Data, kind: str, groups: str | None
) -> None:
    """Parse and check targets, soft labels, weights and groups in place, and check the numbers."""
    classes = data.classes if kind in SINGLE and len(data.target) == 1 else None
    for column in text_columns(data.target):
        _check_no_gaps(path, train[column], "target")
    if is_template(data.target):
        _add_joint_target(path, train, data)
    for target in data.targets:
        train[target] = parse_column(train[target])
        if classes is not None:
            _check_labels(path, train[target], classes)
    for column in (*data.numeric, *data.categorical):
        check_filled(path, train[column])
    for column in data.numeric:
        numbers(train[column], path)
    for column in data.soft:
        expected = "a probability from 0 to 1"
        train[column] = bounded(path, train[column], 1, expected=expected, key="data.soft")
    if data.weight:
        expected = "a finite number, 0 or more"
        weights = bounded(path, train[data.weight], math.inf, expected=expected, key="data.weight")
        train[data.weight] = weights
    if groups:
        stripped = train[groups].str.strip()
        _check_no_gaps(path, stripped.where(stripped != ""), "group")
        train[groups] = stripped


def _add_joint_target(path: Path, train: pd.DataFrame, data: Data) -> None:
    """Add the column that the template of `data.target` fills, in place."""
    (name,) = data.targets
    if name in train:
        raise UserError(
            f"{path} has a column '{name}', as the template {quoted(data.target[0])} would be "
            f"called; let data.target name the column, or write the template otherwise"
        )
    train[name] = target_table(train, data.target)[name]


def _check_groups(groups: str | None, others: Sequence[str]) -> None:
    if groups in others:
        raise UserError(
            f"folds.groups names column '{groups}', which is a target, weight or number; name one "
            "of prompts, authors or the like"
        )


def _check_inputs(inputs: Sequence[str], answers: Sequence[str]) -> None:
    """Raise UserError where a model would read its target, or a column that only train has."""
    read = [column for column in inputs if column in answers]
    if read:
        raise UserError(
            f"column '{read[0]}' is read as text, number, category or possible labels, and also "
            "named as id, target, soft label or weight; name it once"
        )


def _check_labels(path: Path, column: pd.Series, labels: Sequence[Label]) -> None:
    outside = [k for k, place in enumerate(class_indices(labels, column)) if place is None]
    if outside:
        raise UserError(
            f"{path} row {row_number(path, outside[0])} holds {quoted(column.iloc[outside[0]])} in "
            f"target column '{column.name}' ({len(outside)} such rows), which is outside "
            f"data.classes ({listed(labels)}); correct the cell, or add the label"
        )


def _check_no_gaps(path: Path, column: pd.Series, kind: str) -> None:
    empty = np.flatnonzero(column.isna())
    if len(empty):
        raise UserError(
            f"{path} has {len(empty)} empty cells in {kind} column '{column.name}', the first in "
            f"row {row_number(path, empty[0])}; fill them or drop the rows"
        )
