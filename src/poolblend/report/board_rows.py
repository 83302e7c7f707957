"""What the board of a run holds, before it is text, JSON or a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

ROWS = 1000  # that seconds to predict are shown for


class Value(NamedTuple):
    """A number with the ends of its 95 % interval; None if undefined."""

    value: float | None
    low: float | None
    high: float | None


class Scores(NamedTuple):
    """Of one member: over all rows, and within each fold (None: undefined)."""

    overall: Value
    folds: Sequence[float | None]


@dataclass(frozen=True)
class MemberRow:
    """One member; None for what is unknown or, without a blend, undefined.

    `predict_seconds` are for 1,000 rows by the models of all folds, `shared_seconds` of them for
    frozen layers, which are computed once for all members that share them. `bytes` are on the disk.
    `loss_without` is what the blend loses without the member. On the frontier, no other member
    is both better and quicker.
    """

    member: str
    outside: bool
    score: Value
    fold_mean: float | None
    fold_sd: float | None
    train_seconds: float | None
    predict_seconds: float | None
    shared_seconds: float | None
    bytes: int | None
    weight: float | None
    loss_without: Value | None
    refit_seconds: float | None = None  # as estimated for its model of all rows, if it has one
    frontier: bool = False


@dataclass(frozen=True)
class BlendRow:
    """One blender's two scores; `used` is the chosen one's."""

    blender: str
    in_sample: float
    honest: float
    used: bool


@dataclass(frozen=True)
class Board:
    """All that `poolblend board` shows: members the best first, blends the simplest first.

    `missing` has the reason for each member that is incomplete, failed, damaged, stale or not in
    the blend. `sentence` is the blend's. `measured_on` names where members were timed;
    `elsewhere` says whether one of these places is not this machine with its device.
    """

    run: str
    metric: str
    better: str
    n_folds: int
    members: tuple[MemberRow, ...]
    blends: tuple[BlendRow, ...]
    missing: dict[str, str]
    sentence: str | None
    shared_bytes: int
    measured_on: tuple[str, ...]
    elsewhere: bool
