"""The blend's weights as bars, with how stable they are.

Legend: M members, F folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from poolblend.report.plots.rows import best_first, column, mark, pale_dots, row_axes
from poolblend.report.plots.style import (
    AMBER,
    BLUE,
    INK,
    MUTED,
    head,
    nothing,
    number,
    plain,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VISIBLE = 0.0005


@theme()
def weights_bar(
    members: Sequence[str],
    weights_M: np.ndarray,
    title: str = "Weights of the blend",
    *,
    low: np.ndarray | None = None,
    high: np.ndarray | None = None,
    fold_weights_FM: np.ndarray | None = None,
) -> Figure:
    """One bar per member, the heaviest on top; those without weight are named in grey.

    `low` and `high` (M,) are the 5th and 95th percentile over refits on resampled rows;
    `fold_weights_FM` the weights fitted without each fold.
    """
    if not len(members):
        return nothing(title, "There are no members.")
    weights_M = np.asarray(weights_M, dtype=float)
    order = best_first(weights_M, "max")
    value = weights_M[order]
    figure, (axes,) = row_axes([members[m] for m in order])
    has = np.nan_to_num(value) >= VISIBLE
    axes.barh(range(len(value)), np.nan_to_num(value), color=BLUE, height=0.62, alpha=0.85)
    column(axes, [number(w, 3) if w >= VISIBLE or np.isnan(w) else "" for w in value])
    for tick, heavy in zip(axes.get_yticklabels(), has, strict=True):
        tick.set_color(INK if heavy else MUTED)
    marks, extent = [], [value]
    if fold_weights_FM is not None:
        folds = np.asarray(fold_weights_FM, dtype=float).T[order]
        pale_dots(axes, folds, AMBER)
        marks.append(mark("fitted without one fold", AMBER, 4, line=False))
        extent.append(folds.ravel())
    if low is not None and high is not None:
        ends = np.asarray([low, high], dtype=float)[:, order]
        _intervals(axes, *ends)
        marks.append(mark("5 to 95 % over resampled rows", INK, 0))
        extent.extend(ends)
    axes.set_xlim(0, 1.04 * _greatest(*extent))
    axes.set_xlabel("weight")
    return head(figure, title, "", marks)


@theme()
def importances(
    names: Sequence[str],
    values: np.ndarray,
    title: str = "Which weights the search turned on",
) -> Figure:
    """Bars of the search's parameter importances, the greatest on top."""
    if not len(names):
        return nothing(title, "Too few trials to tell, or all of them scored the same.")
    order = best_first(values, "max")
    value = np.asarray(values, dtype=float)[order]
    figure, (axes,) = row_axes([plain(names[m]) for m in order])
    axes.barh(range(len(value)), np.nan_to_num(value), color=BLUE, height=0.62, alpha=0.85)
    column(axes, [number(v, 2) for v in value])
    axes.set_xlim(0, 1.04 * _greatest(value))
    axes.set_xlabel("share of the scores' variation")
    return head(figure, title)


def _greatest(*values: np.ndarray) -> float:
    flat = np.concatenate(values)
    return float(flat[np.isfinite(flat)].max(initial=0.0)) or 1.0


def _intervals(axes: Axes, low: np.ndarray, high: np.ndarray) -> None:
    whole = np.flatnonzero(np.isfinite(low) & np.isfinite(high))
    axes.hlines(whole, low[whole], high[whole], colors=INK, linewidth=1.3, zorder=3)
