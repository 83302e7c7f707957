"""Scores slice by slice: where the blend is weak, and where it loses to something simpler.

Legend: P predictions, S slices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from poolblend.report.plots.intervals import gains
from poolblend.report.plots.rows import PANEL, column, emphasise, frame, mark, row_axes
from poolblend.report.plots.style import (
    FAINT,
    ORANGE,
    head,
    labels,
    nothing,
    plain,
    series,
    theme,
    towards,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOT_SCORES = ("rows", "gain", "low", "high")


@theme()
def slices(
    table: pd.DataFrame,
    metric: str,
    better: str,
    title: str = "Scores per slice",
    *,
    over: str = "the reference",
) -> Figure:
    """Scores of some predictions in each slice, and the gain of the last of them over another.

    `table` is as `slice_table` makes it: index slice; rows, a column of scores per prediction, and
    gain, low, high, positive for better, which may be missing. The slice in which the last
    prediction scores worst is marked.
    """
    names = [name for name in table.columns if name not in NOT_SCORES]
    if not len(table) or not names:
        return nothing(title, "There are no slices.")
    scores = {name: table[name].to_numpy(dtype=float) for name in names}
    has_gain = {"gain", "low", "high"} <= set(table.columns)
    panels = (PANEL, 0.62 * PANEL) if has_gain else (PANEL,)
    figure, (axes, *others) = row_axes(list(map(str, table.index)), panels, 0.9 * len(panels))
    marks = _scores(axes, scores)
    axes.set_xlabel(towards(plain(metric), better))
    counts = [f"{count:,.0f}" for count in table["rows"]]
    whole = np.isfinite(scores[names[-1]])
    column(
        axes, [c if ok else f"{c}, undefined" for c, ok in zip(counts, whole, strict=True)], "rows"
    )
    for panel in others:
        gains(panel, *(table[name].to_numpy(dtype=float) for name in ("gain", "low", "high")))
        panel.set_xlabel(f"gain over {plain(over)}")
    if whole.sum() < 2:
        return head(figure, title, "", marks)
    worst = np.nanargmin(scores[names[-1]] * (1 if better == "max" else -1))
    emphasise(axes, int(worst), ORANGE)
    return head(figure, title, f"Shaded: the slice on which {names[-1]} scores worst.", marks)


def _scores(axes: Axes, scores: Mapping[str, np.ndarray]) -> list[Any]:
    """Dots on a line per slice, and the legend's entries."""
    frame(axes, *scores.values())
    score_PS = np.vstack(list(scores.values()))
    known = np.flatnonzero(np.isfinite(score_PS).any(axis=0))
    low, high = (pick(score_PS[:, known], axis=0) for pick in (np.nanmin, np.nanmax))
    axes.hlines(known, low, high, colors=FAINT, linewidth=1.6, zorder=1)
    marks = []
    for n, (name, shown) in enumerate(zip(scores, labels(list(scores)), strict=True)):
        colour, shape = series(n)
        rows = range(len(scores[name]))
        axes.scatter(scores[name], rows, s=36, c=colour, marker=shape, zorder=3 + n)
        marks.append(mark(shown, colour, line=False, shape=shape))
    return marks
