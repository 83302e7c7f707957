"""Charts of one row per name: the figure, dots with intervals, columns of text.

Legend: R rows of the chart, the first on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from poolblend.report.plots.style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    breadth,
    decimals,
    labels,
    new_figure,
    number,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, PANEL, COLUMN = 0.29, 4.6, 0.9  # inches


def row_axes(names: Sequence[str], panels: Sequence[float] = (PANEL,)) -> tuple[Figure, list[Axes]]:
    """A figure with a row per name, and panels of these widths with space for a text column."""
    shown = labels(names)
    width = breadth(shown) + sum(panels) + COLUMN * len(panels)
    figure = new_figure(width, ROW * len(names) + 1.5)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=panels)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        axes.locator_params(axis="x", nbins=int(panel / 0.7))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    all_axes[0].set_yticks(range(len(names)), shown)
    all_axes[0].set_ylim(len(names) - 0.4, -0.6)
    return figure, list(all_axes)


def dots(
    axes: Axes, rows_R: Any, value_R: Any, low_R: Any, high_R: Any, colour: str, label: str = ""
) -> None:
    """A dot per row and a line for its interval; undefined ones are not drawn."""
    known = np.isfinite(low_R) & np.isfinite(high_R)
    axes.hlines(rows_R[known], low_R[known], high_R[known], color=colour, linewidth=2.4, alpha=0.45)
    axes.scatter(value_R, rows_R, s=38, color=colour, zorder=3, label=label)


def small_dots(axes: Axes, values_RF: np.ndarray, colour: str, label: str) -> None:
    """Small dots, such as one per fold, a little below the row's large dot."""
    rows_RF = np.broadcast_to(np.arange(len(values_RF))[:, None] + 0.22, values_RF.shape)
    axes.scatter(values_RF, rows_RF, s=14, color=colour, linewidths=0, zorder=2.5, label=label)


def gains(axes: Axes, gain_3R: np.ndarray, meanings: Sequence[str] = ("", "", "")) -> None:
    """Dots with intervals and a line at zero, coloured by whether the interval excludes zero.

    `gain_3R` is the gain, positive for better, and the ends of its interval; `meanings` are the
    legend's texts for a gain, for neither, and for a loss.
    """
    value_R, low_R, high_R = gain_3R
    gain_R, loss_R = low_R > 0, high_R < 0
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    kinds = ((gain_R, BLUE), (~gain_R & ~loss_R, MUTED), (loss_R, ORANGE))
    for (kind_R, colour), meaning in zip(kinds, meanings, strict=True):
        rows = np.flatnonzero(kind_R)
        dots(axes, rows, value_R[rows], low_R[rows], high_R[rows], colour, meaning)
    places = decimals(value_R, low_R, high_R, 0.0)
    column(axes, [number(value, places, signed=True) for value in value_R])


def column(axes: Axes, texts: Sequence[str], header: str = "") -> None:
    """Text at the right of the panel, one line per row, under a header."""
    across = axes.get_yaxis_transform()
    for row, text in enumerate(texts):
        axes.text(1.02, row, text, transform=across, va="center_baseline")
    axes.text(1.02, -0.62, header, transform=across, va="bottom", color=MUTED)


def emphasise(axes: Axes, row: int, colour: str = BLUE) -> None:
    """Set a row's name in bold, and shade the row in all panels."""
    tick = axes.get_yticklabels()[row]
    tick.set_color(colour)
    tick.set_fontweight("bold")
    for panel in axes.figure.axes:
        panel.axhspan(row - 0.5, row + 0.5, color=colour, alpha=0.09, linewidth=0, zorder=0)


def best_first(value_R: Any, better: str) -> np.ndarray:
    """Row numbers by value, the best first, undefined values last; ties keep their order."""
    keyed_R = np.asarray(value_R, dtype=float) * (-1 if better == "max" else 1)
    return np.argsort(np.where(np.isfinite(keyed_R), keyed_R, np.inf), kind="stable")


def reference_line(axes: Axes, x: float, label: str) -> None:
    """A dashed line across all rows, unless `x` is undefined."""
    if np.isfinite(x):
        axes.axvline(x, color=ORANGE, linestyle="--", linewidth=1.4, zorder=1, label=label)
