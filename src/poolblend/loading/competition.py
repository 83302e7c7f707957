"""A config's competition, read and checked: tables, task, metric, folds, and their hashes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from poolblend.competition.filling import Filling
from poolblend.competition.joins import Lookup
from poolblend.competition.metrics import METRICS, Scorer, make_scorer
from poolblend.competition.positive import (
    Positive,
    find_positive,
    positive_is_needed,
    with_positive,
)
from poolblend.competition.soft import soft_labels
from poolblend.competition.tables import Tables, load_tables
from poolblend.competition.tasks import SINGLE, Task, make_task
from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.loading.demo_files import make_demo
from poolblend.loading.frozen_folds import frozen_folds, new_folds
from poolblend.loading.prechecks import try_metric
from poolblend.loading.submission_form import try_submission
from poolblend.store import Store, sha256

log = logging.getLogger(__name__)

__all__ = [
    "Competition",
    "Tabled",
    "describe_task",
    "load_competition",
    "lookups",
    "new_folds",
    "open_store",
    "planned_competition",
    "read_tables",
    "restore_task",
    "table_hashes",
    "with_folds",
]


@dataclass(frozen=True, eq=False)
class Tabled:
    """What the competition's tables say; rows of `y`, weights and soft labels follow its train."""

    tables: Tables
    task: Task
    scorer: Scorer
    y: np.ndarray
    scored: np.ndarray  # `y`, or shares (N, K) where targets are shares and the metric takes them
    weight_N: np.ndarray | None = None  # float64 of 0 or more, where there are weights
    soft_NK: np.ndarray | None = None  # float64 from 0 to 1, where there are soft labels
    positive: Positive | None = None  # of a binary task


@dataclass(frozen=True, eq=False, kw_only=True)
class Competition(Tabled):
    """All that does not depend on a model; rows of `y` and `fold_N` follow `tables.train`."""

    fold_N: np.ndarray
    data: dict[str, str]  # what was read: sha256 of train, test, folds, and joined tables if any

    @property
    def n_folds(self) -> int:
        return int(self.fold_N.max()) + 1


def describe_task(task: Task) -> dict[str, Any]:
    """A task as JSON, for cards; `restore_task` reads it back."""
    return {
        "kind": task.kind,
        "targets": list(task.targets),
        "classes": list(task.classes),
        "outputs": list(task.outputs),
    }


def restore_task(described: Mapping[str, Any]) -> Task:
    return Task(described["kind"], tuple(described["targets"]), tuple(described["classes"]))


def open_store(config: Config) -> Store:
    output = config.path(config.output) if config.output else None
    return Store(config.path(config.store), config.run, output)


def load_competition(config: Config, store: Store, *, make_folds: bool = False) -> Competition:
    """Read the tables, and the frozen folds, which are made where `make_folds` allows it."""
    return with_folds(read_tables(config), config, store, make_folds=make_folds)


def read_tables(config: Config) -> Tabled:
    """Read and check the tables; make the demo's first where the config asks for it."""
    data, folder = config.data, config.data_dir
    if data.demo:
        make_demo(config, open_store(config))
    tables = load_tables(
        folder / data.train,
        folder / data.test,
        folder / data.sample_submission,
        id=data.id,
        text=data.text,
        targets=data.target,
        joins=lookups(config, "train"),
        test_joins=lookups(config, "test"),
        numeric=data.numeric,
        categorical=data.categorical,
        weight=data.weight,
        soft=data.soft,
        groups=config.folds.groups,
        classes=data.classes if config.task in SINGLE and len(data.target) == 1 else None,
        sample_rows=data.sample_rows,
        submission_ids=config.submission.ids,
        seed=config.folds.seed,
    )
    for column, count in tables.missing_texts.items():
        if count:
            log.info("%s: %d missing texts in column %s are read as empty", folder, count, column)
    try:
        train = tables.train.set_index(tables.id, drop=False)  # by which messages name a row
        task = make_task(config.task, train, data.target, data.positive, data.classes)
        positive = _positive(config, tables, task)
        task = with_positive(task, positive.label) if positive else task
        y = task.encode(train)
        soft_NK = _soft_labels(task, train, config, tables.id)
    except UserError as error:  # it knows columns, not files
        raise UserError(f"{folder / data.train}: {error}") from None
    weight_N = tables.train[data.weight].to_numpy(np.float64) if data.weight else None
    scorer = make_scorer(config.metric, task)
    tabled = Tabled(tables, task, scorer, y, scorer.truth(train), weight_N, soft_NK, positive)
    try:
        try_metric(tabled)
    except UserError as error:
        raise UserError(f"{folder / data.train}: {error}") from None
    filling = try_submission(config, tables, task, config.metric)
    if positive:
        _check_positive(config, positive, task, filling)
    return tabled


