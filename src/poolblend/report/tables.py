"""What the commands print at the end: tables made from a blend card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from poolblend.competition.positive import Positive
from poolblend.ensembling.choice import digits

# Enough to see a fold that failed; a table of more is wider than a screen.
MOST_FOLDS_SHOWN = 5


def member_table(card: Mapping[str, Any]) -> pd.DataFrame:
    """A row per member: score with its interval, on each fold; weight; loss without.

    `error correlation` is the mean of those with the other members, `without` is what the blend
    loses when the member is left out, with its own interval.
    """
    rows = {
        name: {
            "OOF": member["score"],
            "low": member["low"],
            "high": member["high"],
            **{f"fold {fold}": score for fold, score in enumerate(member["fold_scores"])},
            "weight": member["weight"],
            "error correlation": member["error_correlation"],
            "without": member["without"]["value"],
            "without low": member["without"]["low"],
            "without high": member["without"]["high"],
        }
        for name, member in card["members"].items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=float).rename_axis("member")


def blend_table(card: Mapping[str, Any]) -> pd.DataFrame:
    """A row per blender, simplest first: in-sample and honest score, their difference, gains."""
    rows = {
        name: {
            "in-sample": entry["in_sample"],
            "honest": entry["honest"],
            "optimism": entry["optimism"],
            **{
                f"{over}{part}": entry[key][end]
                for over, key in (("over best", "over_member"), ("over equal", "over_equal"))
                for part, end in (("", "value"), (" low", "low"), (" high", "high"))
            },
        }
        for name, entry in card["blenders"].items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=float).rename_axis("blender")


def show(card: Mapping[str, Any]) -> str:
    """The tables and the sentences that say what the blend, and each member in it, is worth."""
    metric, single = card["metric"], len(card["members"]) == 1
    scores = [
        f"{metric} of the members, out of fold ({card['rows']} rows)",
        _text(_scores_to_print(card)),
    ]
    blends = [
        f"{metric} of the blends; honest: each fold scored with nothing learned from it",
        _text(_blends_to_print(card)),
    ]
    brought = [
        f"what each member brings ({card['blender']}); refitted: {card['refitted']} on resampled "
        f"rows, 5 to 95 %; gain without it: of the {card['left_out_of']} blend",
        _text(_brought_to_print(card)),
        card["diversity"]["sentence"],
    ]
    slices = list(card["slices"].values())
    parts = scores if single else [*scores, *brought, *blends]
    left_out = [f"{name} {what}" for name, what in card["left_out"].items()]
    without = [f"Not in this blend: {'; '.join(left_out)}."] if left_out else []
    said = [card["sentence"], *_positive(card), *slices, *_flattered(card), *without]
    return "\n\n".join([*parts, *said])


def _positive(card: Mapping[str, Any]) -> list[str]:
    """Which label of a binary task counts as 1, and what told so; nothing of 0 and 1."""
    positive = card.get("positive")
    if not positive or list(card["task"]["classes"]) == [0, 1]:
        return []
    return [f"Positive label: {Positive(**positive)}."]


def _flattered(card: Mapping[str, Any]) -> list[str]:
    """What cross-fitting the blend does not take back: epochs chosen on the rows they score."""
    told = [
        f"{name} by about {member['optimism']:.4f}" if "optimism" in member else f"{name} (unknown)"
        for name, member in card["members"].items()
        if member.get("stopped_early")
    ]
    return (
        [f"Early stopping flatters members, and blends of them: {', '.join(told)}."] if told else []
    )


def _scores_to_print(card: Mapping[str, Any]) -> pd.DataFrame:
    table = member_table(card)
    folds = [column for column in table if str(column).startswith("fold ")]
    shown = pd.DataFrame(index=table.index)
    shown["OOF"] = table["OOF"].map(_score)
    shown["95 % interval"] = [
        _between(*ends) for ends in zip(table["low"], table["high"], strict=True)
    ]
    for fold in folds if len(folds) <= MOST_FOLDS_SHOWN else ():
        shown[fold] = table[fold].map(_score)
    return shown


def _brought_to_print(card: Mapping[str, Any]) -> pd.DataFrame:
    table = member_table(card)
    shown = pd.DataFrame(index=table.index)
    shown["weight"] = table["weight"].map(_share)
    refitted = [member["refitted"] for member in card["members"].values()]
    shown["refitted"] = [f"{each['low']:.3f}..{each['high']:.3f}" for each in refitted]
    shown["errs like others"] = table["error correlation"].map(_share)
    shown["gain without it"] = _gains(table, "without", sign=-1)
    verdicts = [member["without"]["verdict"] for member in card["members"].values()]
    shown[""] = [f"  {verdict}" for verdict in verdicts]
    return shown


def _blends_to_print(card: Mapping[str, Any]) -> pd.DataFrame:
    table = blend_table(card)
    shown = pd.DataFrame(index=table.index)
    for column in ("in-sample", "honest"):
        shown[column] = table[column].map(_score)
    shown["optimism"] = table["optimism"].map("{:+.4f}".format)
    shown["gain over best member"] = _gains(table, "over best")
    shown["gain over equal"] = _gains(table, "over equal")
    shown[""] = ["<- used" if name == card["blender"] else "" for name in table.index]
    return shown


def _gains(table: pd.DataFrame, column: str, sign: int = 1) -> list[str]:
    """Gains with their intervals, all in as many digits as tell the ends of a typical one apart."""
    ends = table[[column, f"{column} low", f"{column} high"]].to_numpy() * sign + 0.0
    width = np.abs(ends[:, 2] - ends[:, 1])
    places = digits(float(np.median(width[width > 0]))) if (width > 0).any() else 4
    return [
        "undefined"
        if pd.isna(low)
        else f"{value:+.{places}f} ({min(low, high):+.{places}f}..{max(low, high):+.{places}f})"
        for value, low, high in ends
    ]


def _share(value: float) -> str:
    return "undefined" if pd.isna(value) else f"{value:.3f}"


def _score(value: float) -> str:
    return "undefined" if pd.isna(value) else f"{value + 0.0:.4f}"  # no -0.0000


def _between(low: float, high: float) -> str:
    return "" if pd.isna(low) else f"{_score(low)}..{_score(high)}"


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index_names=False)
