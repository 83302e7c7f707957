"""A config's tables, read and checked: ids, texts, targets, task, metric, positive label."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from poolblend.competition.filling import Filling
from poolblend.competition.metrics import METRICS, Scorer, UndefinedScoreError, make_scorer
from poolblend.competition.positive import (
    Positive,
    find_positive,
    positive_needed_error,
    with_positive,
)
from poolblend.competition.possible import (
    check_true_possible,
    only_possible,
    possible_labels,
)
from poolblend.competition.submission import try_submission
from poolblend.competition.tables import Tables, load_tables
from poolblend.competition.targets import soft_labels
from poolblend.competition.tasks import Task, make_task
from poolblend.config import Config
from poolblend.ensembling.smooth import truth
from poolblend.errors import UserError
from poolblend.loading.demo_files import make_demo
from poolblend.loading.orders import exchange_of
from poolblend.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CompetitionTables:
    """The tables, their task, metric and targets; arrays have the rows of `tables.train`."""

    tables: Tables
    task: Task
    scorer: Scorer
    y: np.ndarray
    scored: np.ndarray  # `y`, or shares (N, K) if the targets are shares and the metric uses them
    weight_N: np.ndarray | None = None  # float64 of 0 or more, if there are weights
    soft_NK: np.ndarray | None = None  # float64 from 0 to 1, if there are soft labels
    possible_NK: np.ndarray | None = None  # bool: the labels that `data.possible` names
    positive: Positive | None = None  # of a binary task

    def only_possible(self, rows: np.ndarray, pred_NK: np.ndarray) -> np.ndarray:
        """Predictions of these train rows, without the labels that `data.possible` leaves out."""
        possible_NK = None if self.possible_NK is None else self.possible_NK[rows]
        return only_possible(pred_NK, possible_NK)


def open_store(config: Config) -> Store:
    output = config.path(config.output) if config.output else None
    return Store(config.path(config.store), config.run, output, config.cache_gb)


def read_tables(config: Config) -> CompetitionTables:
    """Read and check the tables; first make the demo's tables if the config asks for them."""
    if config.data.demo:
        make_demo(config, open_store(config))
    folder = config.data_dir
    tables = load_tables(folder, config.data, config.task, config.folds, config.submission)
    for column, count in tables.missing_texts.items():
        if count:
            log.info("%s: %d missing texts in column %s are read as empty", folder, count, column)
    try:
        read = _with_targets(config, tables)
    except UserError as error:  # its message names columns, but not the file
        raise UserError(f"{folder / config.data.train}: {error}") from None
    filling = try_submission(read.task, tables, config.submission, config.metric)
    if read.positive:
        _check_positive(config, read.positive, read.task, filling)
    return read


def _with_targets(config: Config, tables: Tables) -> CompetitionTables:
    """Add task, metric and targets; UserError if they do not fit each other."""
    data = config.data
    train = tables.train.set_index(tables.id, drop=False)  # the index names rows in messages
    task, positive = make_task(config.task, train, data.targets, data.positive, data.classes), None
    if task.kind == "binary":
        columns = [str(column) for column in tables.sample.columns.drop(tables.id)]
        positive = find_positive(task, data.positive, columns)
        task = with_positive(task, positive.label)
    scorer = make_scorer(config.metric, task, config.metric_by)
    read = CompetitionTables(
        tables=tables,
        task=task,
        scorer=scorer,
        y=task.encode(train),
        scored=scorer.truth(train),
        weight_N=tables.train[data.weight].to_numpy(np.float64) if data.weight else None,
        soft_NK=soft_labels(task, train, data.soft, tables.id),
        possible_NK=possible_labels(task, train, data.possible),
        positive=positive,
    )
    if data.possible is not None and read.possible_NK is not None:
        check_true_possible(task, train, data.possible, read.y, read.possible_NK)
        possible_labels(task, tables.test.set_index(tables.id), data.possible)
    exchange_of(task, data.swap)  # its labels are known
    if data.swap is not None and not data.swap.labels:
        log.info("data.swap: in the other order the label stays; swap.labels says what else it is")
    if scorer.by is not None:
        scorer.check_groups(train)
    reason = why_undefined(scorer, read.scored)
    if reason:
        raise UserError(f"{reason}; choose another metric, or remove the rows or targets")
    return read


def why_undefined(scorer: Scorer, y: np.ndarray, fold_N: np.ndarray | None = None) -> str:
    """Why the metric is undefined on these rows even for perfect predictions; "" if it is not."""
    try:
        scorer.score_inputs(y, scorer.metric_inputs(truth(scorer.task, y)), fold_N)
    except UndefinedScoreError as error:
        return str(error)
    return ""


def _check_positive(config: Config, positive: Positive, task: Task, filling: Filling) -> None:
    """Log the positive label; UserError if it matters and it is not known."""
    if not positive.how:
        filled = [column for column, source in filling.sources.items() if source.kind == "target"]
        if METRICS[config.metric].needs_positive:
            raise positive_needed_error(task, f"which {config.metric} scores")
        if config.data.soft:
            raise positive_needed_error(task, "whose probability data.soft holds")
        if filled and filling.values == "probabilities":
            what = f"whose probability column '{filled[0]}' of the submission holds"
            raise positive_needed_error(task, what)
    if task.classes != (0, 1):
        log.info("positive label: %s", positive)
