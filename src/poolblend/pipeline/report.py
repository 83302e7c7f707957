"""What the commands print at the end: tables made from a blend card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def member_table(card: Mapping[str, Any]) -> pd.DataFrame:
    """A row per member: weight, score on each fold, score over all rows."""
    rows = {
        name: {
            **{f"fold {fold}": score for fold, score in enumerate(member["fold_scores"])},
            "OOF": member["score"],
            "weight": member["weight"],
        }
        for name, member in card["members"].items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=float).rename_axis("member")


def blend_table(card: Mapping[str, Any]) -> pd.DataFrame:
    """A row per blender, simplest first: its score in-sample, its honest score, the difference."""
    columns = ["in_sample", "honest", "optimism"]
    rows = {name: [entry[c] for c in columns] for name, entry in card["blenders"].items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.rename(columns={"in_sample": "in-sample"}).rename_axis("blender")


def show(card: Mapping[str, Any]) -> str:
    """Both tables and the sentence that says what the blend is worth."""
    blenders = blend_table(card)
    blenders[""] = ["<- used" if name == card["blender"] else "" for name in blenders.index]
    return "\n\n".join(
        (
            f"{card['metric']} of the members, out of fold ({card['rows']} rows)",
            _text(member_table(card)),
            f"{card['metric']} of the blends; honest: each fold with weights fitted without it",
            _text(blenders),
            card["sentence"],
        )
    )


def _text(table: pd.DataFrame) -> str:
    return table.to_string(
        formatters={"optimism": "{:+.4f}".format},
        float_format="{:.4f}".format,
        na_rep="undefined",
        index_names=False,
    )
