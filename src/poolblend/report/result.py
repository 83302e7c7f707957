"""The result of blend.py: the comparison, the choice, the findings and the card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.cards.blend import BlendCard
from poolblend.ensembling.choice import Choice
from poolblend.ensembling.honesty import Comparison, Honest
from poolblend.ensembling.matrix import OofMatrix
from poolblend.report.tables import show


@dataclass(frozen=True, eq=False)
class Findings:
    """The analysis of the chosen blend and its members.

    `scores` has each member's score with its interval, `without` the loss of the blend of
    `without_blender` without each member. `refits_RM` are the weights of `refitted_blender` on
    resampled rows (R refits, M members). `slices` has a table of scores for each column, of the
    best member, equal weights and the chosen blend.
    """

    scores: pd.DataFrame
    without: pd.DataFrame
    without_blender: str
    refits_RM: np.ndarray
    refitted_blender: str
    slices: dict[str, pd.DataFrame]


@dataclass(frozen=True, eq=False, repr=False)
class BlendResult:
    """All that tables and pictures need; `figures` is the folder of the pictures."""

    comparison: Comparison
    choice: Choice
    findings: Findings
    card: BlendCard
    figures: Path

    def __str__(self) -> str:
        """The tables and sentences that blend.py prints."""
        return show(self.card)

    __repr__ = __str__  # as a notebook shows it

    @property
    def weights(self) -> pd.Series:
        """Each member's share of the chosen blend; all members, in the blend's order."""
        shares = {name: member.weight for name, member in self.card.members.items()}
        return pd.Series(shares, name="weight").rename_axis("member")

    @property
    def score(self) -> float:
        """The honest score of the chosen blend, in the competition's metric."""
        return self.card.choice.honest

    @property
    def report(self) -> str:
        """The tables and sentences that blend.py prints."""
        return str(self)

    @property
    def matrix(self) -> OofMatrix:
        return self.comparison.matrix

    @property
    def reports(self) -> dict[str, Honest]:
        """The scores and mixtures of all blenders."""
        return self.comparison.reports

    @property
    def used(self) -> Honest:
        """The report of the chosen blender."""
        return self.reports[self.choice.blender]
