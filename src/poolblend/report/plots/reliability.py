"""Reliability curves of predicted probabilities.

Legend: N rows, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from poolblend.report.plots.style import (
    FAINT,
    finish,
    labels,
    legend_label,
    new_figure,
    number,
    series,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 10


class Bins(NamedTuple):
    """Rows, mean probability and share of ones of each bin."""

    rows_B: np.ndarray
    given_B: np.ndarray
    true_B: np.ndarray


@theme()
def reliability(y01_N: np.ndarray, probabilities: Mapping[str, np.ndarray], title: str) -> Figure:
    """The share of ones for each predicted probability, and a histogram of the probabilities.

    `y01_N` holds 0 and 1; `probabilities` has an array (N,) for each name. The caller flattens
    several classes or labels. Bins have nearly equal numbers of rows; the legend has the expected
    calibration error.
    """
    figure = new_figure(5.3, 6.6)
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4.4, 1))
    curve.grid(axis="y")
    curve.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle="--", zorder=1)
    shown = labels(list(probabilities))
    for n, (name, given_N) in enumerate(zip(shown, probabilities.values(), strict=True)):
        line_style = series(n)
        error = number(expected_calibration_error(y01_N, given_N), 3)
        bins = _binned(y01_N, given_N)
        label = legend_label(f"{name}, calibration error {error}")
        curve.plot(bins.given_B, bins.true_B, markersize=5, label=label, **line_style)
        if len(bins.rows_B):
            curve.vlines(bins.given_B, *_wilson(bins), color=line_style["color"], alpha=0.35)
            heights, edges = np.histogram(given_N[np.isfinite(given_N)], bins=25, range=(0, 1))
            counts.stairs(heights, edges, color=line_style["color"], linewidth=1.4)
    curve.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share of rows that are 1")
    counts.set(ylabel="rows", xlabel="predicted probability")
    counts.locator_params(axis="y", nbins=3, integer=True)
    return finish(figure, title, "Dashed line: perfect calibration.")


def expected_calibration_error(y01_N: np.ndarray, given_N: np.ndarray, bins: int = BINS) -> float:
    """Mean distance of predicted and true share over the bins, weighted by rows (ECE).

    Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning", AAAI 2015, with bins of equal counts. NaN without a finite probability.
    """
    rows_B, given_B, true_B = _binned(y01_N, given_N, bins)
    return float(np.average(np.abs(given_B - true_B), weights=rows_B)) if rows_B.size else np.nan


def _binned(y01_N: np.ndarray, given_N: np.ndarray, bins: int = BINS) -> Bins:
    """Bins of nearly equal numbers of rows; equal probabilities are in one bin."""
    known = np.isfinite(given_N)
    truth, given = y01_N[known].astype(float), given_N[known]
    if not given.size:
        return Bins(*np.empty((3, 0)))
    inner = np.quantile(given, np.linspace(0, 1, bins + 1)[1:-1])
    _, bin_N = np.unique(np.searchsorted(inner, given, side="left"), return_inverse=True)
    rows_B = np.bincount(bin_N)
    return Bins(rows_B, np.bincount(bin_N, given) / rows_B, np.bincount(bin_N, truth) / rows_B)


def _wilson(bins: Bins) -> tuple[np.ndarray, np.ndarray]:
    """95 % Wilson intervals of the shares."""
    rows_B, share_B, z = bins.rows_B, bins.true_B, 1.96
    scale_B = 1 + z**2 / rows_B
    centre_B = (share_B + z**2 / (2 * rows_B)) / scale_B
    half_B = z * np.sqrt(share_B * (1 - share_B) / rows_B + (z / (2 * rows_B)) ** 2) / scale_B
    return centre_B - half_B, centre_B + half_B
