"""Read what a competition ships (train, test, sample submission) and refuse what cannot be right.

Everything is read as strings, so that an id "0001" keeps its zeros and a text "NA" stays a text.
In messages, rows count as a spreadsheet shows them: a CSV's header is row 1.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.competition.classes import Label, listed, places_among
from poolblend.competition.columns import check_filled, numbers, unknown_share
from poolblend.competition.files import read_table
from poolblend.competition.idcolumns import IdsOf, id_column, number_rows, read_with_ids
from poolblend.competition.ids import INTEGER, NUMBER, row_number
from poolblend.competition.joins import Lookup
from poolblend.competition.sample_rows import RowIds, rows_to_submit
from poolblend.competition.soft import probabilities
from poolblend.competition.templates import text_columns
from poolblend.competition.weights import row_weights
from poolblend.errors import UserError, quoted

__all__ = [
    "Lookup",
    "Tables",
    "Unlabelled",
    "load_tables",
    "load_test",
    "parse_column",
    "read_table",
]

log = logging.getLogger(__name__)

MOST_UNKNOWN = 0.5  # share of test's cells of categories that train lacks, beyond which it is told
LEADING_ZERO = r"[+-]?0[0-9]+"
DECIMAL = rf"{NUMBER}|[+-]?(?i:inf|infinity|nan)"


@dataclass(frozen=True)
class Unlabelled:
    """The tables that predicting needs, checked; ids and texts are strings and never missing.

    `test` holds ids and texts, and any other column as strings; `sample` is the sample submission,
    over the rows to submit, and `own_rows` false where some were made for ids that it lacks. The
    ids stand in column `id` of all tables.
    """

    id: str
    test: pd.DataFrame
    sample: pd.DataFrame
    own_rows: bool


@dataclass(frozen=True)
class Tables(Unlabelled):
    """A competition's three tables, checked.

    `train` holds what `test` does, and parsed targets; soft labels and weights are float64.
    `missing_texts` counts, for each text column over train and test, the cells that were empty and
    are now empty texts.
    """

    train: pd.DataFrame
    missing_texts: dict[str, int]


def load_tables(
    train: Path,
    test: Path,
    sample_submission: Path,
    *,
    id: str | None,
    text: Sequence[str],
    targets: Sequence[str],
    joins: Sequence[Lookup] = (),
    test_joins: Sequence[Lookup] = (),
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    weight: str | None = None,
    soft: Sequence[str] = (),
    groups: str | None = None,
    classes: Sequence[Label] | None = None,
    sample_rows: int | None = None,
    submission_ids: RowIds = "auto",
    seed: int = 42,
) -> Tables:
    """Read and check the three files; with `sample_rows`, keep that many random train rows.

    Where `id` is None, train's rows are numbered from 0, and the ids of test and sample are in the
    sample's first column. `text` is columns or a template. `joins` and `test_joins` add their
    columns before anything looks for one; numeric and categorical columns are in both tables,
    weight, soft and groups in train. The checks see the whole of train, and the rows kept stay in
    the file's order. Raises UserError for files, columns, ids or cells that are missing, doubled or
    do not match, and for targets outside `classes`.
    """
    texts = text_columns(text)
    inputs = [*texts, *numeric, *categorical]
    answers = [*targets, *soft, *([weight] if weight else [])]
    columns = [*inputs, *answers, *([groups] if groups else [])]
    id, test_ids = id_column(id, sample_submission, columns)
    _check_inputs(inputs, [id, *answers])
    _check_groups(groups, [*answers, *numeric])
    train_table = read_with_ids(train, id, columns, joins, number_rows if test_ids else None)
    test_table = _read_test(test, id, inputs, numeric, test_joins, test_ids)
    sample, own = _read_sample(sample_submission, id, test, test_table[id], submission_ids)
    for target in targets:
        train_table[target] = _labels(train, train_table[target], classes)
    _check_extras(train, train_table, numeric, categorical)
    for column in categorical:
        _tell_unknown(test, column, unknown_share(train_table[column], test_table[column]))
    for column in soft:
        train_table[column] = probabilities(train, train_table[column])
    if weight:
        train_table[weight] = row_weights(train, train_table[weight])
    if groups:
        train_table[groups] = _stripped_groups(train, train_table[groups])
    if sample_rows is not None and sample_rows < len(train_table):
        rows = np.random.default_rng(seed).choice(len(train_table), sample_rows, replace=False)
        train_table = train_table.iloc[np.sort(rows)].reset_index(drop=True)
    test_table = test_table.drop(columns=list(targets), errors="ignore")
    missing = {c: int(train_table[c].isna().sum() + test_table[c].isna().sum()) for c in texts}
    empty_texts = dict.fromkeys(texts, "")
    train_table, test_table = train_table.fillna(empty_texts), test_table.fillna(empty_texts)
    return Tables(id, test_table, sample, own, train_table, missing)


def _labels(path: Path, column: pd.Series, classes: Sequence[Label] | None) -> pd.Series:
    """A target, parsed; UserError for a gap, or what is not among the classes given."""
    _check_no_gaps(path, column, "target")
    parsed = parse_column(column)
    if classes is not None:
        _check_labels(path, parsed, classes)
    return parsed


def _check_extras(
    path: Path, train: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> None:
    """Raise UserError for a column that is empty, and for a cell that is no number."""
    for column in (*numeric, *categorical):
        check_filled(path, train[column])
    for column in numeric:
        numbers(train[column], path)


def _tell_unknown(path: Path, column: str, share: float) -> None:
    if share > MOST_UNKNOWN:
        log.warning(
            "%s: %.0f %% of the cells in categorical column '%s' hold what train does not: models "
            "make nothing of them",
            path,
            100 * share,
            column,
        )


def _check_groups(groups: str | None, others: Sequence[str]) -> None:
    if groups in others:
        raise UserError(
            f"folds.groups names column '{groups}', which is a target, weight or number; name one "
            "of prompts, authors or the like"
        )


def _stripped_groups(path: Path, column: pd.Series) -> pd.Series:
    """The groups without the spaces around them; UserError for a row that has none."""
    group_N = column.str.strip()
    _check_no_gaps(path, group_N.where(group_N != ""), "group")
    return group_N


def load_test(
    test: Path,
    sample_submission: Path,
    *,
    id: str | None,
    text: Sequence[str],
    joins: Sequence[Lookup] = (),
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    submission_ids: RowIds = "auto",
) -> Unlabelled:
    """Read and check what predicting needs, as `load_tables` does, where train may be far away."""
    texts = text_columns(text)
    inputs = [*texts, *numeric, *categorical]
    id, ids = id_column(id, sample_submission, inputs)
    table = _read_test(test, id, inputs, numeric, joins, ids)
    sample, own = _read_sample(sample_submission, id, test, table[id], submission_ids)
    return Unlabelled(id, table.fillna(dict.fromkeys(texts, "")), sample, own)


def _read_test(
    path: Path,
    id: str,
    inputs: Sequence[str],
    numeric: Sequence[str],
    joins: Sequence[Lookup],
    ids: IdsOf | None = None,
) -> pd.DataFrame:
    table = read_with_ids(path, id, inputs, joins, ids)
    for column in numeric:
        numbers(table[column], path)
    return table


def parse_column(column: pd.Series) -> pd.Series:
    """Strings to int64 where all are integers, else to float64 where all are numbers, else as is.

    Spaces around a number, and how it is written, are all that is lost. A leading zero ("007")
    marks a name rather than a number; an empty cell, or a number beyond the type, leaves all as is.
    """
    if column.isna().any():
        return column
    cells = {cell: cell.strip() for cell in set(column)}  # of many rows, few cells may be distinct
    if any(re.fullmatch(LEADING_ZERO, text) for text in cells.values()):
        return column
    whole = all(re.fullmatch(INTEGER, text) for text in cells.values())
    if not whole and not all(re.fullmatch(DECIMAL, text) for text in cells.values()):
        return column
    try:
        number = {cell: int(text) if whole else _float(text) for cell, text in cells.items()}
        dtype = "int64" if whole else "float64"
        return pd.Series(map(number.get, column), column.index, dtype, column.name)
    except (ValueError, OverflowError):
        return column


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value) and re.fullmatch(NUMBER, text):
        raise OverflowError(text)
    return value


def _read_sample(
    path: Path, id: str, test: Path, test_ids: pd.Series, ids: RowIds
) -> tuple[pd.DataFrame, bool]:
    """The sample submission, its columns parsed, as `rows_to_submit` gives it."""
    sample = read_with_ids(path, id, [])
    if len(sample.columns) < 2:
        raise UserError(
            f"{path} has no column beside '{id}', expected one for each value to submit; "
            "download the competition's own sample again"
        )
    for column in sample.columns.drop(id):
        sample[column] = parse_column(sample[column])
    return rows_to_submit(path, sample, test, test_ids, ids)


def _check_inputs(inputs: Sequence[str], answers: Sequence[str]) -> None:
    """Refuse to let a model read what it is to predict, or what only train has."""
    read = [column for column in inputs if column in answers]
    if read:
        raise UserError(
            f"column '{read[0]}' is read as text, number or category, and also named as id, "
            "target, soft label or weight; name it once"
        )


def _check_labels(path: Path, column: pd.Series, labels: Sequence[Label]) -> None:
    outside = [k for k, place in enumerate(places_among(labels, column)) if place is None]
    if outside:
        raise UserError(
            f"{path} row {row_number(path, outside[0])} holds {quoted(column.iloc[outside[0]])} in "
            f"target column '{column.name}' ({len(outside)} such rows), which is outside "
            f"data.classes ({listed(labels)}); mend the cell, or add the label"
        )


def _check_no_gaps(path: Path, column: pd.Series, kind: str) -> None:
    empty = np.flatnonzero(column.isna())
    if len(empty):
        raise UserError(
            f"{path} has {len(empty)} empty cells in {kind} column '{column.name}', the first in "
            f"row {row_number(path, empty[0])}; fill them or drop the rows"
        )
