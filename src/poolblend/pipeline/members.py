"""The members of a blend: those trained here, checked by their cards, and those from elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poolblend.config import Config
from poolblend.ensembling.matrix import OofMatrix, build_matrix, shared_folds
from poolblend.errors import UserError, unknown
from poolblend.pipeline.competition import (
    Competition,
    Tabled,
    describe_task,
    read_tables,
    with_folds,
)
from poolblend.pipeline.provenance import changed
from poolblend.store import Store
from poolblend.store.outside import OutsideMember, read_members

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Members:
    """The competition, the members' OOF matrix, and what a blend card says of each member's files.

    The matrix has its rows in the order of their ids and its members in that of their names, so
    that nothing depends on the order in which either were given.
    """

    competition: Competition
    matrix: OofMatrix
    files: dict[str, dict[str, Any]]


def gather(
    config: Config, store: Store, names: Sequence[str] | None, members_from: Path | None
) -> Members:
    """Read the named members, or all, of the store and of the folder `members_from`.

    Raises UserError for members that are unknown, incomplete, or made from other data or folds.
    """
    trained = store.members()
    if not trained and members_from is None:
        raise UserError(
            f"no finished fold of run {store.run} yet; run train.py first (same --config)"
        )
    tabled = read_tables(config)
    outside = _read_outside(config, tabled, members_from, trained)
    known = [*trained, *outside]
    for name in names or ():
        if name not in known:
            raise unknown("member", name, known)
    wanted = sorted(set(names or known))
    outside = {name: outside[name] for name in wanted if name in outside}
    competition = _with_folds(tabled, config, store, outside)
    if not names:
        _say_what_is_missing(config, store)
    cards = {name: _cards(store, name, competition) for name in wanted if name not in outside}
    tables = {name: _oof(store, competition, name, outside) for name in wanted}
    paths = {name: member.path for name, member in outside.items()}
    matrix = _build(config, competition, tables, paths)
    files = {name: _told(cards.get(name), outside.get(name)) for name in wanted}
    return Members(competition, matrix, files)


def _read_outside(
    config: Config, tabled: Tabled, folder: Path | None, taken: Sequence[str]
) -> dict[str, OutsideMember]:
    if folder is None:
        return {}
    members = read_members(
        folder, id=config.data.id, task=tabled.task, train=tabled.tables.train, taken=taken
    )
    return {member.name: member for member in members}


def _with_folds(
    tabled: Tabled, config: Config, store: Store, outside: Mapping[str, OutsideMember]
) -> Competition:
    """The run's frozen folds; where it has none, those that outside members share, or new ones."""
    given = None
    if outside and store.read_folds() is None:
        given = shared_folds(
            {name: member.oof for name, member in outside.items()},
            tabled.tables.train[config.data.id],
            files={name: member.path for name, member in outside.items()},
        )
    # Members without folds of their own can be scored honestly under any; training asks for the
    # configured number, blending takes what is there.
    make = bool(outside) and given is None and store.read_folds() is None
    return with_folds(tabled, config, store, make_folds=make, given_fold_N=given)


def _say_what_is_missing(config: Config, store: Store) -> None:
    trained = store.members()
    absent = [m.name for m in config.resolve_members() if m.name not in trained]
    if absent and trained:
        log.info("not trained yet, so not in this blend: %s", ", ".join(absent))


def _cards(store: Store, name: str, competition: Competition) -> list[dict[str, Any]]:
    """The cards of all folds, or a refusal: a blend takes complete members of these very data."""
    cards = [store.fold_card(name, fold) for fold in range(competition.n_folds)]
    missing = [str(fold) for fold, card in enumerate(cards) if card is None]
    if missing:
        raise UserError(
            f"member {name} is incomplete: fold {', '.join(missing)} of {competition.n_folds} not "
            "finished; train it, or name the members to blend with --members a,b"
        )
    whole = [card for card in cards if card is not None]
    expected = {
        "train_sha256": competition.data["train_sha256"],
        "folds_sha256": competition.data["folds_sha256"],
        "task": describe_task(competition.task),
    }
    for fold, card in enumerate(whole):
        inputs = card["inputs"]
        now = changed({key: inputs[key] for key in expected}, expected)
        if now:
            raise UserError(
                f"member {name} fold {fold} was trained on something else: {'; '.join(now)}; "
                "restore that, train the member again, or leave it out with --members a,b"
            )
        differing = changed(whole[0]["inputs"], inputs)
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
    competition: Competition,
    tables: Mapping[str, pd.DataFrame],
    paths: Mapping[str, Path],
) -> OofMatrix:
    train, task = competition.tables.train, competition.task
    ids = train[config.data.id].to_numpy()
    order = np.argsort(ids, kind="stable")
    groups = config.blend.groups
    if groups is not None and groups not in train:
        raise unknown("column", groups, train.columns, "for blend.groups")
    return build_matrix(
        tables,
        pd.DataFrame({"id": ids[order], "fold": competition.fold_N[order]}),
        competition.y[order],
        task.outputs,
        probabilities=task.probabilistic,
        simplex=task.kind == "multiclass",
        files=paths,
        group_N=None if groups is None else train[groups].fillna("").to_numpy(str)[order],
    )


def _told(cards: list[dict[str, Any]] | None, member: OutsideMember | None) -> dict[str, Any]:
    """What inference needs to find the member's predictions, and to know that they are the same."""
    if member is None:
        assert cards is not None
        return {
            "folds": [
                {"weights_sha256": card["weights"]["sha256"], "oof_sha256": card["oof"]["sha256"]}
                for card in cards
            ]
        }
    test = member.test
    return {
        "from": {"path": str(member.path.resolve()), "sha256": member.sha256},
        "test": test and {"path": str(test.path.resolve()), "sha256": test.sha256},
    }
