"""The task that target columns make, and a metric for it.

Shapes: K targets.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from pandas.api.types import is_float_dtype, is_numeric_dtype

from poolblend.competition.cells import parse_column
from poolblend.competition.classes import listed
from poolblend.competition.drafting.findings import Finding, State
from poolblend.competition.metrics import METRICS
from poolblend.competition.names import words
from poolblend.competition.positive import find_positive
from poolblend.competition.sample import find_top
from poolblend.competition.tasks import make_task
from poolblend.errors import UserError

MOST_STEPS = 12  # of a scale of whole numbers; more are amounts
FEW_ROWS = 20  # of a table so small that each label may occur once
# Words of a target's name that say that its whole numbers are a scale, or mere names of classes.
SCALE = {"score", "scores", "rating", "stars", "grade", "level", "rank", "quality", "degree"}
CLASSES = {"label", "class", "category", "type", "topic", "intent", "emotion", "genre"}
# The share of the rarer label below which accuracy rewards a model that never says it.
EVEN = 0.45


def find_task(targets: pd.DataFrame, cells: pd.DataFrame, by_classes: bool) -> Finding:
    """`task`, from train's target columns and the sample's cells to fill, all of them strings.

    `by_classes`: the sample has a column for each label of the only target. Raises UserError for
    texts that are no labels, and for several targets that are not numbers.
    """
    if len(targets.columns) > 1:
        return Finding("task", *_of_several(targets))
    column = parse_column(targets.iloc[:, 0].dropna())
    labels = sorted(set(column.tolist()))
    if by_classes and len(labels) > 2:
        return Finding("task", "multiclass", f"{len(labels)} labels, each a column of the sample")
    return Finding("task", *_of_one(column, labels, holds_fractions(cells)))


def _of_one(column: pd.Series, labels: list, fractions: bool) -> tuple[str, str, State]:
    name = f"'{column.name}' holds"
    if len(labels) <= 2:
        return "binary", f"{name} {listed(labels)}", "sure"
    if not is_numeric_dtype(column):
        if len(labels) > max(len(column) / 2, FEW_ROWS):
            raise UserError(
                f"target {name} {len(labels):,} different texts in {len(column):,} rows "
                f"({listed(labels)}), expected labels or numbers; name another with --target COLUMN"
            )
        return "multiclass", f"{name} {len(labels)} labels ({listed(labels)})", "sure"
    held = f"{name} {len(labels)} numbers, {labels[0]:g} to {labels[-1]:g}"
    few, whole = len(labels) <= MOST_STEPS, bool((column % 1 == 0).all())
    if not (few and whole) or fractions:
        return "regression", held + "; or ordinal" * few, "guess" if few or whole else "sure"
    parts = set(words(str(column.name)))
    if parts & SCALE or (min(labels) == 1 and not parts & CLASSES):
        return "ordinal", f"{held}, a scale; or multiclass, regression", "guess"
    return "multiclass", f"{held}, names of classes; or ordinal", "guess"


def _of_several(targets: pd.DataFrame) -> tuple[str, str, State]:
    columns = [parse_column(targets[name].dropna()) for name in targets]
    texts = [column for column in columns if not is_numeric_dtype(column)]
    if texts:
        raise UserError(
            f"target column '{texts[0].name}' holds {listed(list(texts[0].unique()))}; several "
            "targets hold numbers: name one with --target COLUMN, or write 0 and 1"
        )
    value_NK = targets.astype(float).dropna().to_numpy()
    count = f"{len(columns)} columns"
    sum_N = value_NK.sum(axis=1)
    if np.isin(value_NK, (0, 1)).all():
        if (sum_N == 1).all():
            return "multiclass", f"{count} of 0 and 1, one of them 1 in each row", "sure"
        least, most = int(sum_N.min()), int(sum_N.max())
        return "multilabel", f"{count} of 0 and 1, {least} to {most} of them 1 in a row", "sure"
    if (value_NK >= 0).all() and np.allclose(sum_N, 1, atol=0.01):
        return "multiclass", f"{count} of shares that sum to 1 in each row", "sure"
    return "regression", f"{count} of numbers, {value_NK.min():g} to {value_NK.max():g}", "sure"


def find_metric(task: Finding, targets: pd.DataFrame, cells: pd.DataFrame) -> Finding:
    """`metric`: a guess by the task, the sample's cells and how even the labels are."""
    kind, reason = task.value, f"usual for {task.value} tasks"
    size = _labels_in_a_cell(targets, cells)
    metric = {"ordinal": "qwk", "multiclass": "accuracy", "multilabel": "f1_macro"}.get(kind, "")
    if kind == "regression":
        metric = "rmse" if len(targets.columns) == 1 else "mcrmse"
    elif kind == "binary" and holds_fractions(cells):
        metric, reason = "roc_auc", "the sample holds fractions: probabilities"
    elif kind == "binary":
        share = targets.iloc[:, 0].value_counts(normalize=True).min()
        metric = "accuracy" if share >= EVEN else "f1"
        reason = f"the sample holds labels, the rarer is {100 * share:.0f} % of train"
    elif kind == "multilabel" and holds_fractions(cells):
        metric, reason = "roc_auc_macro", "the sample holds fractions: probabilities"
    elif kind == "multiclass" and len(cells.columns) > 1:
        metric, reason = "log_loss", "the sample has a column for each class: probabilities"
    elif kind == "multiclass" and f"map{size}" in METRICS:
        metric, reason = f"map{size}", f"a cell of the sample holds {size} labels"
    others = [name for name in METRICS if kind in METRICS[name].tasks and name != metric]
    return Finding("metric", metric, f"{reason}; or {', '.join(others)}", "guess")


def _labels_in_a_cell(targets: pd.DataFrame, cells: pd.DataFrame) -> int:
    """How many labels of the only target a cell of the sample holds; 1 where that is unclear."""
    if len(cells.columns) > 1 or len(targets.columns) > 1:
        return 1
    try:
        return find_top(cells.iloc[:, 0], sorted(set(targets.iloc[:, 0].dropna())), None).size
    except UserError:  # cells of different lengths, or with unknown labels
        return 1


def find_positive_label(targets: pd.DataFrame, cells: pd.DataFrame) -> Iterator[Finding]:
    """`data.positive` of a binary task where nothing tells which label counts as 1."""
    column = parse_column(targets.iloc[:, 0].dropna())
    if column.nunique() < 2:
        return
    task = make_task("binary", column.to_frame(), [str(column.name)])
    positive = find_positive(task, None, list(map(str, cells.columns)))
    if not positive.how:
        other = task.classes[0]
        reason = f"the label that counts as 1: nothing says whether it is this or {other}"
        yield Finding("data.positive", positive.label, reason, "guess")


def holds_fractions(cells: pd.DataFrame) -> bool:
    """Whether the sample's cells to fill are written with decimals, such as 0.5 or 0.0."""
    return any(is_float_dtype(parse_column(cells[name])) for name in cells)
