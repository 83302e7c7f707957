"""What it costs to predict with a member, and where that was measured, from its fold cards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from poolblend.cards.fold import FoldCard
from poolblend.ensembling.costs import Cost


def prediction_cost(cards: Sequence[FoldCard]) -> Cost | None:
    """The member's seconds a row, by the models of all its folds; None where one is unknown.

    Each was timed on the fold's own rows in training (`cards.fold.PredictionTime`).
    """
    own, shared = 0.0, {}
    for card in cards:
        timed = card.prediction
        if timed is None:
            return None
        own += timed.seconds / timed.rows
        if timed.states is not None:
            if timed.states.seconds is None:
                return None
            shared[timed.states.fingerprint] = timed.states.seconds / timed.states.rows
    return Cost(own, shared)


def measured_on(cards: Iterable[FoldCard]) -> tuple[str, ...]:
    """The devices and machines on which these folds were trained and timed, each once."""
    places = (
        f"{card.device}{f', threads: {card.threads}' if card.device == 'cpu' else ''}, "
        f"machine {card.provenance.machine or 'unknown'}"
        for card in cards
        if card.prediction is not None
    )
    return tuple(sorted(set(places)))
