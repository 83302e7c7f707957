"""The blend's pictures: plain arrays in, a matplotlib figure out; `save` writes PNG and SVG.

Made without pyplot, so nothing is kept open; a notebook shows a figure that ends a cell once
`%matplotlib inline` has run. What is undefined is NaN here, and said in the picture.
"""

from __future__ import annotations

from poolblend.report.plots.history import optuna_history
from poolblend.report.plots.intervals import leave_one_out, member_scores, optimism
from poolblend.report.plots.maps import heat_map, weights_grid
from poolblend.report.plots.reliability import expected_calibration_error, reliability
from poolblend.report.plots.saving import save
from poolblend.report.plots.slices import slices
from poolblend.report.plots.weights import importances, weights_bar

__all__ = [
    "expected_calibration_error",
    "heat_map",
    "importances",
    "leave_one_out",
    "member_scores",
    "optimism",
    "optuna_history",
    "reliability",
    "save",
    "slices",
    "weights_bar",
    "weights_grid",
]
