"""Scores and gains with their intervals: of members, of blenders, without a member, per slice.

Legend: M members, B blenders, F folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from poolblend.report.plots.rows import (
    PANEL,
    best_first,
    column,
    dots,
    emphasise,
    gains,
    reference_line,
    row_axes,
    small_dots,
)
from poolblend.report.plots.style import (
    BLUE,
    FAINT,
    MUTED,
    ORANGE,
    axis_label,
    decimals,
    finish,
    labels,
    legend_label,
    number,
    plain,
    series,
    theme,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

GAIN = ["gain", "low", "high"]
TWO_PANELS = (PANEL, 0.62 * PANEL)


@theme()
def member_scores(
    names: Sequence[str],
    score_3M: np.ndarray,
    fold_scores_MF: np.ndarray,
    metric: str,
    better: str,
    *,
    blend: float = np.nan,
) -> Figure:
    """The members' scores with their intervals, the best on top; pale dots are scores of folds.

    `score_3M` is the score and the ends of its interval; `better` is "max" or "min"; `blend`, the
    blend's honest score, is drawn as a line.
    """
    order = best_first(score_3M[0], better)
    score_M, low_M, high_M = score_3M[:, order]
    figure, (axes,) = row_axes([names[m] for m in order])
    dots(axes, np.arange(len(order)), score_M, low_M, high_M, BLUE, "all rows, 95 % interval")
    small_dots(axes, fold_scores_MF[order], FAINT, "one fold")
    places = decimals(score_M, low_M, high_M)
    column(axes, [number(value, places) for value in score_M])
    reference_line(axes, blend, f"the blend, honest {number(blend, places)}")
    axes.set_xlabel(axis_label(metric, better))
    return finish(figure, "What each member scores")


@theme()
def blender_scores(
    names: Sequence[str],
    in_sample_B: np.ndarray,
    honest_B: np.ndarray,
    gain_3B: np.ndarray,
    metric: str,
    better: str,
    *,
    chosen: str,
    best_member: float,
) -> Figure:
    """The two scores of each blender, and in a second panel its gain over the best member.

    `gain_3B` is the gain, positive for better, and the ends of its interval.
    """
    figure, (axes, beside) = row_axes(names, TWO_PANELS)
    rows = np.arange(len(names))
    known = np.isfinite(in_sample_B) & np.isfinite(honest_B)
    axes.hlines(rows[known], in_sample_B[known], honest_B[known], color=FAINT, linewidth=2)
    hollow: dict[str, Any] = {"facecolors": "white", "edgecolors": MUTED, "linewidths": 1.5}
    axes.scatter(in_sample_B, rows, s=38, zorder=3, label="in-sample", **hollow)
    axes.scatter(honest_B, rows, s=38, zorder=4, color=BLUE, label="honest")
    places = decimals(in_sample_B, honest_B)
    optimism_B = (honest_B - in_sample_B) * (1 if better == "min" else -1)
    column(axes, [number(value, places, signed=True) for value in optimism_B], "optimism")
    reference_line(axes, best_member, f"best member, honest {number(best_member, places)}")
    axes.set_xlabel(axis_label(metric, better))
    gains(beside, gain_3B)
    beside.set_xlabel("honest gain over best member")
    emphasise(axes, list(names).index(chosen))
    title = "What the blends score, in-sample and honestly"
    return finish(figure, title, f"Chosen: {chosen}.")


@theme()
def losses_without(
    names: Sequence[str], loss_3M: np.ndarray, metric: str, *, blender: str
) -> Figure:
    """The loss of the blend without each member, the most helpful member on top.

    `loss_3M` is the loss in the metric's units, positive if the member helps, and the ends of its
    interval; the colour shows whether the interval excludes zero.
    """
    order = best_first(loss_3M[0], "max")
    figure, (axes,) = row_axes([names[m] for m in order])
    gains(axes, loss_3M[:, order], ("helps", "unclear from these rows", "harms"))
    axes.set_xlabel(f"{plain(metric)} lost without the member  (it helps →)")
    return finish(figure, f"What the {blender} blend loses without each member")


@theme()
def slices(table: pd.DataFrame, metric: str, better: str, *, column_name: str, over: str) -> Figure:
    """Scores in each slice, and the gain of the last prediction over `over`.

    `table` comes from `slice_table`: index slice; rows, a column of scores per prediction, and
    gain, low, high, positive for better. The slice with the worst score of the last prediction is
    marked.
    """
    names = [name for name in table.columns if name not in ("rows", *GAIN)]
    score_PS = table[names].to_numpy(float).T
    figure, (axes, beside) = row_axes(list(map(str, table.index)), TWO_PANELS)
    rows = np.arange(len(table))
    known = np.flatnonzero(np.isfinite(score_PS).any(axis=0))
    ends = np.nanmin(score_PS[:, known], axis=0), np.nanmax(score_PS[:, known], axis=0)
    axes.hlines(known, *ends, color=FAINT, linewidth=1.6, zorder=1)
    for n, (name, score_S) in enumerate(zip(labels(names), score_PS, strict=True)):
        axes.scatter(score_S, rows, s=36, zorder=3 + n, label=legend_label(name), **series(n))
    axes.set_xlabel(axis_label(metric, better))
    whole = np.isfinite(score_PS[-1])
    counts = [f"{count:,.0f}" for count in table["rows"]]
    column(
        axes, [c if ok else f"{c}, undefined" for c, ok in zip(counts, whole, strict=True)], "rows"
    )
    gains(beside, table[GAIN].to_numpy(float).T)
    beside.set_xlabel(f"gain over {plain(over)}")
    note = ""
    if whole.sum() > 1:
        worst = np.nanargmin(score_PS[-1] * (1 if better == "max" else -1))
        emphasise(axes, int(worst), ORANGE)
        note = f"Shaded: the slice on which {names[-1]} scores worst."
    return finish(figure, f"Scores by {column_name}", note)
