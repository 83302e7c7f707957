"""Score against seconds to predict: of members, or of blends of ever more members.

Legend: P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from poolblend.report.plots.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    ORANGE,
    axis_label,
    finish,
    labels,
    new_figure,
    plain,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NAMES = 12  # beside points; of more, only those on the frontier are named
WIDE = 5.0  # seconds that differ more than so many times are drawn on a scale of powers


@theme()
def score_against_seconds(
    names: Sequence[str],
    score_3P: np.ndarray,
    seconds_P: np.ndarray,
    frontier_P: np.ndarray,
    metric: str,
    better: str,
    *,
    title: str,
    unit: str,
    limit: float | None = None,
) -> Figure:
    """A point for each name, and a line along those on the frontier.

    `score_3P` is the score and the ends of its interval (NaN: none); `unit` says what the seconds
    are of, `limit` is drawn as a line across.
    """
    figure = new_figure(7.2, 4.4)
    axes = figure.add_subplot()
    axes.grid(True, axis="both")
    value_P, low_P, high_P = score_3P
    for kind_P, colour in ((~frontier_P, MUTED), (frontier_P, BLUE)):
        known_P = kind_P & np.isfinite(low_P) & np.isfinite(high_P)
        axes.vlines(seconds_P[known_P], low_P[known_P], high_P[known_P], color=colour, alpha=0.3)
    axes.scatter(seconds_P[~frontier_P], value_P[~frontier_P], s=30, color=MUTED, zorder=3)
    order = np.flatnonzero(frontier_P)[np.argsort(seconds_P[frontier_P], kind="stable")]
    axes.step(seconds_P[order], value_P[order], where="post", color=BLUE, alpha=0.6, zorder=2)
    axes.scatter(
        seconds_P[order], value_P[order], s=42, color=BLUE, zorder=4, label="on the frontier"
    )
    named = order if len(names) > MOST_NAMES else np.arange(len(names))
    shown = labels(names)
    for point in named:
        axes.annotate(
            shown[point],
            (seconds_P[point], value_P[point]),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
    if seconds_P.min() > 0 and seconds_P.max() > WIDE * seconds_P.min():
        axes.set_xscale("log")
    if limit is not None:
        axes.axvline(limit, color=ORANGE, linestyle="--", linewidth=1.4, label="the budget")
    axes.margins(x=0.18, y=0.12)
    axes.spines["left"].set_color(FAINT)
    axes.set_xlabel(plain(unit))
    axes.set_ylabel(axis_label(metric, better))
    return finish(figure, title)
