"""The members of a blend: those trained here, and those that other tools made."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.cards.blend import MemberOrigin, OutsideFile
from poolblend.config import Config
from poolblend.ensembling.many_rows import fits_in_memory
from poolblend.ensembling.matrix import (
    Keep,
    OofMatrix,
    build_matrix,
    build_test,
    in_memory,
    shared_folds,
)
from poolblend.errors import UserError, unknown
from poolblend.loading.collapse import describe_collapsed, without_collapsed
from poolblend.loading.competition import (
    Competition,
    CompetitionTables,
    new_folds,
    read_tables,
    with_folds,
)
from poolblend.loading.outside import OutsideMember, read_members
from poolblend.loading.trained_members import (
    describe_failures,
    describe_incomplete,
    fold_cards,
    origin_of,
)
from poolblend.store import Store, read_folds

log = logging.getLogger(__name__)

FEW_GROUPS = 10  # fewer groups give only a few different resamples


@dataclass(frozen=True, eq=False)
class Members:
    """The competition, the members' OOF matrix, and the origin of each member's predictions.

    `left_out` has the reason for each member that is not complete or has collapsed. The matrix has
    its rows sorted by id and its members sorted by name, so that results do not depend on the order
    in which they were given.
    """

    competition: Competition
    matrix: OofMatrix
    origins: dict[str, MemberOrigin]
    left_out: dict[str, str]


def gather(
    config: Config, store: Store, names: Sequence[str] | None, members_from: Path | None
) -> Members:
    """Read the named members, or all complete ones, of the store and the folder `members_from`.

    Collapsed members are left out unless they are named. Raises UserError for members that are
    unknown, damaged, or made from other data or folds, for named members that are incomplete, and
    if all members have collapsed.
    """
    trained = store.members()
    if not trained and members_from is None:
        failures = describe_failures(config, store)
        raise UserError(
            f"no finished fold of run {store.run} yet{failures}; run train.py first "
            "(same --config and --set)"
        )
    read = read_tables(config)
    _check_columns(config, read.tables.train)
    outside = _read_outside(config, read, members_from, trained, names)
    known = [*trained, *outside]
    for name in names or ():
        if name not in known:
            raise unknown("member", name, known)
    competition = _with_folds(read, config, store, outside)
    lacking = {} if names else describe_incomplete(config, store, trained, competition.n_folds)
    wanted = sorted(set(names or known) - lacking.keys())
    if not wanted:
        reasons = "; ".join(f"{name} {reason}" for name, reason in lacking.items())
        raise UserError(f"no member of run {store.run} is complete ({reasons}); run train.py again")
    cards = {name: fold_cards(store, name, competition) for name in wanted if name not in outside}
    tables = _Tables(store, competition, wanted, outside)
    paths = {name: member.path for name, member in outside.items()}
    n_rows, outputs = len(competition.fold_N), competition.task.outputs
    keep = in_memory if fits_in_memory(len(wanted), n_rows, len(outputs)) else store.on_disk
    matrix = _build(config, competition, competition.fold_N, tables, paths, keep)
    collapsed = describe_collapsed(matrix, competition, outside)
    if collapsed and names:
        for name, what in collapsed.items():
            log.warning("member %s %s", name, what)
    elif collapsed:
        matrix, lacking = without_collapsed(matrix, collapsed, keep), lacking | collapsed
        wanted = [name for name in wanted if name not in collapsed]
    origins = {
        name: origin_of(cards[name]) if name in cards else _origin_of_outside(outside[name])
        for name in wanted
    }
    return Members(competition, matrix, origins, lacking)


def _check_columns(config: Config, train: pd.DataFrame) -> None:
    column = config.drawn_groups
    named = [("slices", name) for name in config.blend.slices]
    for key, name in [*named, *([("groups", column)] if column else [])]:
        if name not in train:
            raise unknown("column", name, train.columns, f"for blend.{key}")
    if column is None:
        return
    groups = train[column].nunique(dropna=False)
    if groups < 2:
        raise UserError(
            f"blend.groups: column '{column}' holds one value, expected a group for each prompt, "
            "author or the like; name another column, or set it to null, to draw rows"
        )
    if groups < FEW_GROUPS:
        key = "folds" if config.blend.groups == "auto" else "blend"
        log.warning(
            "%s.groups: intervals over %d groups are rough and often too narrow", key, groups
        )


def _read_outside(
    config: Config,
    read: CompetitionTables,
    folder: Path | None,
    trained: Sequence[str],
    names: Sequence[str] | None,
) -> dict[str, OutsideMember]:
    """The members of the folder (only those in `names`, if given), with their files checked."""
    if folder is None:
        return {}
    task, id = read.task, read.tables.id
    members = read_members(
        folder,
        id=id,
        task=task,
        train=read.tables.train,
        numbered=config.data.id is None,
        trained=trained,
        only=names,
    )
    tests = {member.name: member.test for member in members if member.test}
    if tests:
        build_test(
            {name: test.table for name, test in tests.items()},
            read.tables.test[id],
            task.outputs,
            probabilities=task.probabilistic,
            simplex=task.kind == "multiclass",
            files={name: test.path for name, test in tests.items()},
        )
    return {member.name: member for member in members}


def _with_folds(
    read: CompetitionTables, config: Config, store: Store, outside: Mapping[str, OutsideMember]
) -> Competition:
    """The run's frozen folds; else the folds that the outside members share, or new ones.

    New folds are written only after the members' files were checked, as they never change.
    """
    if not outside or read_folds(store.folds_path) is not None:
        return with_folds(read, config, store)
    tables = {name: member.oof for name, member in outside.items()}
    files = {name: member.path for name, member in outside.items()}
    ids = read.tables.train[read.tables.id]
    fold_N = shared_folds(tables, ids, files=files)
    if fold_N is None:
        log.info(
            "the members' files have no folds, so new folds are made for the scores; they may "
            "differ from the folds of the members' trainings"
        )
        fold_N = new_folds(read, config)
    _build(config, read, fold_N, tables, files)
    return with_folds(read, config, store, given_fold_N=fold_N)


class _Tables(Mapping[str, pd.DataFrame]):
    """The members' OOF tables by name; those of the store are read when they are looked up."""

    def __init__(
        self,
        store: Store,
        competition: Competition,
        names: Sequence[str],
        outside: Mapping[str, OutsideMember],
    ) -> None:
        self._store, self._names, self._outside = store, names, outside
        self._folds = range(competition.n_folds)

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name in self._outside:
            return self._outside[name].oof
        parts = [self._store.fold(name, fold).oof() for fold in self._folds]
        return pd.concat(parts, ignore_index=True)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _build(
    config: Config,
    read: CompetitionTables,
    fold_N: np.ndarray,
    tables: Mapping[str, pd.DataFrame],
    paths: Mapping[str, Path],
    keep: Keep = in_memory,
) -> OofMatrix:
    train, task = read.tables.train, read.task
    ids = train[read.tables.id].to_numpy()
    order = np.argsort(ids, kind="stable")
    groups = config.drawn_groups
    return build_matrix(
        tables,
        pd.DataFrame({"id": ids[order], "fold": fold_N[order]}),
        read.scored[order],
        task.outputs,
        probabilities=task.probabilistic,
        simplex=task.kind == "multiclass",
        files=paths,
        possible_NK=None if read.possible_NK is None else read.possible_NK[order],
        group_N=None if groups is None else train[groups].fillna("").to_numpy(str)[order],
        keep=keep,
    )


def _origin_of_outside(member: OutsideMember) -> MemberOrigin:
    test = member.test
    return MemberOrigin(
        oof_file=_outside_file(member.path, member.sha256),
        test_file=_outside_file(test.path, test.sha256) if test else None,
    )


def _outside_file(path: Path, sha256: str) -> OutsideFile:
    # A card is text, so bytes of a path that are not valid text are escaped.
    text = os.fsencode(path.resolve()).decode("utf-8", "backslashreplace")
    return OutsideFile(path=text, sha256=sha256)