def _soft_labels(task: Task, train: pd.DataFrame, config: Config, id: str) -> np.ndarray | None:
    """Of data.soft, else of targets that are shares of a row; None where rows have one label."""
    if config.data.soft:
        return soft_labels(task, train, config.data.soft, id)
    if not task.one_hot:
        return None
    share_NK = task.shares(train)
    largest_N = share_NK.max(axis=1)
    if (largest_N == 1).all():
        return None
    log.info(
        "%d of %d rows are shared among classes: models learn the shares, which log_loss takes as "
        "well; folds and other metrics take the class of the largest (the first of equal ones in "
        "%d rows)",
        (largest_N < 1).sum(),
        len(train),
        ((share_NK == largest_N[:, None]).sum(axis=1) > 1).sum(),
    )
    return share_NK


def lookups(config: Config, side: Literal["train", "test"]) -> list[Lookup]:
    """The tables that are joined to train or to test."""
    folder, joins = config.data_dir, config.data.joins
    if side == "train":
        return [Lookup(folder / join.train, join.on) for join in joins]
    return [Lookup(folder / (join.test or join.train), join.on) for join in joins]


def table_hashes(config: Config, side: Literal["train", "test"]) -> dict[str, str]:
    """The sha256 of a table under "train_sha256" or "test_sha256".

    Where others are joined, that of theirs, in order, under "joins_sha256" or "test_joins_sha256".
    """
    table = config.data.train if side == "train" else config.data.test
    hashes = {f"{side}_sha256": sha256(config.data_dir / table)}
    joined = [sha256(lookup.path) for lookup in lookups(config, side)]
    if side == "test" and config.data.id is None:  # it may have its ids from the sample submission
        joined.append(sha256(config.data_dir / config.data.sample_submission))
    if joined:
        key = "joins_sha256" if side == "train" else "test_joins_sha256"
        hashes[key] = hashlib.sha256("".join(joined).encode()).hexdigest()
    return hashes


def with_folds(
    tabled: Tabled,
    config: Config,
    store: Store,
    *,
    make_folds: bool = False,
    given_fold_N: np.ndarray | None = None,
) -> Competition:
    """Add the frozen folds; where there are none yet, those given, or new ones if allowed."""
    fold_N = frozen_folds(tabled, config, store, make_folds=make_folds, given_fold_N=given_fold_N)
    hashes = table_hashes(config, "train") | table_hashes(config, "test")
    hashes["folds_sha256"] = sha256(store.folds_path)
    return Competition(**vars(tabled), fold_N=fold_N, data=hashes)


def planned_competition(config: Config, store: Store) -> Competition:
    """The competition as a training would find it; folds that are not there yet are not written."""
    if store.folds_path.exists():
        return load_competition(config, store, make_folds=True)  # refuses what training would
    tabled = read_tables(config)
    hashes = table_hashes(config, "train") | table_hashes(config, "test")
    hashes["folds_sha256"] = "not made yet"
    return Competition(**vars(tabled), fold_N=new_folds(tabled, config), data=hashes)


def _positive(config: Config, tables: Tables, task: Task) -> Positive | None:
    """The positive label of a binary task, and what tells it."""
    if task.kind != "binary":
        return None
    columns = [str(column) for column in tables.sample.columns.drop(tables.id)]
    return find_positive(task, config.data.positive, columns)


def _check_positive(config: Config, positive: Positive, task: Task, filling: Filling) -> None:
    """Name the positive label; UserError where it matters and nothing tells which it is."""
    if not positive.how:
        filled = [column for column, source in filling.sources.items() if source.kind == "target"]
        if METRICS[config.metric].of_positive:
            raise positive_is_needed(task, f"which {config.metric} scores")
        if config.data.soft:
            raise positive_is_needed(task, "whose probability data.soft holds")
        if filled and filling.values == "probabilities":
            what = f"whose probability column '{filled[0]}' of the submission holds"
            raise positive_is_needed(task, what)
    if task.classes != (0, 1):
        log.info("positive label: %s", positive)
