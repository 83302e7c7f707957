"""A config's competition, read and checked: tables, task, metric, folds, and their hashes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from poolblend.competition.folds import assign_folds, resolve_strategy
from poolblend.competition.metrics import METRICS, Scorer, make_scorer
from poolblend.competition.submission import build_submission, check_submission, sample_values
from poolblend.competition.tables import Tables, load_tables
from poolblend.competition.tasks import Task, make_task
from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.pipeline.demo import make_demo
from poolblend.pipeline.provenance import changed
from poolblend.store import Store, read_folds, sha256, write_folds

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Tabled:
    """What the competition's tables say; the rows of `y` follow `tables.train`."""

    tables: Tables
    task: Task
    scorer: Scorer
    y: np.ndarray


@dataclass(frozen=True, eq=False)
class Competition(Tabled):
    """All that does not depend on a model; rows of `y` and `fold_N` follow `tables.train`."""

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
        sample_rows=data.sample_rows,
        seed=config.folds.seed,
    )
    for column, count in tables.missing_texts.items():
        if count:
            log.info("%s: %d missing texts in column %s are read as empty", folder, count, column)
    try:
        task = make_task(config.task, tables.train, data.target, positive=data.positive)
        y = task.encode(tables.train)
    except UserError as error:  # it knows columns, not files
        raise UserError(f"{folder / data.train}: {error}") from None
    tabled = Tabled(tables, task, make_scorer(config.metric, task), y)
    _try_submission(config, tables, task)
    return tabled


def with_folds(
    tabled: Tabled,
    config: Config,
    store: Store,
    *,
    make_folds: bool = False,
    given_fold_N: np.ndarray | None = None,
) -> Competition:
    """Add the frozen folds; where there are none yet, those given, or new ones if allowed."""
    if make_folds:
        store.making().sweep()
    fold_N = _frozen(tabled, config, store, as_configured=make_folds)
    if fold_N is None and given_fold_N is None and not make_folds:
        raise UserError(f"no folds at {store.folds_path} yet; run train.py first (same --config)")
    if fold_N is None:
        with store.making():  # of two processes, the second reads what the first has made
            fold_N = _frozen(tabled, config, store, as_configured=make_folds)
            if fold_N is None:
                fold_N = _freeze(tabled, config, store, given_fold_N)
    folder = config.data_dir
    hashes = {
        "train_sha256": sha256(folder / config.data.train),
        "test_sha256": sha256(folder / config.data.test),
        "folds_sha256": sha256(store.folds_path),
    }
    return Competition(
        tabled.tables, tabled.task, tabled.scorer, tabled.y, fold_N=fold_N, data=hashes
    )


def _frozen(
    tabled: Tabled, config: Config, store: Store, *, as_configured: bool
) -> np.ndarray | None:
    """The frozen fold (N,) of each train row; None where there are none yet.

    `as_configured` refuses folds that were made with other settings than the config's.
    """
    folds = read_folds(store.folds_path)
    if folds is None:
        return None
    ids = tabled.tables.train[config.data.id]
    fold_N = _align(folds.table, ids, config, store, as_configured=as_configured)
    if as_configured and folds.made:
        wanted = _fold_settings(tabled, config)
        made = {key: folds.made.get(key, value) for key, value in wanted.items()}
        changes = changed(made, wanted)
        if changes:
            raise UserError(
                f"{store.folds_path} was made otherwise: {'; '.join(changes)}; set that back, or "
                "use a new `run`, which makes folds of its own"
            )
    return fold_N


def _freeze(
    tabled: Tabled, config: Config, store: Store, given_fold_N: np.ndarray | None
) -> np.ndarray:
    """Write the folds given, or new ones as the config assigns them, for good."""
    made: dict[str, Any] = {"made": "given by the members' files"}
    fold_N = given_fold_N
    if fold_N is None:
        made, fold_N = _fold_settings(tabled, config), new_folds(tabled, config)
    ids = tabled.tables.train[config.data.id]
    write_folds(store.folds_path, pd.DataFrame({"id": ids, "fold": fold_N}), made)
    log.info("%d folds: %s", fold_N.max() + 1, store.folds_path)
    _say_what_repeats(tabled, config)
    return fold_N


def _fold_settings(tabled: Tabled, config: Config) -> dict[str, Any]:
    """What the folds depend on besides the rows; keys as in the config."""
    strategy = resolve_strategy(config.folds.strategy, tabled.task)
    told: dict[str, Any] = {"folds.strategy": strategy, "folds.seed": config.folds.seed}
    if strategy == "regression_stratified":
        told["folds.bins"] = config.folds.bins
    return told


def new_folds(tabled: Tabled, config: Config) -> np.ndarray:
    """The fold (N,) of each train row, as the config assigns them; nothing is written."""
    settings = config.folds
    return assign_folds(
        settings.strategy, tabled.task, tabled.y, settings.n, settings.seed, bins=settings.bins
    )


def _say_what_repeats(tabled: Tabled, config: Config) -> None:
    repeated = int(tabled.tables.train[config.data.text].duplicated().sum())
    if repeated:
        log.info("%d rows repeat a text, which may flatter OOF scores across folds", repeated)


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


def _align(
    folds: pd.DataFrame, ids: pd.Series, config: Config, store: Store, *, as_configured: bool
) -> np.ndarray:
    """The frozen folds in the order of `ids`, or a refusal: folds never change under a model.

    `as_configured` demands the number of folds that the config asks for.
    """
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
    wanted = config.folds.n if as_configured else len(numbers)
    if numbers != list(range(wanted)):
        raise UserError(
            f"{path} holds the folds {', '.join(map(str, numbers))}, the config asks for "
            f"folds.n={wanted}; set folds.n to what the file holds, or use a new `run`"
        )
    return folds.set_index("id")["fold"].loc[ids].to_numpy()
