"""The seconds that members take to predict a row, alone and together, and a limit of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from poolblend.errors import UserError


@dataclass(frozen=True)
class Cost:
    """One member's seconds a row.

    `own` are of what it alone computes; `shared`, by key, of parts that are computed once for all
    members with the same key, such as the hidden states of frozen layers.
    """

    own: float
    shared: Mapping[str, float]

    @property
    def alone(self) -> float:
        """Its seconds a row without any other member."""
        return seconds_together([self])


FREE = Cost(0.0, {})


def seconds_together(costs: Collection[Cost]) -> float:
    """Seconds a row of these members together: shared parts count once."""
    shared: dict[str, float] = {}
    for cost in costs:
        shared |= cost.shared
    return sum(cost.own for cost in costs) + sum(shared.values())


class NothingAffordableError(UserError):
    """No member alone is quick enough."""


@dataclass(frozen=True)
class Budget:
    """The members' costs, in their order, and the seconds a row that they may take together."""

    costs: tuple[Cost, ...]
    limit: float

    def seconds(self, members: Collection[int]) -> float:
        """Seconds a row of these members together."""
        return seconds_together([self.costs[m] for m in members])

    def allows(self, members: Collection[int]) -> bool:
        return self.seconds(members) <= self.limit

    @property
    def binds(self) -> bool:
        """Whether it does not allow all members together."""
        return not self.allows(range(len(self.costs)))

    @property
    def alone(self) -> list[int]:
        """The members that are quick enough alone; NothingAffordableError if none is."""
        found = [m for m in range(len(self.costs)) if self.allows([m])]
        if not found:
            least = min(self.costs, key=lambda cost: cost.alone).alone
            raise NothingAffordableError(
                f"the quickest member takes {least:.2g} s a row, the budget is {self.limit:.2g} s"
            )
        return found

    def subset(self, members: Sequence[int]) -> Budget:
        return Budget(tuple(self.costs[m] for m in members), self.limit)


def on_frontier(score_M: Sequence[float], seconds_M: Sequence[float], better: str) -> list[bool]:
    """Whether no other member is at least as good and as quick, and better in one of both.

    Of members that are equal in both, all are on it.
    """
    sign = 1 if better == "max" else -1
    points = [(sign * score, -seconds) for score, seconds in zip(score_M, seconds_M, strict=True)]
    return [
        not any(other != own and other[0] >= own[0] and other[1] >= own[1] for other in points)
        for own in points
    ]
