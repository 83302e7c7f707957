"""A run's folds: made once as the config says, frozen in the store, checked at every reading."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from poolblend.cards.inputs import changed
from poolblend.competition.duplicates import find_repeats, text_sets
from poolblend.competition.foldchecks import check_groups
from poolblend.competition.folds import assign_folds, resolve_strategy
from poolblend.competition.templates import text_columns
from poolblend.config import Config
from poolblend.errors import UserError, quoted
from poolblend.store import Store, read_folds, write_folds

if TYPE_CHECKING:
    from poolblend.loading.competition import Tabled

log = logging.getLogger(__name__)

REMEDY = "restore the file or the data; or use a new `run`, which makes folds of its own"


def frozen_folds(
    tabled: Tabled,
    config: Config,
    store: Store,
    *,
    make_folds: bool = False,
    given_fold_N: np.ndarray | None = None,
) -> np.ndarray:
    """The store's fold (N,) of each train row; where there is none, those given, or new ones.

    New ones are made where `make_folds` allows it; it also refuses folds that were made with other
    settings than the config's. Raises UserError for folds of other ids, and for a group of
    folds.groups that is in several.
    """
    fold_N = _frozen(tabled, config, store, as_configured=make_folds)
    if fold_N is None and given_fold_N is None and not make_folds:
        raise UserError(f"no folds at {store.folds_path} yet; run train.py first (same --config)")
    if fold_N is None:
        with store.making():  # of two processes, the second reads what the first has made
            fold_N = _frozen(tabled, config, store, as_configured=make_folds)
            if fold_N is None:
                fold_N = _freeze(tabled, config, store, given_fold_N)
    return fold_N


def _frozen(
    tabled: Tabled, config: Config, store: Store, *, as_configured: bool
) -> np.ndarray | None:
    """The frozen fold (N,) of each train row; None where there are none yet.

    `as_configured` refuses folds that were made with other settings than the config's.
    """
    folds = read_folds(store.folds_path)
    if folds is None:
        return None
    ids = tabled.tables.train[tabled.tables.id]
    fold_N = _align(folds.table, ids, config, store, as_configured=as_configured)
    _check_groups(fold_N, tabled, config, f"{store.folds_path}: ", REMEDY)
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
    else:
        _check_groups(
            fold_N, tabled, config, "the members' files: ", "mend theirs, or leave folds.groups out"
        )
    ids = tabled.tables.train[tabled.tables.id]
    write_folds(store.folds_path, pd.DataFrame({"id": ids, "fold": fold_N}), made)
    log.info("%d folds: %s", fold_N.max() + 1, store.folds_path)
    _say_what_repeats(tabled, config)
    return fold_N


def _check_groups(
    fold_N: np.ndarray, tabled: Tabled, config: Config, place: str, remedy: str
) -> None:
    if config.folds.groups is None:
        return
    try:
        check_groups(fold_N, tabled.tables.train[config.folds.groups])
    except UserError as error:
        raise UserError(f"{place}{error}; {remedy}") from None


def _fold_settings(tabled: Tabled, config: Config) -> dict[str, Any]:
    """What the folds depend on besides the rows; keys as in the config."""
    settings = config.folds
    strategy = resolve_strategy(settings.strategy, tabled.task, grouped=settings.groups is not None)
    told: dict[str, Any] = {
        "folds.strategy": strategy,
        "folds.seed": settings.seed,
        "folds.groups": settings.groups,
        "folds.keep_together": settings.keep_together,
    }
    if strategy in ("regression_stratified", "regression_group"):
        told["folds.bins"] = settings.bins
    return told


def new_folds(tabled: Tabled, config: Config) -> np.ndarray:
    """The fold (N,) of each train row, as the config assigns them; nothing is written."""
    settings, train = config.folds, tabled.tables.train
    together = settings.keep_together == "duplicates"
    return assign_folds(
        settings.strategy,
        tabled.task,
        tabled.y,
        settings.n,
        settings.seed,
        bins=settings.bins,
        rare=settings.rare,
        group_N=train[settings.groups].to_numpy(str) if settings.groups else None,
        set_N=text_sets(train, text_columns(config.data.text)) if together else None,
    )


def _say_what_repeats(tabled: Tabled, config: Config) -> None:
    data, tables = config.data, tabled.tables
    texts = text_columns(data.text)
    found = find_repeats(tables.train, tables.test, texts, tabled.y, tables.id)
    if found.rows:
        apart = "which may flatter OOF scores across folds"
        log.info(
            "train: %d rows repeat a text, %d of them to the letter, in %d sets%s",
            found.rows,
            found.exact,
            found.sets,
            f", {apart}" if config.folds.keep_together == "none" else " that each share a fold",
        )
    if found.example:
        ids = " and ".join(map(quoted, found.example))
        log.info("train: %d sets have conflicting labels, such as ids %s", found.conflicts, ids)
    if found.test:
        log.info(
            "test: %d of %d texts are in train, too, %d of them to the letter",
            found.test,
            len(tables.test),
            found.test_exact,
        )


def _align(
    folds: pd.DataFrame, ids: pd.Series, config: Config, store: Store, *, as_configured: bool
) -> np.ndarray:
    """The frozen folds in the order of `ids`, or a refusal: folds never change under a model.

    `as_configured` demands the number of folds that the config asks for.
    """
    path = store.folds_path
    if folds["id"].duplicated().any():
        twice = folds["id"][folds["id"].duplicated()].iloc[0]
        raise UserError(f"{path} holds id '{twice}' twice; {REMEDY}")
    missing, extra = set(ids) - set(folds["id"]), set(folds["id"]) - set(ids)
    if missing or extra:
        example = min(missing or extra)
        raise UserError(
            f"{path} was made from other train ids: {len(missing)} are not in it and {len(extra)} "
            f"of its own are gone (such as '{example}'); {REMEDY}"
        )
    numbers = sorted(folds["fold"].unique())
    wanted = config.folds.n if as_configured else len(numbers)
    if numbers != list(range(wanted)):
        raise UserError(
            f"{path} holds the folds {', '.join(map(str, numbers))}, the config asks for "
            f"folds.n={wanted}; set folds.n to what the file holds, or use a new `run`"
        )
    return folds.set_index("id")["fold"].loc[ids].to_numpy()
