"""The card of a run's folds: how they were made, and the hash of their file."""

from __future__ import annotations

from poolblend.cards.card import Card, CardPart
from poolblend.competition.options import KeepTogether


class FoldSettings(CardPart):
    """What new folds depend on besides the train rows; the keys of the config's `folds`."""

    strategy: str  # by its own name, never "auto"
    seed: int
    groups: str | None
    keep_together: KeepTogether
    bins: int | None  # None for a strategy without bins


class FoldsCard(Card):
    """`settings` are None where the members' files gave the folds."""

    settings: FoldSettings | None
    folds_sha256: str
