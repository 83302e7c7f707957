"""A config's competition: tables, task, metric, frozen folds, and the hashes of what was read."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from poolblend.competition.files import parts
from poolblend.competition.options import Side
from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.loading.competition_tables import (
    CompetitionTables,
    open_store,
    read_tables,
    why_undefined,
)
from poolblend.loading.frozen_folds import frozen_folds, new_folds
from poolblend.store import Store, sha256

__all__ = [
    "Competition",
    "CompetitionTables",
    "load_competition",
    "new_folds",
    "open_store",
    "planned_competition",
    "read_tables",
    "table_hashes",
    "table_sha256",
    "try_folds",
    "with_folds",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Competition(CompetitionTables):
    """All that does not depend on a model; rows of `y` and `fold_N` are those of `tables.train`."""

    fold_N: np.ndarray
    data: dict[str, str]  # what was read: sha256 of train, test, folds, and joined tables if any

    @property
    def n_folds(self) -> int:
        return int(self.fold_N.max()) + 1


def load_competition(config: Config, store: Store, *, make_folds: bool = False) -> Competition:
    """Read the tables and the frozen folds; with `make_folds`, missing folds are made."""
    return with_folds(read_tables(config), config, store, make_folds=make_folds)


def with_folds(
    read: CompetitionTables,
    config: Config,
    store: Store,
    *,
    make_folds: bool = False,
    given_fold_N: np.ndarray | None = None,
) -> Competition:
    """Add the frozen folds; if there are none yet, write `given_fold_N`, or new ones if allowed."""
    fold_N = frozen_folds(read, config, store, make_folds=make_folds, given_fold_N=given_fold_N)
    hashes = table_hashes(config, "train") | table_hashes(config, "test")
    hashes["folds_sha256"] = sha256(store.folds_path)
    return Competition(**vars(read), fold_N=fold_N, data=hashes)


def try_folds(competition: Competition) -> None:
    """Raise UserError if a fold leaves no rows to train on, or no blend could be fitted without it.

    Each fold is scored with blend weights that are fitted on all other rows, so the metric must be
    defined there. One warning names the folds on whose own rows the metric is undefined.
    """
    scorer, scored, fold_N = competition.scorer, competition.scored, competition.fold_N
    undefined = {}
    for fold in range(competition.n_folds):
        held_N = fold_N == fold
        if competition.weight_N is not None and not competition.weight_N[~held_N].any():
            raise UserError(
                f"data.weight is 0 in all rows outside fold {fold}, so its models would have no "
                "rows to train on; give weight to more rows, or make other folds (folds.seed)"
            )
        reason = why_undefined(scorer, scored[~held_N], fold_N[~held_N])
        if reason:
            raise UserError(
                f"without fold {fold} {reason}, so no blend could be fitted there; make other "
                "folds (folds.n, folds.seed), or choose another metric"
            )
        reason = why_undefined(scorer, scored[held_N])
        if reason:
            undefined[fold] = reason
    if undefined:
        folds = f"fold{'s' * (len(undefined) > 1)} {', '.join(map(str, undefined))}"
        first = next(iter(undefined.values()))
        log.warning("%s has no value on the rows of %s: %s", scorer.name, folds, first)


def planned_competition(config: Config, store: Store) -> Competition:
    """The competition with the folds and demo tables that a training would make.

    Nothing is written.
    """
    with _temporary_demo(config) as there:
        if store.folds_path.exists():
            return load_competition(there, store, make_folds=True)  # with the same checks
        read = read_tables(there)
        hashes = table_hashes(there, "train") | table_hashes(there, "test")
        hashes["folds_sha256"] = "not made yet"
        return Competition(**vars(read), fold_N=new_folds(read, there), data=hashes)


@contextmanager
def _temporary_demo(config: Config) -> Iterator[Config]:
    """The config; if the demo's tables do not exist yet, with a temporary folder for them."""
    if not config.data.demo or config.data_dir.exists():
        yield config
        return
    with TemporaryDirectory() as folder:
        data = config.data.model_copy(update={"dir": folder})
        yield config.model_copy(update={"data": data, "store": folder})


def table_sha256(path: Path) -> str:
    """The sha256 of a table's file; of a folder, one over its files' names and hashes."""
    if not path.is_dir():
        return sha256(path)
    lines = (f"{part.name} {sha256(part)}\n" for part in parts(path))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def table_hashes(config: Config, side: Side) -> dict[str, str]:
    """The sha256 of a table, as `train_sha256` or `test_sha256`.

    If tables are joined to it, also one hash of them all, as `joins_sha256` or `test_joins_sha256`.
    """
    data, folder = config.data, config.data_dir
    table = folder / (data.train if side == "train" else data.test)
    hashes = {f"{side}_sha256": table_sha256(table)}
    joined = [table_sha256(folder / join.table(side)) for join in data.joins]
    if side == "test" and data.id is None:  # the ids may come from the sample submission
        joined.append(table_sha256(folder / data.sample_submission))
    if joined:
        key = "joins_sha256" if side == "train" else "test_joins_sha256"
        hashes[key] = hashlib.sha256("".join(joined).encode()).hexdigest()
    return hashes
