"""A run's folds: made once from the config, stored, and checked whenever they are read."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from poolblend.cards.folds import FoldSettings
from poolblend.cards.inputs import changed
from poolblend.competition.assignment import assign_folds, resolve_strategy
from poolblend.competition.duplicates import log_repeats, text_sets
from poolblend.competition.groups import check_groups
from poolblend.competition.templates import text_columns
from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.loading.competition_tables import CompetitionTables
from poolblend.store import Store, read_folds, write_folds

log = logging.getLogger(__name__)

NEW_RUN = (
    "use a new `run`, which makes new folds (--set run=NAME --set data.dir=FOLDER, the tables')"
)
REMEDY = f"restore the file or the data; or {NEW_RUN}"


def frozen_folds(
    read: CompetitionTables,
    config: Config,
    store: Store,
    *,
    make_folds: bool = False,
    given_fold_N: np.ndarray | None = None,
) -> np.ndarray:
    """The stored fold (N,) of each train row; if there are none, `given_fold_N` or new ones.

    New folds are made only with `make_folds`, which also refuses folds that were made with other
    settings than the config's. Raises UserError for folds of other ids, and for a group of
    folds.groups that is in several folds.
    """
    fold_N = _frozen(read, config, store, as_configured=make_folds)
    if fold_N is None and given_fold_N is None and not make_folds:
        raise UserError(
            f"no folds at {store.folds_path} yet; run train.py first (same --config and --set)"
        )
    if fold_N is None:
        with store.making():  # a second process waits, and reads what the first has made
            fold_N = _frozen(read, config, store, as_configured=make_folds)
            if fold_N is None:
                fold_N = _freeze(read, config, store, given_fold_N)
    return fold_N


def new_folds(read: CompetitionTables, config: Config) -> np.ndarray:
    """A new fold (N,) for each train row, from the config's settings; nothing is written."""
    folds, train = config.folds, read.tables.train
    together, texts = folds.keep_together == "duplicates", text_columns(config.data.text)
    return assign_folds(
        folds,
        read.task,
        read.y,
        group_N=train[folds.groups].to_numpy(str) if folds.groups else None,
        set_N=text_sets(train, texts, swap=config.data.swap) if together else None,
    )


def _frozen(
    read: CompetitionTables, config: Config, store: Store, *, as_configured: bool
) -> np.ndarray | None:
    """The stored fold (N,) of each train row; None if there are none yet.

    `as_configured` refuses folds that were made with other settings than the config's.
    """
    path = store.folds_path
    folds = read_folds(path)
    if folds is None:
        return None
    ids = read.tables.train[read.tables.id]
    fold_N = _align(folds.table, ids, store, config.folds.n if as_configured else None)
    _check_groups(fold_N, read, config, f"{path}: ", REMEDY)
    if as_configured and folds.card and folds.card.settings:
        made, wanted = folds.card.settings, _settings(read, config)
        if made.bins is None or wanted.bins is None:  # one of the strategies has no bins
            made, wanted = (each.model_copy(update={"bins": None}) for each in (made, wanted))
        changes = changed({"folds": made.model_dump()}, {"folds": wanted.model_dump()})
        if changes:
            raise UserError(
                f"{path} was made with other settings: {'; '.join(changes)}; restore these, or "
                f"{NEW_RUN}"
            )
    return fold_N


def _freeze(
    read: CompetitionTables, config: Config, store: Store, given_fold_N: np.ndarray | None
) -> np.ndarray:
    """Write the given folds, or new ones, and their card."""
    tables = read.tables
    if given_fold_N is None:
        settings, fold_N = _settings(read, config), new_folds(read, config)
    else:
        settings, fold_N = None, given_fold_N
        remedy = "correct the files, or leave folds.groups out"
        _check_groups(fold_N, read, config, "the members' files: ", remedy)
    table = pd.DataFrame({"id": tables.train[tables.id], "fold": fold_N})
    write_folds(store.folds_path, table, settings)
    log.info("%d folds: %s", fold_N.max() + 1, store.folds_path)
    texts, together = text_columns(config.data.text), config.folds.keep_together
    log_repeats(tables, texts, read.y, together, config.data.swap)
    return fold_N


def _settings(read: CompetitionTables, config: Config) -> FoldSettings:
    folds = config.folds
    strategy = resolve_strategy(folds, read.task)
    return FoldSettings(
        strategy=strategy,
        seed=folds.seed,
        groups=folds.groups,
        keep_together=folds.keep_together,
        bins=folds.bins if strategy in ("regression_stratified", "regression_group") else None,
    )


def _check_groups(
    fold_N: np.ndarray, read: CompetitionTables, config: Config, place: str, remedy: str
) -> None:
    if config.folds.groups is None:
        return
    try:
        check_groups(fold_N, read.tables.train[config.folds.groups])
    except UserError as error:
        raise UserError(f"{place}{error}; {remedy}") from None


def _align(folds: pd.DataFrame, ids: pd.Series, store: Store, n: int | None) -> np.ndarray:
    """The stored folds in the order of `ids`; UserError for other ids or another number of folds.

    `n` is the number that the config asks for, or None to accept any.
    """
    path = store.folds_path
    if folds["id"].duplicated().any():
        twice = folds["id"][folds["id"].duplicated()].iloc[0]
        raise UserError(f"{path} holds id '{twice}' twice; {REMEDY}")
    missing, extra = set(ids) - set(folds["id"]), set(folds["id"]) - set(ids)
    if missing or extra:
        raise UserError(
            f"{path} was made from other train ids: it lacks {_counted(missing, 'of them')}, "
            f"and holds {_counted(extra, 'others')}; give the same --set as then (such as "
            f"data.sample_rows=200); {REMEDY}"
        )
    numbers = sorted(folds["fold"].unique())
    wanted = len(numbers) if n is None else n
    if numbers != list(range(wanted)):
        raise UserError(
            f"{path} holds the folds {', '.join(map(str, numbers))}, the config asks for "
            f"folds.n={wanted}; set folds.n to what the file holds, or {NEW_RUN}"
        )
    return folds.set_index("id")["fold"].loc[ids].to_numpy()


def _counted(ids: set[str], which: str) -> str:
    """How many, with an example."""
    return f"{len(ids)} {which}" + (f" (such as '{min(ids)}')" if ids else "")
