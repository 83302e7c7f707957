"""Scores and gains with their intervals: members, blenders, and what each member brings.

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
    frame,
    mark,
    pale_dots,
    row_axes,
    rule,
)
from poolblend.report.plots.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    ORANGE,
    decimals,
    head,
    nothing,
    number,
    plain,
    theme,
    towards,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@theme()
def member_scores(
    names: Sequence[str],
    score: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    metric: str,
    better: str,
    *,
    fold_scores_MF: np.ndarray | None = None,
    reference: float | None = None,
    reference_name: str = "the blend, honest",
    title: str = "What each member scores",
) -> Figure:
    """Every member's score (M,) with its interval, the best on top; pale dots are its folds.

    `better` is "max" or "min"; `reference` draws a line, such as the blend's honest score.
    """
    if not len(names):
        return nothing(title, "There are no members.")
    order = best_first(score, better)
    score, low, high = (np.asarray(v, dtype=float)[order] for v in (score, low, high))
    folds = np.full((len(order), 0), np.nan)
    if fold_scores_MF is not None:
        folds = np.asarray(fold_scores_MF, dtype=float)[order]
    figure, (axes,) = row_axes([names[m] for m in order])
    line = np.nan if reference is None else float(reference)
    frame(axes, score, low, high, folds, line)
    pale_dots(axes, folds)
    dots(axes, score, low, high, [BLUE] * len(order))
    places = decimals(score, low, high)
    column(axes, [number(value, places) for value in score])
    marks = [mark("all rows, 95 % interval", BLUE)]
    if folds.size:
        marks.append(mark("one fold", FAINT, 3.6, line=False))
    if np.isfinite(line):
        marks.append(rule(axes, line, f"{reference_name} {number(line, places)}"))
    axes.set_xlabel(towards(plain(metric), better))
    return head(figure, title, "", marks)


@theme()
def optimism(
    names: Sequence[str],
    in_sample: np.ndarray,
    honest: np.ndarray,
    metric: str,
    better: str,
    *,
    chosen: str | None = None,
    gain: np.ndarray | None = None,
    low: np.ndarray | None = None,
    high: np.ndarray | None = None,
    over: str = "best member",
    reference: float | None = None,
    reference_name: str = "best member",
    title: str = "What the blends score, in-sample and honestly",
) -> Figure:
    """Every blender's score (B,) on the rows it was fitted on, and on rows it had not seen.

    In the order given. With `gain`, `low` and `high` (B,), positive for better, a second panel
    shows the honest gain over `over`; `chosen` names the row to mark.
    """
    if not len(names):
        return nothing(title, "No blend was fitted.")
    in_sample, honest = (np.asarray(v, dtype=float) for v in (in_sample, honest))
    panels = (PANEL,) if gain is None else (PANEL, 0.62 * PANEL)
    figure, (axes, *others) = row_axes(names, panels, 0.9 * len(panels))
    line = np.nan if reference is None else float(reference)
    frame(axes, in_sample, honest, line)
    worse = honest - in_sample if better == "min" else in_sample - honest
    _dumbbells(axes, in_sample, honest)
    places = decimals(in_sample, honest)
    column(axes, [number(v, places, signed=True) for v in worse], "optimism")
    marks = [
        mark("in-sample", MUTED, hollow=True, line=False),
        mark("honest", BLUE, line=False),
    ]
    if np.isfinite(line):
        marks.append(rule(axes, line, f"{reference_name} {number(line, places)}"))
    axes.set_xlabel(towards(plain(metric), better))
    for panel in others:
        gains(panel, gain, low, high)
        panel.set_xlabel(f"honest gain over {plain(over)}")
    if chosen is not None and chosen in names:
        emphasise(axes, list(names).index(chosen))
    return head(figure, title, f"Chosen: {chosen}." if chosen else "", marks)


@theme()
def leave_one_out(
    names: Sequence[str],
    value: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    metric: str,
    *,
    title: str = "What the blend loses without each member",
) -> Figure:
    """What the blend loses without a member (M,), in the metric's units, positive where it helps.

    The most helpful is on top; the colour says whether the 95 % interval clears zero.
    """
    if not len(names):
        return nothing(title, "With one member there is nothing to leave out.")
    order = best_first(value, "max")
    figure, (axes,) = row_axes([names[m] for m in order])
    gains(axes, *(np.asarray(v, dtype=float)[order] for v in (value, low, high)))
    axes.set_xlabel(f"{plain(metric)} lost without the member  (it helps →)")
    marks = [
        mark("helps", BLUE),
        mark("nothing that these rows can show", MUTED),
        mark("harms", ORANGE),
    ]
    return head(figure, title, "", marks)


def gains(axes: Axes, value: Any, low: Any, high: Any) -> None:
    """Dots with intervals around a line at zero, coloured by whether the interval clears it."""
    value, low, high = (
        np.full(len(value), np.nan) if v is None else np.asarray(v, dtype=float)
        for v in (value, low, high)
    )
    colours = np.where(low > 0, BLUE, np.where(high < 0, ORANGE, MUTED))
    frame(axes, value, low, high, 0.0)
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    dots(axes, value, low, high, colours.tolist())
    places = decimals(value, low, high, 0.0)
    column(axes, [number(v, places, signed=True) for v in value])


def _dumbbells(axes: Axes, start: np.ndarray, end: np.ndarray) -> None:
    both = np.flatnonzero(np.isfinite(start) & np.isfinite(end))
    left, right = axes.get_xlim()
    for row in both:
        if abs(end[row] - start[row]) > 0.035 * (right - left):  # else the dots hide it
            axes.annotate(
                "",
                (end[row], row),
                (start[row], row),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": FAINT,
                    "linewidth": 2,
                    "shrinkA": 3,
                    "shrinkB": 4,
                },
            )
    known = np.flatnonzero(np.isfinite(start))
    axes.scatter(start[known], known, s=38, c="white", edgecolors=MUTED, linewidths=1.5, zorder=3)
    known = np.flatnonzero(np.isfinite(end))
    axes.scatter(end[known], known, s=38, c=BLUE, zorder=4)
