"""The blend's weights with their stability, and the importance of weights in a search.

Legend: M members, F folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from poolblend.report.plots.rows import best_first, column, row_axes, small_dots
from poolblend.report.plots.style import AMBER, BLUE, INK, finish, number, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VISIBLE = 0.0005


@theme()
def weights(
    members: Sequence[str],
    weights_M: np.ndarray,
    low_M: np.ndarray,
    high_M: np.ndarray,
    fold_weights_FM: np.ndarray,
    title: str,
) -> Figure:
    """One bar per member, the heaviest on top; a weight of zero has no number.

    `low_M` and `high_M` are the 5th and 95th percentile over fits on resampled rows;
    `fold_weights_FM` the weights fitted without each fold.
    """
    order = best_first(weights_M, "max")
    value_M, low_M, high_M = weights_M[order], low_M[order], high_M[order]
    figure, (axes,) = row_axes([members[m] for m in order])
    _bars(axes, value_M)
    column(axes, [number(w, 3) if w >= VISIBLE or np.isnan(w) else "" for w in value_M])
    if len(fold_weights_FM):
        small_dots(axes, fold_weights_FM.T[order], AMBER, "fitted without one fold")
    rows = np.flatnonzero(np.isfinite(low_M) & np.isfinite(high_M))
    label = "fitted on resampled rows, 5 to 95 %"
    axes.hlines(rows, low_M[rows], high_M[rows], color=INK, linewidth=1.3, zorder=3, label=label)
    axes.set_xlim(left=0)
    axes.set_xlabel("weight")
    return finish(figure, title)


@theme()
def importances(names: Sequence[str], share_M: np.ndarray, title: str) -> Figure:
    """The importances of the search's parameters as bars, the greatest on top."""
    order = best_first(share_M, "max")
    figure, (axes,) = row_axes([names[m] for m in order])
    _bars(axes, share_M[order])
    column(axes, [number(value, 2) for value in share_M[order]])
    axes.set_xlim(left=0)
    axes.set_xlabel("share of the scores' variation")
    return finish(figure, title)


def _bars(axes: Axes, value_M: np.ndarray) -> None:
    axes.barh(range(len(value_M)), np.nan_to_num(value_M), color=BLUE, height=0.62, alpha=0.85)
