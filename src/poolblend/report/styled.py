"""The blend's tables for a notebook: numbers in few digits, the best in bold, names escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from poolblend.report.tables import MOST_FOLDS_SHOWN

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

    from poolblend.pipeline.blending import Blend

UNDEFINED = "undefined"
USED = {"background-color": "#dbe9f4", "color": "#1f2933"}
GAINS = ("over best", "over equal")


def members(blend: Blend) -> Styler:
    """A row per member, the best first: score with its interval, on each fold, weight."""
    better = blend.comparison.scorer.better
    table = blend.member_scores.sort_values("OOF", ascending=better == "min", kind="stable")
    folds = [name for name in table.columns if name.startswith("fold ")]
    folds = folds if len(folds) <= MOST_FOLDS_SHOWN else []
    styled = _styled(table[["OOF", "low", "high", *folds, "weight"]], "members")
    styled.format("{:.3f}", subset=["weight"])
    pick = styled.highlight_max if better == "max" else styled.highlight_min
    return pick(subset=["OOF", *folds], props="font-weight: bold")


def blends(blend: Blend) -> Styler:
    """A row per blender, the simplest first: both scores, optimism, gains; the one used shaded."""
    table = blend.blender_scores
    heads = [_head(name) for name in table.columns]
    styled = _styled(table.set_axis(pd.MultiIndex.from_tuples(heads), axis=1), "blends")
    signed = pd.MultiIndex.from_tuples([h for h in heads if h[0] or h[1] == "optimism"])
    styled.format("{:+.4f}", subset=signed, na_rep=UNDEFINED)
    return styled.set_properties(subset=pd.IndexSlice[[blend.choice.blender], :], **USED)


def _head(name: str) -> tuple[str, str]:
    """A column's two lines of heading: what a gain is over, and which of its numbers this is."""
    for over in GAINS:
        if name.startswith(over):
            return f"gain {over}", name.removeprefix(over).strip() or "value"
    return "", name


def _styled(table: pd.DataFrame, name: str) -> Styler:
    # What comes from files may be called anything, <script> included.
    styled = table.rename_axis(None).style.format(precision=4, na_rep=UNDEFINED, escape="html")
    styled.format_index(escape="html", axis=0).format_index(escape="html", axis=1)
    return styled.set_uuid(name)
