"""The state of members, from their fold cards: scores, their spread, seconds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from poolblend.printing import aligned
from poolblend.store import DamagedError, Store

MOST_FOLDS_SHOWN = 5  # a table with more is wider than a screen


class Standing(NamedTuple):
    """One member's folds: scores of finished ones (None if undefined), numbers of damaged ones."""

    member: str
    n_folds: int
    scores: dict[int, float | None]
    seconds: float
    damaged: tuple[int, ...]

    @property
    def spread(self) -> str:
        """Mean ± standard deviation of the folds' scores; one score alone; or ""."""
        known = [score for score in self.scores.values() if score is not None]
        if len(known) < 2:
            return "".join(f"{score:.4f}" for score in known)
        return f"{statistics.mean(known):.4f} ± {statistics.stdev(known):.4f}"


def standing(store: Store, member: str, n_folds: int) -> Standing:
    """The state of the member's `n_folds` folds, from their cards alone."""
    scores: dict[int, float | None] = {}
    seconds, damaged = 0.0, []
    for fold in range(n_folds):
        try:
            card = store.fold(member, fold).card()
        except DamagedError:
            damaged.append(fold)
            continue
        if card is not None:
            scores[fold] = card.score
            seconds += card.seconds
    return Standing(member, n_folds, scores, seconds, tuple(damaged))


def standings_table(standings: Sequence[Standing], *, oof: Mapping[str, str]) -> list[str]:
    """A table with a line per member, and the scores of its folds if there are not too many.

    `oof` has the members' scores over all rows.
    """
    n_folds = max((each.n_folds for each in standings), default=0)
    shown = range(n_folds) if n_folds <= MOST_FOLDS_SHOWN else range(0)
    folds = [f"fold {k}" for k in shown]
    headings = ["member", "folds", *folds, "mean ± sd", "OOF", "seconds"]
    rows = [
        [
            each.member,
            f"{len(each.scores)} of {each.n_folds}",
            *(_shown(each.scores.get(fold)) for fold in shown),
            each.spread,
            oof.get(each.member, ""),
            f"{each.seconds:.0f}" if each.scores else "",
        ]
        for each in standings
    ]
    return aligned([headings, *rows], right=range(2, len(headings)))


def _shown(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}"
