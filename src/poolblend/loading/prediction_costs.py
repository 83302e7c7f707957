"""What it costs to predict with a member, and where that was measured, from its fold cards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from poolblend.cards.fold import FoldCard
from poolblend.ensembling.costs import FREE, Budget, Cost, NothingAffordableError
from poolblend.errors import UserError
from poolblend.loading.blend_members import Members
from poolblend.store import Store


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


def with_budget(store: Store, gathered: Members, seconds: float, rows: int) -> Members:
    """The members with what each of them costs, and a budget of `seconds` for so many rows.

    Members of other tools are free: their predictions exist. Raises UserError for members that
    nobody timed, and if no member is quick enough.
    """
    if all(origin.oof_file for origin in gathered.origins.values()):
        raise UserError(
            "blend.budget does nothing with members of other tools alone, whose test predictions "
            "exist; leave it out"
        )
    costs: dict[str, Cost] = {}
    for name in gathered.matrix.members:
        origin = gathered.origins[name]
        cost: Cost | None = FREE
        if not origin.oof_file:
            cost = prediction_cost(finished_folds(store, name, len(origin.folds)))
        if cost is not None:
            costs[name] = cost
    untimed = [name for name in gathered.matrix.members if name not in costs]
    if untimed:
        raise UserError(
            f"blend.budget: the seconds that {', '.join(untimed)} take to predict are not in the "
            "cards (trained by an earlier version, or the states of frozen layers were not timed); "
            "train them again, leave them out with --members a,b, or leave blend.budget out"
        )
    budget = Budget(tuple(costs.values()), seconds / rows)
    try:
        _ = budget.alone
    except NothingAffordableError:
        name = min(costs, key=lambda name: costs[name].alone)
        raise UserError(
            f"blend.budget: {seconds:g} s is too short for every member: the quickest, {name}, "
            f"takes about {costs[name].alone * rows:.3g} s for {rows} rows; allow more"
        ) from None
    return replace(gathered, matrix=replace(gathered.matrix, budget=budget))


def finished_folds(store: Store, name: str, n_folds: int) -> list[FoldCard]:
    """The cards of a member's finished folds, of so many."""
    cards = (store.fold(name, fold).card() for fold in range(n_folds))
    return [card for card in cards if card is not None]
