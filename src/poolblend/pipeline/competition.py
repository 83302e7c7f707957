"""A config's competition, read and checked: tables, task, metric, folds, and their hashes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from poolblend.competition.joins import Lookup
from poolblend.competition.metrics import METRICS, Scorer, make_scorer
from poolblend.competition.soft import soft_labels
from poolblend.competition.submission import build_submission, check_submission, sample_values
from poolblend.competition.tables import Tables, Unlabelled, load_tables
from poolblend.competition.tasks import SINGLE, Task, make_task
from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.pipeline.demo import make_demo
from poolblend.pipeline.folds import frozen_folds, new_folds
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
    "read_tables",
    "restore_task",
    "submission_values",
    "table_hashes",
    "try_submission",
    "with_folds",
]


@dataclass(frozen=True, eq=False)
class Tabled:
    """What the competition's tables say; rows of `y`, weights and soft labels follow its train."""

    tables: Tables
    task: Task
    scorer: Scorer
    y: np.ndarray
    weight_N: np.ndarray | None = None  # float64 above 0, where there are weights
    soft_NK: np.ndarray | None = None  # float64 from 0 to 1, where there are soft labels


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
        classes=data.classes if config.task in SINGLE else None,
        sample_rows=data.sample_rows,
        seed=config.folds.seed,
    )
    for column, count in tables.missing_texts.items():
        if count:
            log.info("%s: %d missing texts in column %s are read as empty", folder, count, column)
    try:
        task = make_task(config.task, tables.train, data.target, data.positive, data.classes)
        y = task.encode(tables.train)
        soft_NK = soft_labels(task, tables.train, data.soft, data.id) if data.soft else None
    except UserError as error:  # it knows columns, not files
        raise UserError(f"{folder / data.train}: {error}") from None
    weight_N = tables.train[data.weight].to_numpy(np.float64) if data.weight else None
    tabled = Tabled(tables, task, make_scorer(config.metric, task), y, weight_N, soft_NK)
    try_submission(config, tables, task)
    return tabled


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


def submission_values(config: Config, metric: str, sample: pd.DataFrame) -> str:
    """What a submission holds: as the config says, else as metric and sample submission want it."""
    if config.submission != "auto":
        return config.submission
    if METRICS[metric].takes == "scores":
        return "probabilities"
    return sample_values(sample.drop(columns=config.data.id))


def try_submission(config: Config, tables: Tables | Unlabelled, task: Task) -> None:
    """Refuse a sample submission that cannot be filled, before anything is computed for it."""
    values = submission_values(config, config.metric, tables.sample)
    even_NK = np.full((len(tables.test), len(task.outputs)), 1 / len(task.classes or (0,)))
    ids = list(tables.test[config.data.id])
    submission = build_submission(task, tables.sample, ids, even_NK, values, id=config.data.id)
    check_submission(submission, tables.sample, id=config.data.id)
