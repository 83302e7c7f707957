"""Charts of one row per name: the canvas, dots with intervals, columns of text.

Legend: R rows of the chart, the first on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from poolblend.report.plots.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    ORANGE,
    ROUND_STEPS,
    SIZE,
    SMALL,
    breadth,
    canvas,
    dress,
    labels,
    plain,
    span,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.29
PANEL = 4.6
BELOW = 0.22


def row_axes(
    names: Sequence[str], panels: Sequence[float] = (PANEL,), beside: float = 0.8
) -> tuple[Figure, list[Axes]]:
    """A canvas with a row per name and panels of these widths; `beside` is kept for columns."""
    from matplotlib.ticker import MaxNLocator

    shown = labels(names)
    figure = canvas(breadth(shown) + sum(panels) + beside + 0.5, ROW * len(names) + 0.75)
    all_axes = list(
        figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=panels)[0]
    )
    for axes, width in zip(all_axes, panels, strict=True):
        dress(axes)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(int(width / 0.7), steps=ROUND_STEPS))
    all_axes[0].set_yticks(range(len(names)), shown)
    all_axes[0].set_ylim(len(names) - 0.4, -0.6)
    return figure, all_axes


def dots(axes: Axes, value_R: Any, low_R: Any, high_R: Any, colours: Sequence[str]) -> None:
    """A dot per row and a line through its interval; either is left out where it is undefined."""
    value_R, low_R, high_R = (np.asarray(v, dtype=float) for v in (value_R, low_R, high_R))
    colours = list(colours)
    whole = np.flatnonzero(np.isfinite(low_R) & np.isfinite(high_R))
    picked = [colours[r] for r in whole]
    axes.hlines(whole, low_R[whole], high_R[whole], colors=picked, linewidth=2.4, alpha=0.45)
    defined = np.flatnonzero(np.isfinite(value_R))
    axes.scatter(value_R[defined], defined, s=38, c=[colours[r] for r in defined], zorder=3)


def pale_dots(axes: Axes, values_RF: Any, colour: str = FAINT) -> None:
    """Small dots, such as one per fold, a little below the row's own."""
    values_RF = np.asarray(values_RF, dtype=float)
    rows, folds = np.nonzero(np.isfinite(values_RF))
    axes.scatter(values_RF[rows, folds], rows + BELOW, s=14, color=colour, linewidths=0, zorder=2.5)


def frame(axes: Axes, *values: Any, margin: float = 0.05) -> None:
    """Limits that hold every finite value, with some air."""
    low, high = span(*values)
    axes.set_xlim(low - margin * (high - low), high + margin * (high - low))


def column(axes: Axes, texts: Sequence[str], header: str = "", x: float = 1.02) -> None:
    """Text beside the rows, to the right of the panel, under a header."""
    across = axes.get_yaxis_transform()
    for row, text in enumerate(texts):
        colour = MUTED if text == "undefined" else INK
        axes.text(x, row, text, transform=across, va="center_baseline", size=SIZE, color=colour)
    if header:
        axes.text(x, -0.62, header, transform=across, va="bottom", size=SMALL, color=MUTED)


def emphasise(axes: Axes, row: int, colour: str = BLUE) -> None:
    """Set a row's name in bold, and shade the row in every panel beside."""
    tick = axes.get_yticklabels()[row]
    tick.set_color(colour)
    tick.set_fontweight("bold")
    for panel in axes.figure.axes:
        panel.axhspan(row - 0.5, row + 0.5, color=colour, alpha=0.09, linewidth=0, zorder=0)


def best_first(value_R: Any, better: str) -> np.ndarray:
    """Row numbers by value, the best first, the undefined last, equals in the order given."""
    keyed_R = np.asarray(value_R, dtype=float) * (-1 if better == "max" else 1)
    return np.argsort(np.where(np.isfinite(keyed_R), keyed_R, np.inf), kind="stable")


def mark(
    label: str,
    colour: str,
    size: float = 6,
    *,
    line: bool = True,
    hollow: bool = False,
    shape: str = "o",
) -> Any:
    """An entry of the legend: a dot, on a piece of line where the chart has lines."""
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        color=colour,
        marker=shape,
        markersize=size,
        markerfacecolor="white" if hollow else colour,
        linestyle="-" if line else "none",
        linewidth=2,
        label=_entry(label),
    )


def rule(axes: Axes, x: float, label: str, colour: str = ORANGE) -> Any:
    """Draw a dashed line across all rows and return its entry for the legend."""
    return axes.axvline(
        x, color=colour, linestyle=(0, (4, 2)), linewidth=1.4, zorder=1, label=_entry(label)
    )


def _entry(label: str) -> str:
    """The label as a legend takes it: one that starts with an underscore would be left out."""
    label = plain(label)
    return f" {label}" if label.startswith("_") else label
