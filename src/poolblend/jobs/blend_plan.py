"""Read the blend card, and check that its fold models have not changed."""

from __future__ import annotations

import logging

import numpy as np

from poolblend.cards.blend import BlendCard, FoldHashes, MemberOrigin
from poolblend.cards.fold import FoldCard
from poolblend.cards.fold_names import REFIT, fold_name
from poolblend.ensembling.mixture import Mixture
from poolblend.errors import UserError
from poolblend.store import DamagedError, Store

log = logging.getLogger(__name__)


def warn_of_other_labels(card: BlendCard, possible: str | None) -> None:
    """Log where the blend was fitted with other possible labels than the config names."""
    before = card.config.get("data", {}).get("possible")
    if before != possible:
        log.warning(
            "the blend was fitted with data.possible=%s, and now it is %s; run blend.py again",
            before,
            possible,
        )


def read_blend(store: Store, *, refit: bool = False) -> tuple[BlendCard, Mixture]:
    """The run's blend card, and the mixture of its `used_members`.

    With `refit`, as `with_refits` gives it. Raises UserError if the card is missing or damaged.
    """
    card = store.read_blend()
    if refit:
        card = with_refits(store, card)
    try:
        mixture = Mixture.from_json(card.mixture.model_dump(), card.task.kind)
    except (ValueError, TypeError, OverflowError):
        raise DamagedError(
            f"{store.blend_path} is damaged: its mixture cannot be used; run blend.py again (same "
            "--config)"
        ) from None
    return card, mixture.only(np.asarray(mixture.weights_MK.any(axis=1)))


def with_refits(store: Store, card: BlendCard) -> BlendCard:
    """The blend with members' models of all rows in place of those of their folds.

    The log names members that have none, whose fold models stay. Raises UserError where no member
    has one, and for one that was trained from other inputs than the folds.
    """
    members, lacking = dict(card.members), []
    for name, member in card.used_members.items():
        refit = None if member.origin.oof_file else store.fold(name, REFIT).card()
        if refit is None:
            lacking.append(name)
            continue
        for fold, blended in enumerate(member.origin.folds):
            own = store.fold(name, fold).card()
            if own is None:  # it may have stayed on another machine
                continue
            _check_same(name, own, blended)
            if changes := refit.inputs.changes_since(own.inputs):
                raise UserError(
                    f"{name} refit and its folds were trained differently: {'; '.join(changes)}; "
                    "run train.py --fold refit --overwrite"
                )
        origin = member.origin.model_copy(update={"refit": FoldHashes.of(refit)})
        members[name] = member.model_copy(update={"origin": origin})
    if len(lacking) == len(card.used_members):
        raise UserError("no member of the blend has a model of all rows; run train.py --fold refit")
    if lacking:
        log.info("no model of all rows: %s; those of the folds are used", ", ".join(lacking))
    return card.model_copy(update={"members": members})


def check_unchanged(store: Store, name: str, origin: MemberOrigin) -> list[str]:
    """The text columns that a member reads, from its fold cards; [] for outside members.

    Raises UserError if a fold model is missing or was trained again after the blend.
    """
    columns: list[str] = []
    for fold, hashes in origin.models.items():
        card = store.fold(name, fold).card()
        if card is None:
            raise UserError(
                f"{name} {fold_name(fold)} is in the blend but not in the store; copy or train it "
                f"({store.fold_folder(name, fold)}), or run blend.py again"
            )
        _check_same(name, card, hashes)
        columns = list(card.inputs.reading.text)
    return columns


def _check_same(name: str, card: FoldCard, blended: FoldHashes) -> None:
    if card.files.weights.sha256 != blended.weights_sha256:
        raise UserError(
            f"{name} {fold_name(card.fold)} was trained again after the blend; run blend.py again"
        )
