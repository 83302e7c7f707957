"""Read the blend card, and check that its fold models have not changed."""

from __future__ import annotations

import numpy as np

from poolblend.cards.blend import BlendCard, MemberOrigin
from poolblend.ensembling.mixture import Mixture
from poolblend.errors import UserError
from poolblend.store import DamagedError, Store


def read_blend(store: Store) -> tuple[BlendCard, Mixture]:
    """The run's blend card, and the mixture of its `used_members`.

    Raises UserError if the card is missing or damaged.
    """
    card = store.read_blend()
    try:
        mixture = Mixture.from_json(card.mixture.model_dump(), card.task.kind)
    except (ValueError, TypeError, OverflowError):
        raise DamagedError(
            f"{store.blend_path} is damaged: its mixture cannot be used; run blend.py again (same "
            "--config)"
        ) from None
    return card, mixture.only(np.asarray(mixture.weights_MK.any(axis=1)))


def check_unchanged(store: Store, name: str, origin: MemberOrigin) -> list[str]:
    """The text columns that a member reads, from its fold cards; [] for outside members.

    Raises UserError if a fold model is missing or was trained again after the blend.
    """
    columns: list[str] = []
    for fold, hashes in enumerate(origin.folds):
        card = store.fold(name, fold).card()
        if card is None:
            raise UserError(
                f"{name} fold {fold} is in the blend but not in the store; copy or train it "
                f"({store.fold_folder(name, fold)}), or run blend.py again"
            )
        if card.files.weights.sha256 != hashes.weights_sha256:
            raise UserError(
                f"{name} fold {fold} was trained again after the blend; run blend.py again"
            )
        columns = list(card.inputs.reading.text)
    return columns
