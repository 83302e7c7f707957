"""Shaded tables: the similarity of members, and their weights on each output.

Legend: M members, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from poolblend.report.plots.style import (
    FAINT,
    INK,
    PALE,
    breadth,
    finish,
    labels,
    new_figure,
    number,
    span,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

TREE = 0.9  # inches
MOST_NUMBERED = 40


@theme()
def heat_map(
    names: Sequence[str], values_MM: np.ndarray, title: str, *, linkage: np.ndarray | None
) -> Figure:
    """A table of pairs of members with shades and numbers; undefined cells are blank.

    Rows and columns are in the order of scipy's `linkage` of the members (None for one member),
    whose tree is drawn beside them. Only values off the diagonal set the range of the shades, as
    members differ little.
    """
    size = len(names)
    figure, (axes, beside) = _table(names, names, TREE)
    beside.set_axis_off()
    order = list(range(size))
    if linkage is not None:
        order = _draw_tree(beside, linkage)
    _set_labels(axes, [names[m] for m in order], [names[m] for m in order])
    values_MM = values_MM[np.ix_(order, order)]
    off_MM = np.where(np.eye(size, dtype=bool), np.nan, values_MM)
    cells = _draw_cells(axes, off_MM, values_MM, *span(off_MM))
    if size > MOST_NUMBERED:
        figure.colorbar(cells, ax=beside, shrink=0.3, anchor=(0, 1))
    return finish(figure, title)


@theme()
def weights_grid(
    members: Sequence[str], outputs: Sequence[str], weights_MK: np.ndarray, title: str
) -> Figure:
    """The weight of every member on every output, the heaviest member on top; zeros stay blank."""
    order = np.argsort(-np.nan_to_num(weights_MK).mean(axis=1), kind="stable")
    shown_MK = np.where(weights_MK > 0, weights_MK, np.nan)[order]
    figure, (axes,) = _table(members, outputs)
    _set_labels(axes, [members[m] for m in order], outputs)
    _draw_cells(axes, shown_MK, shown_MK, 0.0, span(shown_MK)[1])
    return finish(figure, title, "Blank: no weight.")


def _table(
    rows: Sequence[str], columns: Sequence[str], *beside: float
) -> tuple[Figure, list[Axes]]:
    """A figure for a table of nearly square cells; its axes, and further axes of given widths."""
    most = max(len(rows), len(columns))
    cell = float(np.clip(4.6 / most, 0.36 if most <= MOST_NUMBERED else 0.16, 0.8))
    width, height = cell * len(columns), cell * len(rows)
    figure = new_figure(
        breadth(labels(rows)) + width + sum(beside) + 0.4,
        0.7 * breadth(labels(columns)) + height + 0.6,
    )
    ratios = (width, *beside)
    axes = figure.subplots(1, len(ratios), sharey=True, squeeze=False, width_ratios=ratios)[0]
    return figure, list(axes)


def _set_labels(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes.set_xticks(
        np.arange(len(columns)) + 0.5,
        labels(columns),
        rotation=45,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set_yticks(np.arange(len(rows)) + 0.5, labels(rows))
    axes.tick_params(length=0)
    axes.set_ylim(len(rows), 0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _draw_cells(
    axes: Axes, shaded: np.ndarray, numbered: np.ndarray, low: float, high: float
) -> QuadMesh:
    axes.set_facecolor(PALE)  # of undefined cells
    cells = axes.pcolormesh(shaded, cmap="Blues", vmin=low, vmax=high, edgecolors="white")
    if max(shaded.shape) > MOST_NUMBERED:
        return cells
    places = 3 if high - low < 0.2 else 2
    for row, column in np.argwhere(np.isfinite(numbered)):
        dark = (shaded[row, column] - low) / (high - low) > 0.6
        text = _short(numbered[row, column], places)
        colour = "white" if dark else INK
        size = 7.2 if max(shaded.shape) > 10 else 9
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=size, color=colour)
    return cells


def _draw_tree(axes: Axes, linkage: np.ndarray) -> list[int]:
    """Branches growing to the right, each leaf beside its row; the order of the leaves."""
    from scipy.cluster.hierarchy import dendrogram

    tree = dendrogram(linkage, no_plot=True)
    for rows, heights in zip(tree["icoord"], tree["dcoord"], strict=True):
        axes.plot(heights, np.asarray(rows) / 10, color=FAINT, linewidth=1.3)
    axes.set_xlim(left=0)
    return list(tree["leaves"])


def _short(value: float, places: int) -> str:
    """A number without its leading zero, to save space: .975, −.12, 0, 1."""
    if min(abs(value), abs(value - 1)) < 1e-9:
        return f"{value:.0f}"
    text = number(value, places)
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
