"""Whether probabilities mean what they say.

Legend: N rows, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from poolblend.report.plots.rows import mark
from poolblend.report.plots.style import (
    FAINT,
    canvas,
    dress,
    head,
    labels,
    nothing,
    series,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 4.4


@theme()
def reliability(
    y01_N: np.ndarray,
    probabilities: Mapping[str, np.ndarray],
    bins: int = 10,
    title: str = "Do the probabilities mean what they say?",
) -> Figure:
    """How often the truth is 1 where so much was predicted, and how often so much is predicted.

    `y01_N` holds 0 and 1; `probabilities` maps a name to its (N,). Several classes or labels are
    flattened by the caller. Bins hold about equally many rows; the legend tells the expected
    calibration error.
    """
    from matplotlib.ticker import MaxNLocator

    y01_N = np.asarray(y01_N, dtype=float)
    if not probabilities or not y01_N.size:
        return nothing(title, "There are no probabilities.")
    figure = canvas(SIDE + 0.9, SIDE + 1.7)
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(SIDE, 1))
    dress(curve, "both")
    dress(counts, "x")
    curve.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)
    marks = []
    for number, (name, given) in enumerate(
        zip(labels(list(probabilities)), probabilities.values(), strict=True)
    ):
        colour, shape = series(number)
        given_N = np.asarray(given, dtype=float)
        error = expected_calibration_error(y01_N, given_N, bins)
        _draw(curve, counts, y01_N, given_N, bins, colour, shape)
        said = f"{error:.3f}" if np.isfinite(error) else "undefined"
        marks.append(mark(f"{name}, calibration error {said}", colour, 5, shape=shape))
    curve.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share of rows that are 1")
    counts.set(ylabel="rows", xlabel="probability predicted")
    counts.set_ylim(bottom=0)
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return head(figure, title, "On the dashed line: exactly as often as predicted.", marks)


def expected_calibration_error(y01_N: np.ndarray, given_N: np.ndarray, bins: int = 10) -> float:
    """Mean distance of predicted and true share over the bins, weighted by rows (ECE).

    Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning", AAAI 2015, with bins of equal counts. NaN without a finite probability.
    """
    rows_B, given_B, true_B = _binned(y01_N, given_N, bins)
    return float(np.average(np.abs(given_B - true_B), weights=rows_B)) if rows_B.size else np.nan


def _binned(
    y01_N: np.ndarray, given_N: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, mean probability and share of ones of each bin (B,); equal values stay together."""
    known = np.isfinite(given_N) & np.isfinite(y01_N)
    truth, given = y01_N[known], given_N[known]
    if not given.size:
        return np.array([]), np.array([]), np.array([])
    inner = np.quantile(given, np.linspace(0, 1, bins + 1)[1:-1])
    _, bin_N = np.unique(np.searchsorted(inner, given, side="left"), return_inverse=True)
    rows_B = np.bincount(bin_N)
    return (
        rows_B,
        np.bincount(bin_N, given) / rows_B,
        np.bincount(bin_N, truth) / rows_B,
    )


def _draw(
    curve: Axes,
    counts: Axes,
    y01_N: np.ndarray,
    given_N: np.ndarray,
    bins: int,
    colour: str,
    shape: str,
) -> None:
    rows_B, given_B, true_B = _binned(y01_N, given_N, bins)
    if not rows_B.size:
        return
    # Wilson's interval: it stays inside 0 and 1, and has a width where all rows agree.
    z = 1.96
    centre_B = (true_B + z**2 / (2 * rows_B)) / (1 + z**2 / rows_B)
    half_B = (
        z * np.sqrt(true_B * (1 - true_B) / rows_B + (z / (2 * rows_B)) ** 2) / (1 + z**2 / rows_B)
    )
    curve.vlines(given_B, centre_B - half_B, centre_B + half_B, colors=colour, alpha=0.35)
    curve.plot(given_B, true_B, color=colour, marker=shape, markersize=5, linewidth=1.5)
    heights, edges = np.histogram(given_N[np.isfinite(given_N)], bins=25, range=(0, 1))
    counts.stairs(heights, edges, color=colour, linewidth=1.4)
