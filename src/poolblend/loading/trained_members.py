"""Members that were trained here: whether they are complete, and what their cards say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poolblend.cards.blend import FoldHashes, MemberOrigin
from poolblend.cards.fold import FoldCard
from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.loading.competition import Competition
from poolblend.printing import grouped
from poolblend.store import Store


def describe_incomplete(
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


def describe_failures(config: Config, store: Store) -> str:
    """Why there is no finished fold, for those that failed."""
    names = [member.name for member in config.resolve_members()]
    reasons = {name: _failed(store, name, config.folds.n) for name in names}
    failed = [f"{name}{reason}" for name, reason in reasons.items() if reason]
    return f": {'; '.join(failed)}" if failed else ""


def _failed(store: Store, name: str, n_folds: int) -> str:
    """The reasons that the store notes for folds that could not be trained, in brackets."""
    notes = {fold: store.fold(name, fold).failure() for fold in range(n_folds)}
    known = {(name, fold): note.reason for fold, note in notes.items() if note}
    reasons = [line.removeprefix(f"{name} ") for line in grouped(known)]
    return f" ({'; '.join(reasons)})" if reasons else ""


def _missing(store: Store, name: str, n_folds: int) -> list[str]:
    return [str(fold) for fold in range(n_folds) if store.fold(name, fold).card() is None]


def fold_cards(store: Store, name: str, competition: Competition) -> list[FoldCard]:
    """The cards of all folds, or a refusal: a blend takes complete members of these very data."""
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
                f"member {name} fold {fold} was trained on something else: {'; '.join(now)}; "
                "restore that, train the member again, or leave it out with --members a,b"
            )
        differing = card.inputs.changes_since(whole[0].inputs)
        if differing:
            raise UserError(
                f"member {name} has folds of two kinds: from fold 0 to fold {fold}, "
                f"{'; '.join(differing)}; train all its folds again with --overwrite"
            )
    return whole


def origin_of(cards: Sequence[FoldCard]) -> MemberOrigin:
    """The hashes of a member's folds, and how much early stopping flatters it on average."""
    stopped = [card for card in cards if card.kept_epoch is not None]
    known = [card.optimism for card in stopped if card.optimism is not None]
    return MemberOrigin(
        folds=tuple(FoldHashes.of(card) for card in cards),
        stopped_early=bool(stopped),
        optimism=sum(known) / len(known) if known else None,
    )
