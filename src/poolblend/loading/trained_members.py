"""Members that were trained here: whether they are complete, and what their cards hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poolblend.cards.blend import FoldHashes, MemberOrigin
from poolblend.cards.fold import FoldCard
from poolblend.cards.fold_names import grouped
from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.loading.competition import Competition
from poolblend.store import Store


def describe_incomplete(
    config: Config, store: Store, trained: Sequence[str], n_folds: int
) -> dict[str, str]:
    """What is missing of each member that cannot be blended yet, by the member's name."""
    lacking = {}
    for name in trained:
        missing = _missing(store, name, n_folds)
        if missing:
            lacking[name] = f"lacks fold {', '.join(missing)} of {n_folds}"
    for member in config.resolve_members():
        # A user who only blends files of other tools may not want to train any member.
        wanted = trained or _failed(store, member.name, n_folds)
        if wanted and member.name not in trained:
            lacking[member.name] = "is not trained yet"
    return {name: f"{what}{_failed(store, name, n_folds)}" for name, what in lacking.items()}


def describe_failures(config: Config, store: Store) -> str:
    """The reasons of all failed folds of the config's members, as the end of a message."""
    names = [member.name for member in config.resolve_members()]
    reasons = {name: _failed(store, name, config.folds.n) for name in names}
    failed = [f"{name}{reason}" for name, reason in reasons.items() if reason]
    return f": {'; '.join(failed)}" if failed else ""


def _failed(store: Store, name: str, n_folds: int) -> str:
    """The stored reasons why folds of the member failed, in brackets; "" for none."""
    notes = {fold: store.fold(name, fold).failure() for fold in range(n_folds)}
    known = {(name, fold): note.reason for fold, note in notes.items() if note}
    reasons = [line.removeprefix(f"{name} ") for line in grouped(known)]
    return f" ({'; '.join(reasons)})" if reasons else ""


def _missing(store: Store, name: str, n_folds: int) -> list[str]:
    return [str(fold) for fold in range(n_folds) if store.fold(name, fold).card() is None]


def fold_cards(store: Store, name: str, competition: Competition) -> list[FoldCard]:
    """The cards of all folds; UserError for missing folds, and for other data or folds."""
    cards = [store.fold(name, fold).card() for fold in range(competition.n_folds)]
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
                f"member {name} fold {fold} was trained on other data: {'; '.join(now)}; "
                "restore them, train the member again, or leave it out with --members a,b"
            )
        differing = card.inputs.changes_since(whole[0].inputs)
        if differing:
            raise UserError(
                f"member {name}: fold 0 and fold {fold} were trained differently: "
                f"{'; '.join(differing)}; train all its folds again with --overwrite"
            )
    return whole


def origin_of(cards: Sequence[FoldCard]) -> MemberOrigin:
    """The hashes of a member's folds, and the mean optimism of their early stopping."""
    stopped = [card for card in cards if card.kept_epoch is not None]
    known = [card.optimism for card in stopped if card.optimism is not None]
    return MemberOrigin(
        folds=tuple(FoldHashes.of(card) for card in cards),
        stopped_early=bool(stopped),
        optimism=sum(known) / len(known) if known else None,
    )
