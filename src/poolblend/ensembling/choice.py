"""Choose a blend, and say in a sentence what it gains over the best member and equal weights."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from poolblend.ensembling.blenders import by_simplicity
from poolblend.ensembling.honesty import Comparison
from poolblend.ensembling.resampling import RESAMPLES, Gain, Resamples
from poolblend.errors import unknown


@dataclass(frozen=True)
class Choice:
    """The chosen blender, and what each blender gains, with 95 % intervals.

    `over_member` and `over_equal` hold every blender's gain, positive when better, over the best
    single member and over equal weights. `member` is the best on all rows, where it scores
    `member_overall`; `member_score` is the honest score of picking the best member without the fold
    that is scored, as blends are fitted.
    """

    blender: str
    automatic: bool
    metric: str
    honest: float
    member: str
    member_overall: float
    member_score: float
    over_member: dict[str, Gain]
    over_equal: dict[str, Gain]
    n_members: int
    n_folds: int

    @property
    def single(self) -> str:
        """The blender that picks the best single member."""
        return _single(self.over_member)

    @property
    def gain(self) -> Gain:
        """What the chosen blender gains over the best single member."""
        return self.over_member[self.blender]


def choose(
    comparison: Comparison,
    blender: str = "auto",
    *,
    resamples: int = RESAMPLES,
    member: tuple[str, float] | None = None,
) -> Choice:
    """Choose the blender asked for, or the simplest within one standard error of the best.

    The standard error is that of the paired difference under a bootstrap over rows or groups;
    intervals are the bootstrap's middle 95 %.
    Both are widened for what a fit adds to them (`fitted_widening`). `member` is the best single
    one with its score on all rows, where they are known. Raises UserError for a blender without a
    report.
    """
    reports, matrix = comparison.reports, comparison.matrix
    if len(matrix.members) == 1:
        blender = "auto"  # there is nothing to choose among
    if blender != "auto" and blender not in reports:
        raise unknown("blender", blender, ["auto", *reports])
    pairs = Resamples(
        matrix.y,
        {name: report.honest_inputs for name, report in reports.items()},
        comparison.scorer,
        fold_N=matrix.fold_N,
        group_N=matrix.group_N,
        seed=comparison.seed,
        resamples=resamples,
    )
    name = (pairs.simplest(by_simplicity()) or "equal") if blender == "auto" else blender
    single, (best, overall) = _single(reports), member or _best_allowed(comparison)
    return Choice(
        blender=name,
        automatic=blender == "auto",
        metric=comparison.scorer.label,
        honest=reports[name].honest,
        member=best,
        member_overall=overall,
        member_score=reports[single].honest,
        over_member={each: pairs.gain(single, each) for each in reports},
        over_equal={each: pairs.gain("equal", each) for each in reports},
        n_members=len(matrix.members),
        n_folds=len(np.unique(matrix.fold_N)),
    )


def _best_allowed(comparison: Comparison) -> tuple[str, float]:
    """The member that scores best alone, of those that a budget allows, and its score."""
    losses_M, budget = comparison.member_losses, comparison.matrix.budget
    allowed = range(len(losses_M)) if budget is None else budget.alone
    best = min(allowed, key=losses_M.__getitem__)
    sign = -1 if comparison.scorer.better == "max" else 1
    return comparison.matrix.members[best], sign * float(losses_M[best]) + 0.0


def _single(blenders: Collection[str]) -> str:
    return "best" if "best" in blenders else "equal"  # of one member, equal weights are that one


def sentence(choice: Choice) -> str:
    """What was chosen, what it gains over the best single member, and whether that is noise."""
    metric, honest = choice.metric, f"{choice.honest:.4f}"
    if choice.n_members == 1:
        return f"One member, {choice.member}: nothing to blend; its honest {metric} is {honest}."
    how = (
        "the simplest blend within one standard error of the best honest score"
        if choice.automatic
        else "as asked"
    )
    text = (
        f"Chose {choice.blender}, {how}: honest {metric} {honest} against "
        f"{choice.member_score:.4f} of the best single member (picked without the scored fold; on "
        f"all rows it is {choice.member} with {choice.member_overall:.4f}); a gain of "
        f"{show_gain(choice.gain)}, {_verdict(choice.gain, 'blending')}."
    )
    if choice.blender == "equal":
        return text
    over_equal = choice.over_equal[choice.blender]
    verdict = _verdict(over_equal, "fitting")
    return f"{text} Over equal weights it gains {show_gain(over_equal)}, {verdict}."


def show_gain(gained: Gain) -> str:
    """A gain with its interval, with enough digits to distinguish its ends."""
    places = digits(gained.high - gained.low)
    value, low, high = (f"{end + 0.0:+.{places}f}" for end in gained)
    return f"{value} (95 % interval {low} to {high})"


def digits(width: float) -> int:
    """Decimal places that give an interval of this width two figures: from 4 to 6."""
    return 4 if not width > 0 else int(np.clip(np.ceil(-np.log10(width)) + 1, 4, 6))


def _verdict(gained: Gain, what: str) -> str:
    if gained.low > 0:
        return "distinguishable from zero"
    if gained.high < 0:
        return f"below zero: {what} buys nothing here"
    return f"not distinguishable from zero: {what} buys nothing that these rows can show"
