"""The tables of a blend card, for blend.py and the notebook."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from poolblend.cards.blend import BlendCard, Interval
from poolblend.ensembling.choice import digits
from poolblend.printing import aligned, wrapped

MOST_FOLDS_SHOWN = 5  # a table with more is wider than a screen


def member_scores(card: BlendCard) -> pd.DataFrame:
    """A row per member: its out-of-fold score with its interval, and its score on each fold."""
    rows = {}
    for name, member in card.members.items():
        interval = "" if member.low is None else f"{_score(member.low)}..{_score(member.high)}"
        rows[name] = {"OOF": _score(member.score), "95 % interval": interval}
        if len(member.fold_scores) <= MOST_FOLDS_SHOWN:
            folds = enumerate(member.fold_scores)
            rows[name] |= {f"fold {fold}": _score(score) for fold, score in folds}
    return _table(rows, "member")


def contributions(card: BlendCard) -> pd.DataFrame:
    """A row per member: its weight, the weights of refits, and what the blend loses without it."""
    members = card.members.values()
    losses = _gains(member.without for member in members)
    rows = {
        name: {
            "weight": _share(member.weight),
            "refitted": f"{member.refitted.low:.3f}..{member.refitted.high:.3f}",
            "error correlation": _share(member.error_correlation),
            "loss without it": loss,
            "": member.without.verdict,
        }
        for (name, member), loss in zip(card.members.items(), losses, strict=True)
    }
    return _table(rows, "member")


def blender_scores(card: BlendCard) -> pd.DataFrame:
    """A row per blender, the simplest first: both scores, their difference, and its gains."""
    scores = card.blenders.values()
    gains = zip(
        _gains(each.over_member for each in scores),
        _gains(each.over_equal for each in scores),
        strict=True,
    )
    rows = {
        name: {
            "in-sample": _score(scores.in_sample),
            "honest": _score(scores.honest),
            "optimism": f"{scores.optimism:+.4f}",
            "gain over best member": over_member,
            "gain over equal": over_equal,
            "": "<- used" if name == card.blender else "",
        }
        for (name, scores), (over_member, over_equal) in zip(
            card.blenders.items(), gains, strict=True
        )
    }
    return _table(rows, "blender")


def budget_levels(card: BlendCard) -> pd.DataFrame:
    """A row per limit of time: the blend's time, members and scores under it."""
    assert card.budget is not None
    levels = card.budget.levels
    limits = ["no limit" if level.limit is None else _seconds(level.limit) for level in levels]
    rows = [
        {
            "takes": _seconds(level.seconds),
            "members": str(len(level.members)),
            "in-sample": _score(level.in_sample),
            "honest": _score(level.honest),
            "": "<- the budget" if level.limit == card.budget.limit else "",
        }
        for level in levels
    ]
    return pd.DataFrame(rows, pd.Index(limits, name="limit"))  # some may be equal in three figures


def show(card: BlendCard) -> str:
    """All tables, and sentences on the value of the blend and its members."""
    parts: list[str | pd.DataFrame] = [
        f"{card.label} of the members, out of fold ({_rows(card)}){_fitted_cuts(card)}",
        member_scores(card),
    ]
    if len(card.members) > 1:
        parts += [
            f"what each member adds ({card.blender}); refitted: weights of {card.refitted_blender} "
            "on resampled rows, 5 to 95 %; error correlation: with the other members, on average; "
            f"loss without it: of the {card.without_blender} blend",
            contributions(card),
            card.diversity.sentence,
            f"{card.label} of the blends; honest: each fold scored by a blend fitted without it",
            blender_scores(card),
        ]
    if card.budget:
        parts += [
            f"{card.budget.blender} under limits of time, in seconds for {card.budget.rows} rows; "
            "honest: members and weights of each fold's blend are chosen without the fold",
            budget_levels(card),
        ]
    return "\n\n".join(map(_text, [*parts, card.sentence, *_notes(card)]))


def _fitted_cuts(card: BlendCard) -> str:
    """Says why these scores may differ from those of the training, which uses default cuts."""
    if not card.form.cuts:
        return ""
    cuts = "cut points" if card.task.kind == "ordinal" else "thresholds"
    return f", with {cuts} fitted on the other folds"


def _rows(card: BlendCard) -> str:
    if card.fitted_rows is None:
        return f"{card.rows} rows"
    return (
        f"a sample of {card.compared_rows} of {card.rows} rows; weights are fitted on one of "
        f"{card.fitted_rows}, blends are scored on all"
    )


def _notes(card: BlendCard) -> Iterable[str]:
    """Further facts that a reader of the scores must know."""
    if card.positive and card.task.classes != (0, 1):
        yield f"Positive label: {card.positive}."
    if card.budget:
        yield card.budget.sentence
    yield from card.slices.values()
    stopped = [
        f"{name} (unknown)"
        if member.origin.optimism is None
        else f"{name} by about {member.origin.optimism:.4f}"
        for name, member in card.members.items()
        if member.origin.stopped_early
    ]
    if stopped:
        yield f"Early stopping makes scores of members and blends too good: {', '.join(stopped)}."
    if card.left_out:
        left_out = "; ".join(f"{name} {reason}" for name, reason in card.left_out.items())
        yield f"Not in this blend: {left_out}."


def _gains(intervals: Iterable[Interval]) -> list[str]:
    """Gains with their intervals, with enough digits to distinguish the ends of a typical one."""
    ends = np.array([[each.value, each.low, each.high] for each in intervals], dtype=float)
    ends += 0.0  # no negative zeros
    width = np.abs(ends[:, 2] - ends[:, 1])
    places = digits(float(np.median(width[width > 0]))) if (width > 0).any() else 4
    return [
        "undefined"
        if np.isnan(low)
        else f"{value:+.{places}f} ({min(low, high):+.{places}f}..{max(low, high):+.{places}f})"
        for value, low, high in ends
    ]


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value + 0.0:.4f}"  # no -0.0000


def _table(rows: dict[str, dict[str, str]], index: str) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index)


def _seconds(value: float) -> str:
    """Three figures, or all of a larger number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _text(part: str | pd.DataFrame) -> str:
    """A wrapped paragraph, or a table with all columns on the right but words without a heading."""
    if isinstance(part, str):
        return "\n".join(wrapped(part, hanging=""))
    numbers = [i for i, heading in enumerate(part.columns, 1) if heading]
    rows = zip(part.index, *(part[heading] for heading in part.columns), strict=True)
    return "\n".join(aligned([["", *part.columns], *rows], right=numbers))
