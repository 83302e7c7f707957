"""Shaded tables: how alike the members are, and their weights on each output.

Legend: M members, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from poolblend.report.plots.style import (
    FAINT,
    FONT,
    INK,
    PALE,
    ROUND_STEPS,
    SIZE,
    SMALL,
    breadth,
    canvas,
    head,
    labels,
    nothing,
    number,
    span,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

TREE = 0.9
MOST_NUMBERED = 40
SLANT = 45


@theme()
def heat_map(
    names: Sequence[str],
    values_MM: np.ndarray,
    title: str = "Correlation of predictions",
    *,
    linkage: np.ndarray | None = None,
) -> Figure:
    """A table of pairs of members (M, M), shaded and numbered; an undefined one stays blank.

    With scipy's `linkage` of the members, in the order of names, rows and columns follow its
    leaves and its tree stands beside them. The shades span the values off the diagonal: members
    differ little, and with the diagonal among the shades they would all look alike.
    """
    size = len(names)
    if not size:
        return nothing(title, "There are no members.")
    values_MM = np.asarray(values_MM, dtype=float)
    tree = None if linkage is None or size < 2 else _tree(linkage)
    if tree is not None:
        names = [names[m] for m in tree["leaves"]]
        values_MM = values_MM[np.ix_(tree["leaves"], tree["leaves"])]
    off_MM = np.where(np.eye(size, dtype=bool), np.nan, values_MM)
    figure, axes, cell = _table_axes(
        names, names, beside=TREE * (tree is not None) + 0.95 * (size > 2)
    )
    image = _cells(axes, off_MM, values_MM, span(off_MM), cell)
    side = size * cell
    if tree is not None:
        _draw_tree(axes.inset_axes((1 + 0.06 / side, 0, (TREE - 0.1) / side, 1)), tree, size)
    if size > 2 and np.isfinite(off_MM).any():
        left = 1 + (0.15 + TREE * (tree is not None)) / side
        _colour_bar(axes, image, left, cell, size)
    return head(figure, title)


@theme()
def weights_grid(
    members: Sequence[str],
    outputs: Sequence[str],
    weights_MK: np.ndarray,
    title: str = "Weights of the blend, per output",
) -> Figure:
    """The weight of every member on every output (M, K), the heaviest member on top.

    A weight of zero is left blank.
    """
    if not len(members):
        return nothing(title, "There are no members.")
    weights_MK = np.asarray(weights_MK, dtype=float)
    order = np.argsort(-np.nan_to_num(weights_MK).mean(axis=1), kind="stable")
    shown_MK = np.where(weights_MK > 0, weights_MK, np.nan)[order]
    figure, axes, cell = _table_axes([members[m] for m in order], outputs, beside=0.2)
    _cells(axes, shown_MK, shown_MK, (0.0, span(shown_MK)[1]), cell)
    return head(figure, title, "Blank: no weight.")


def _table_axes(
    rows: Sequence[str], columns: Sequence[str], beside: float
) -> tuple[Figure, Axes, float]:
    """A canvas for a table of square cells, its axes, and a cell's side in inches."""
    most = max(len(rows), len(columns))
    cell = float(np.clip(4.6 / most, 0.36 if most <= MOST_NUMBERED else 0.16, 0.8))
    left, below = labels(rows), labels(columns)
    figure = canvas(
        max(breadth(left) + cell * len(columns) + beside + 0.4, 4.2),
        cell * len(rows) + 0.75 * breadth(below) + 0.5,
    )
    axes = figure.add_subplot(anchor="NW")
    axes.set_xticks(range(len(columns)), below)
    axes.set_yticks(range(len(rows)), left)
    axes.tick_params(length=0, labelsize=SIZE, labelcolor=INK, labelfontfamily=FONT)
    for tick in axes.get_xticklabels():
        tick.set(rotation=SLANT, ha="right", va="top", rotation_mode="anchor")
    axes.spines[:].set_visible(False)
    return figure, axes, cell


def _cells(
    axes: Axes,
    shaded: np.ndarray,
    numbered: np.ndarray,
    limits: tuple[float, float],
    cell: float,
) -> AxesImage:
    from matplotlib import colormaps

    low, high = limits
    shades = colormaps["Blues"].with_extremes(bad=PALE)
    image = axes.imshow(shaded, cmap=shades, vmin=low, vmax=high)
    n_rows, n_columns = shaded.shape
    gaps = [np.arange(count + 1) - 0.5 for count in (n_columns, n_rows)]
    axes.hlines(gaps[1], -0.5, n_columns - 0.5, colors="white", linewidth=1)
    axes.vlines(gaps[0], -0.5, n_rows - 0.5, colors="white", linewidth=1)
    axes.set(xlim=(-0.5, n_columns - 0.5), ylim=(n_rows - 0.5, -0.5))
    if max(n_rows, n_columns) > MOST_NUMBERED:
        return image
    decimals = 3 if high - low < 0.2 else 2
    for row, column in np.argwhere(np.isfinite(numbered)):
        dark = (shaded[row, column] - low) / (high - low) > 0.6
        axes.text(
            column,
            row,
            _short(numbered[row, column], decimals),
            ha="center",
            va="center",
            fontsize=7.2 if cell < 0.5 else SIZE,
            color="white" if dark else INK,
        )
    return image


def _tree(linkage: np.ndarray) -> dict[str, list]:
    from scipy.cluster.hierarchy import dendrogram

    return dendrogram(linkage, no_plot=True)


def _draw_tree(axes: Axes, tree: dict[str, list], size: int) -> None:
    """Branches growing to the right, each leaf level with its row."""
    for rows, heights in zip(tree["icoord"], tree["dcoord"], strict=True):
        axes.plot(heights, (np.asarray(rows) - 5) / 10, color=FAINT, linewidth=1.3)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_xlim(0, span(0, tree["dcoord"])[1] * 1.02)
    axes.set_axis_off()


def _colour_bar(axes: Axes, image: AxesImage, left: float, cell: float, size: int) -> None:
    from matplotlib.ticker import MaxNLocator

    side = size * cell
    length = min(2.2, side)
    inset = axes.inset_axes((left, 1 - length / side, 0.12 / side, length / side))
    bar = axes.figure.colorbar(image, cax=inset)
    bar.locator = MaxNLocator(5, steps=ROUND_STEPS)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=SMALL, length=0, labelcolor=INK, labelfontfamily=FONT)


def _short(value: float, decimals: int) -> str:
    """A number without its leading zero, as space is short: .975, −.12; 0 and 1 as they are."""
    if min(abs(value), abs(value - 1)) < 1e-9:
        return f"{value:.0f}"
    text = number(value, decimals)
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
