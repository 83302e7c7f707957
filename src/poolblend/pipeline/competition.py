"""A config's competition, read and checked: tables, task, metric, folds, and their hashes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poolblend.competition.folds import assign_folds
from poolblend.competition.metrics import METRICS, Scorer, make_scorer
from poolblend.competition.submission import build_submission, check_submission, sample_values
from poolblend.competition.tables import Tables, load_tables
from poolblend.competition.tasks import Task, make_task
from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.store import Store, sha256, write_csv

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Competition:
    """All that does not depend on a model; rows of `y` and `fold_N` follow `tables.train`."""

    tables: Tables
    task: Task
    scorer: Scorer
    y: np.ndarray
    fold_N: np.ndarray
    data: dict[str, str]  # what was read: sha256 of train, test and folds

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
    return Store(config.path(config.store), config.run)


def load_competition(config: Config, store: Store, *, make_folds: bool = False) -> Competition:
    """Read the tables, and the frozen folds, which are made where `make_folds` allows it."""
    data, folder = config.data, config.data_dir
    if data.demo:
        _make_demo(config)
    train, test = folder / data.train, folder / data.test
    tables = load_tables(
        train,
        test,
        folder / data.sample_submission,
        id=data.id,
        text=data.text,
        targets=data.target,
        sample_rows=data.sample_rows,
        seed=config.folds.seed,
    )
    for column, count in tables.missing_texts.items():
        if count:
            log.info("%s: %d missing texts in column %s are read as empty", folder, count, column)
    task = make_task(config.task, tables.train, data.target, positive=data.positive)
    scorer = make_scorer(config.metric, task)
    y = task.encode(tables.train)
    _try_submission(config, tables, task)
    ids = tables.train[data.id]
    folds = store.read_folds()
    if folds is None:
        if not make_folds:
            raise UserError(
                f"no folds at {store.folds_path} yet; run train.py first (same --config)"
            )
        fold_N = assign_folds(
            config.folds.strategy,
            task,
            y,
            config.folds.n,
            config.folds.seed,
            bins=config.folds.bins,
        )
        store.write_folds(pd.DataFrame({"id": ids, "fold": fold_N}))
        log.info("made %d folds: %s", config.folds.n, store.folds_path)
        repeated = int(tables.train[data.text].duplicated().sum())
        if repeated:
            log.info("%d rows repeat a text, which may flatter OOF scores across folds", repeated)
    else:
        fold_N = _align(folds, ids, config, store)
    hashes = {
        "train_sha256": sha256(train),
        "test_sha256": sha256(test),
        "folds_sha256": sha256(store.folds_path),
    }
    return Competition(tables, task, scorer, y, fold_N, hashes)


def submission_values(config: Config, metric: str, sample: pd.DataFrame) -> str:
    """What a submission holds: as the config says, else as metric and sample submission want it."""
    if config.submission != "auto":
        return config.submission
    if METRICS[metric].takes == "scores":
        return "probabilities"
    return sample_values(sample.drop(columns=config.data.id))


def _try_submission(config: Config, tables: Tables, task: Task) -> None:
    """Refuse a sample submission that cannot be filled, before anything is trained for it."""
    values = submission_values(config, config.metric, tables.sample)
    even_NK = np.full((len(tables.test), len(task.outputs)), 1 / len(task.classes or (0,)))
    ids = list(tables.test[config.data.id])
    submission = build_submission(task, tables.sample, ids, even_NK, values, id=config.data.id)
    check_submission(submission, tables.sample, id=config.data.id)


def _align(folds: pd.DataFrame, ids: pd.Series, config: Config, store: Store) -> np.ndarray:
    """The frozen folds in the order of `ids`, or a refusal: folds never change under a model."""
    path = store.folds_path
    remedy = "restore the file or the data; or use a new `run`, which makes folds of its own"
    if folds["id"].duplicated().any():
        twice = folds["id"][folds["id"].duplicated()].iloc[0]
        raise UserError(f"{path} holds id '{twice}' twice; {remedy}")
    missing, extra = set(ids) - set(folds["id"]), set(folds["id"]) - set(ids)
    if missing or extra:
        example = min(missing or extra)
        raise UserError(
            f"{path} was made from other train ids: {len(missing)} are not in it and {len(extra)} "
            f"of its own are gone (such as '{example}'); {remedy}"
        )
    numbers = sorted(folds["fold"].unique())
    if numbers != list(range(config.folds.n)):
        raise UserError(
            f"{path} holds the folds {', '.join(map(str, numbers))}, the config asks for "
            f"folds.n={config.folds.n}; set folds.n to what the file holds, or use a new `run`"
        )
    return folds.set_index("id")["fold"].loc[ids].to_numpy()


def _make_demo(config: Config) -> None:
    """Write the demo competition where none of its files is there; the same files every time."""
    from poolblend.competition.demo import build_demo

    data = config.data
    names = {
        "train": data.train,
        "test": data.test,
        "sample_submission": data.sample_submission,
        "test_labels": data.test_labels or "test_labels.csv",
    }
    absent = [name for name in names.values() if not (config.data_dir / name).exists()]
    if not absent:
        return
    if len(absent) < len(names):
        raise UserError(
            f"{config.data_dir} holds some files of the demo competition but not {absent[0]}; they "
            "may be yours, so none is written: name your own --config, or clear that folder"
        )
    log.info("making the demo competition in %s", config.data_dir)
    for key, table in build_demo().items():
        write_csv(config.data_dir / names[key], table)
