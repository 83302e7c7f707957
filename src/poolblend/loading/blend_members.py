"""The members of a blend: those trained here, checked by their cards, and those from elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poolblend.cards.blend import FileHash, FoldHashes, MemberOrigin
from poolblend.cards.fold import FoldCard
from poolblend.config import Config
from poolblend.ensembling.matrix import OofMatrix, build_matrix, build_test, shared_folds
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
from poolblend.printing import grouped
from poolblend.store import Store, read_folds

log = logging.getLogger(__name__)

# Resamples of so few groups are a handful of different ones.
FEW_GROUPS = 10


@dataclass(frozen=True, eq=False)
class Members:
    """The competition, the members' OOF matrix, and what a blend card says of each member's files.

    `left_out` says of members that are not complete, or have collapsed, what is wrong with them.

    The matrix has its rows in the order of their ids and its members in that of their names, so
    that nothing depends on the order in which either were given.
    """

    competition: Competition
    matrix: OofMatrix
    origins: dict[str, MemberOrigin]
    left_out: dict[str, str]


def gather(
    config: Config, store: Store, names: Sequence[str] | None, members_from: Path | None
) -> Members:
    """Read the named members, or all complete ones, of the store and the folder `members_from`.

    Members that have collapsed are left out, too, unless they are named. Raises UserError for
    members that are unknown, damaged, or made from other data or folds, for named ones that are
    incomplete, and where all have collapsed.
    """
    trained = store.members()
    if not trained and members_from is None:
        raise UserError(
            f"no finished fold of run {store.run} yet{_all_failed(config, store)}; run train.py "
            "first (same --config)"
        )
    read = read_tables(config)
    _check_columns(config, read.tables.train)
    outside = _read_outside(config, read, members_from, trained, names)
    known = [*trained, *outside]
    for name in names or ():
        if name not in known:
            raise unknown("member", name, known)
    competition = _with_folds(read, config, store, outside)
    lacking = {} if names else _incomplete(config, store, trained, competition.n_folds)
    wanted = sorted(set(names or known) - lacking.keys())
    if not wanted:
        told = "; ".join(f"{name} {what}" for name, what in lacking.items())
        raise UserError(f"no member of run {store.run} is complete ({told}); run train.py again")
    cards = {name: _cards(store, name, competition) for name in wanted if name not in outside}
    tables = {name: _oof(store, competition, name, outside) for name in wanted}
    paths = {name: member.path for name, member in outside.items()}
    matrix = _build(config, competition, competition.fold_N, tables, paths)
    alike = describe_collapsed(matrix, competition, outside)
    if alike and names:
        for name, what in alike.items():
            log.warning("member %s %s", name, what)
    elif alike:
        matrix, lacking = without_collapsed(matrix, alike), lacking | alike
        wanted = [name for name in wanted if name not in alike]
    origins = {
        name: _origin_of_trained(cards[name])
        if name in cards
        else _origin_of_outside(outside[name])
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
            "%s.groups: intervals over %d groups are rough, and mostly too narrow", key, groups
        )


def _read_outside(
    config: Config,
    read: CompetitionTables,
    folder: Path | None,
    taken: Sequence[str],
    names: Sequence[str] | None,
) -> dict[str, OutsideMember]:
    """The members of the folder, the named ones alone where any are; test files checked, too."""
    if folder is None:
        return {}
    task, id = read.task, read.tables.id
    members = read_members(
        folder,
        id=id,
        task=task,
        train=read.tables.train,
        numbered=config.data.id is None,
        taken=taken,
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
    """The run's frozen folds; where it has none, those that outside members share, or new ones.

    Folds are written once the members have been checked against them: they stay for good.
    """
    if not outside or read_folds(store.folds_path) is not None:
        return with_folds(read, config, store)
    tables = {name: member.oof for name, member in outside.items()}
    files = {name: member.path for name, member in outside.items()}
    ids = read.tables.train[read.tables.id]
    fold_N = shared_folds(tables, ids, files=files)
    if fold_N is None:
        log.info(
            "the members' files say nothing of folds: new ones are scored over, which may part "
            "rows that a model has learned together"
        )
        fold_N = new_folds(read, config)
    _build(config, read, fold_N, tables, files)
    return with_folds(read, config, store, given_fold_N=fold_N)


def _incomplete(
    config: Config, store: Store, trained: Sequence[str], n_folds: int
) -> dict[str, str]:
    """What the members that cannot be blended yet lack: those begun, and those in the config."""
    lacking = {}
    for name in trained:
        missing = _missing(store, name, n_folds)
        if missing:
            lacking[name] = f"lacks fold {', '.join(missing)} of {n_folds}"
    for member in config.resolve_members():
        # Whoever blends other tools' files alone has perhaps never meant to train the config's.
        meant = trained or _failed(store, member.name, n_folds)
        if meant and member.name not in trained:
            lacking[member.name] = "is not trained yet"
    return {name: f"{what}{_failed(store, name, n_folds)}" for name, what in lacking.items()}


def _all_failed(config: Config, store: Store) -> str:
    """Why there is no finished fold, for those that failed."""
    names = [member.name for member in config.resolve_members()]
    told = [(name, _failed(store, name, config.folds.n)) for name in names]
    failed = [f"{name}{why}" for name, why in told if why]
    return f": {'; '.join(failed)}" if failed else ""


def _failed(store: Store, name: str, n_folds: int) -> str:
    """The reasons that the store notes for folds that could not be trained, in brackets."""
    notes = {fold: store.fold(name, fold).failure() for fold in range(n_folds)}
    known = {(name, fold): note.reason for fold, note in notes.items() if note}
    told = [line.removeprefix(f"{name} ") for line in grouped(known)]
    return f" ({'; '.join(told)})" if told else ""


def _missing(store: Store, name: str, n_folds: int) -> list[str]:
    return [str(fold) for fold in range(n_folds) if store.fold_card(name, fold) is None]


def _cards(store: Store, name: str, competition: Competition) -> list[FoldCard]:
    """The cards of all folds, or a refusal: a blend takes complete members of these very data."""
    cards = [store.fold_card(name, fold) for fold in range(competition.n_folds)]
    missing = _missing(store, name, competition.n_folds)
    if missing:
        raise UserError(
            f"member {name} is incomplete: fold {', '.join(missing)} of {competition.n_folds} not "
            "finished; train it, or name the members to blend with --members a,b"
        )
    whole = [card for card in cards if card is not None]
    keys = ("train_sha256", "folds_sha256", "joins_sha256")
    expected: dict[str, Any] = {key: competition.data.get(key) for key in keys}
    expected["task"] = competition.task
    for fold, card in enumerate(whole):
        now = card.inputs.model_copy(update=expected).changes_since(card.inputs)
        if now:
            raise UserError(
                f"member {name} fold {fold} was trained on something else: {'; '.join(now)}; "
                "restore that, train the member again, or leave it out with --members a,b"
            )
        differing = card.inputs.changes_since(whole[0].inputs)
        if differing:
            raise UserError(
                f"member {name} is two: from fold 0 to fold {fold}, {'; '.join(differing)}; train "
                "its folds alike with --overwrite"
            )
    return whole


def _oof(
    store: Store, competition: Competition, name: str, outside: Mapping[str, OutsideMember]
) -> pd.DataFrame:
    if name in outside:
        return outside[name].oof
    folds = range(competition.n_folds)
    return pd.concat([store.read_oof(name, fold) for fold in folds], ignore_index=True)


def _build(
    config: Config,
    read: CompetitionTables,
    fold_N: np.ndarray,
    tables: Mapping[str, pd.DataFrame],
    paths: Mapping[str, Path],
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
        group_N=None if groups is None else train[groups].fillna("").to_numpy(str)[order],
    )


def _origin_of_trained(cards: Sequence[FoldCard]) -> MemberOrigin:
    """The hashes of a member's folds, and how much early stopping flatters it on average."""
    stopped = [card for card in cards if card.kept_epoch is not None]
    known = [card.optimism for card in stopped if card.optimism is not None]
    return MemberOrigin(
        folds=[
            FoldHashes(weights_sha256=card.files.weights.sha256, oof_sha256=card.files.oof.sha256)
            for card in cards
        ],
        stopped_early=bool(stopped),
        optimism=sum(known) / len(known) if known else None,
    )


def _origin_of_outside(member: OutsideMember) -> MemberOrigin:
    test = member.test
    return MemberOrigin(
        oof_file=_file_hash(member.path, member.sha256),
        test_file=_file_hash(test.path, test.sha256) if test else None,
    )


def _file_hash(path: Path, sha256: str) -> FileHash:
    # Bytes of a path that are no text are written as escapes: a card is text.
    text = os.fsencode(path.resolve()).decode("utf-8", "backslashreplace")
    return FileHash(path=text, sha256=sha256)
