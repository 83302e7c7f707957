"""The card of a run's folds: how they were made, and the hash of their file."""

from __future__ import annotations

from poolblend.cards.card import Card, CardPart
from poolblend.competition.options import KeepTogether


class FoldSettings(CardPart):
    """What new folds depend on, except the train rows; the keys of the config's `folds`."""

    strategy: str  # the resolved name, never "auto"
    seed: int
    groups: str | None
    keep_together: KeepTogether
    bins: int | None  # None for a strategy without bins


class FoldsCard(Card):
    """`settings` are None if the folds come from the files of outside members."""

    settings: FoldSettings | None
    folds_sha256: str
