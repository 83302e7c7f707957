"""`infer.py --vectors`: what each fold model's pooler makes of the test rows, and of train's.

Shape legend: N rows, H width of the pooler.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from poolblend.cards.blend import FoldHashes, MemberOrigin
from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.jobs.blend_plan import check_unchanged, fold_models, read_blend
from poolblend.loading.competition import (
    Competition,
    load_competition,
    open_store,
    table_hashes,
)
from poolblend.pipeline.inference import load_unlabelled
from poolblend.store import Store, read_folds
from poolblend.store.probe import COPIED, check_writable
from poolblend.store.vectors import TableName, Vectors


class _Table(NamedTuple):
    """Rows to be pooled, and where their ids are; train's folds; hashes of what they are."""

    name: TableName
    id: str
    rows: pd.DataFrame
    fold_N: np.ndarray | None
    made_from: dict[str, str]


def write_vectors(config: Config) -> None:
    """Keep the vectors of every fold model of weight in a file of its own; print what was written.

    Without a blend card, those of all complete members. Vectors of train need its table and the
    folds. Files that are whole and made from just this are left alone. Raises UserError for models
    that are damaged, were trained since the blend, or on another train table or other folds.
    """
    store = open_store(config)
    members = _members(config, store)
    for table in _tables(config, store, members):
        ids_N = table.rows[table.id].to_numpy(dtype=str)
        models = fold_models(config, store, table.rows, table.name)
        for name, origin in members.items():
            for fold, hashes in enumerate(origin.folds):
                made_from = {**table.made_from, "weights_sha256": hashes.weights_sha256}
                file = store.vectors(name, fold, table.name)
                kept = file.load(made_from)
                if kept is None:
                    check_writable([file.path.parent], COPIED)
                    label = f"{name} fold {fold}, {table.name}"
                    vector_NH = models.vectors(name, fold, np.arange(len(ids_N)), label)
                    file.save(Vectors(ids_N, vector_NH, table.fold_N, made_from))
                shape = " x ".join(map(str, (vector_NH if kept is None else kept.vector_NH).shape))
                print(f"{file.path}: {shape}{' (kept earlier)' if kept else ''}")


def _members(config: Config, store: Store) -> dict[str, MemberOrigin]:
    """The blend's members that have weight and models here, else all complete ones; says which."""
    if store.blend_path.exists():
        members = read_blend(store)[0].used_members
        here = {name: each.origin for name, each in members.items() if each.origin.folds}
        what = "to which the blend gives weight"
        if not here:
            raise UserError(
                f"the blend gives weight to members from elsewhere alone ({', '.join(members)}), "
                "which have no models here; blend members that were trained here"
            )
    else:
        here = _complete(config, store)
        what = "that are complete, as there is no blend card"
        if not here:
            raise UserError(
                f"no member of run {store.run} is complete; run train.py first (same --config)"
            )
    print(f"vectors of the members {what}: {', '.join(here)}")
    return here


def _complete(config: Config, store: Store) -> dict[str, MemberOrigin]:
    folds = read_folds(store.folds_path)
    n_folds = config.folds.n if folds is None else folds.table["fold"].nunique()
    found: dict[str, MemberOrigin] = {}
    for name in store.members():
        cards = [store.fold_card(name, fold) for fold in range(n_folds)]
        hashes = tuple(FoldHashes.of(card) for card in cards if card)
        if len(hashes) == n_folds:
            found[name] = MemberOrigin(folds=hashes)
    return found


def _tables(config: Config, store: Store, members: Mapping[str, MemberOrigin]) -> Iterator[_Table]:
    """Train and test; test alone where the train table or the folds are not here, which is said."""
    train = config.data_dir / config.data.train
    lacking = [path for path in (train, store.folds_path) if not path.is_file()]
    if lacking:
        print(f"there is no {lacking[0]}: of the test rows alone")
        tables = load_unlabelled(config, store, members)
        yield _Table("test", tables.id, tables.test, None, table_hashes(config, "test"))
        return
    competition = load_competition(config, store)
    for name, origin in members.items():
        check_unchanged(store, name, origin)
        _check_trained_here(store, name, competition)
    folds = {"folds_sha256": competition.data["folds_sha256"]}
    of_train, of_test = table_hashes(config, "train") | folds, table_hashes(config, "test")
    tables = competition.tables
    yield _Table("train", tables.id, tables.train, competition.fold_N, of_train)
    yield _Table("test", tables.id, tables.test, None, of_test)


def _check_trained_here(store: Store, name: str, competition: Competition) -> None:
    """Refuse a member that has seen other rows than its folds tell."""
    expected = {key: competition.data[key] for key in ("train_sha256", "folds_sha256")}
    for fold in range(competition.n_folds):
        inputs = store.check_fold(name, fold, model=False, oof=False).inputs
        now = inputs.model_copy(update=expected).changes_since(inputs)
        if now:
            raise UserError(
                f"{name} fold {fold} was trained on something else: {'; '.join(now)}; restore "
                "that, or train the member again"
            )
