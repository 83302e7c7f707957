"""Which blend to take, what it gains over the best member and over equal weights, in a sentence.

Legend: R bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from poolblend.ensembling.blenders import by_simplicity
from poolblend.ensembling.honesty import Comparison, fold_masks
from poolblend.ensembling.resampling import RESAMPLES, Gain, bootstrap, gain
from poolblend.errors import unknown


@dataclass(frozen=True)
class Choice:
    """The blender taken, and what each blender gains, with 95 % intervals.

    `over_member` and `over_equal` hold every blender's gain, positive when better, over the best
    single member and over equal weights. The member is picked by its score on all rows, which can
    only flatter it, so noise does not pass for a gain. `fickle` counts the folds without which
    another would be picked: where there are any, the gain is understated.
    """

    blender: str
    automatic: bool
    metric: str
    honest: float
    member: str
    member_score: float
    over_member: dict[str, Gain]
    over_equal: dict[str, Gain]
    fickle: int
    n_members: int
    n_folds: int

    @property
    def gain(self) -> Gain:
        """What the blender taken gains over the best single member."""
        return self.over_member[self.blender]


def choose(comparison: Comparison, blender: str = "auto", *, resamples: int = RESAMPLES) -> Choice:
    """Take the blender asked for, or the simplest within one standard error of the best honest one.

    The standard error is that of the paired difference under a bootstrap over rows or groups
    (Breiman et al. 1984, sec. 3.4.3, for the rule); intervals are the bootstrap's middle 95 %.
    Raises UserError for a blender without a report.
    """
    reports, matrix, scorer = comparison.reports, comparison.matrix, comparison.scorer
    if len(matrix.members) == 1:
        blender = "auto"  # there is nothing to choose among
    if blender != "auto" and blender not in reports:
        raise unknown("blender", blender, ["auto", *reports])
    member_losses = comparison.member_losses
    m = int(member_losses.argmin())
    takens = [comparison.member_taken[m], *(report.honest_taken for report in reports.values())]
    single_R, *each_R = bootstrap(
        matrix.y,
        takens,
        scorer,
        group_N=matrix.group_N,
        seed=comparison.options.seed,
        resamples=resamples,
    )
    drawn_R = dict(zip(reports, each_R, strict=True))
    loss = {name: scorer.loss_taken(matrix.y, reports[name].honest_taken) for name in reports}
    name = _simplest_within_noise(loss, drawn_R) if blender == "auto" else blender
    return Choice(
        blender=name,
        automatic=blender == "auto",
        metric=scorer.name,
        honest=reports[name].honest,
        member=matrix.members[m],
        member_score=scorer.score_taken(matrix.y, comparison.member_taken[m]),
        over_member={
            each: gain(single_R, drawn_R[each], float(member_losses[m]) - loss[each])
            for each in reports
        },
        over_equal={
            each: gain(drawn_R["equal"], drawn_R[each], loss["equal"] - loss[each])
            for each in reports
        },
        fickle=_fickle(comparison, m),
        n_members=len(matrix.members),
        n_folds=len(np.unique(matrix.fold_N)),
    )


def sentence(choice: Choice) -> str:
    """What was chosen, what it gains over the best single member, and whether that is noise."""
    if choice.n_members == 1:
        return (
            f"One member, {choice.member}: nothing to blend; its honest {choice.metric} is "
            f"{choice.honest:.4f}."
        )
    how = (
        "the simplest blend within one standard error of the best honest score"
        if choice.automatic
        else "as asked"
    )
    said = (
        f"Chose {choice.blender}, {how}: honest {choice.metric} {choice.honest:.4f} against "
        f"{choice.member_score:.4f} of the best single member, {choice.member}; a gain of "
        f"{told(choice.gain)}, {_verdict(choice.gain, 'blending')}."
    )
    if choice.blender != "equal":
        over_equal = choice.over_equal[choice.blender]
        said += (
            f" Over equal weights it gains {told(over_equal)}, {_verdict(over_equal, 'fitting')}."
        )
    if choice.fickle:
        said += (
            f" (Another member would be the best without {choice.fickle} of the {choice.n_folds} "
            "folds: picking it on these rows flatters it, and understates the gain.)"
        )
    return said


def told(gained: Gain) -> str:
    """A gain with its interval, in as many digits as tell its ends apart."""
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


def _fickle(comparison: Comparison, m: int) -> int:
    """How many folds, left out, would make another member the best alone."""
    y, scorer = comparison.matrix.y, comparison.scorer
    others = 0
    for held_N in fold_masks(comparison.matrix):
        rows = ~held_N
        losses = [scorer.loss_or_inf(y[rows], taken[rows]) for taken in comparison.member_taken]
        others += int(np.argmin(losses)) != m
    return others


def _simplest_within_noise(loss: Mapping[str, float], drawn_R: Mapping[str, np.ndarray]) -> str:
    leader = min(loss, key=lambda name: loss[name])
    return next(
        name
        for name in by_simplicity()
        if name in loss
        and loss[name] - loss[leader] <= np.std(drawn_R[name] - drawn_R[leader], ddof=1)
    )
