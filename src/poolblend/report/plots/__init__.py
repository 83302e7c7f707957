"""The pictures of a blend: arrays in, a matplotlib figure out; `save` writes PNG and SVG.

Made without pyplot, so that no figure is kept open. An undefined number is NaN, and the picture
says "undefined" or leaves its place blank.
"""

from __future__ import annotations

from poolblend.report.plots.maps import heat_map, weights_grid
from poolblend.report.plots.reliability import expected_calibration_error, reliability
from poolblend.report.plots.scores import blender_scores, losses_without, member_scores, slices
from poolblend.report.plots.search import search
from poolblend.report.plots.seconds import score_against_seconds
from poolblend.report.plots.style import nothing, save, to_svg
from poolblend.report.plots.weights import importances, weights

__all__ = [
    "blender_scores",
    "expected_calibration_error",
    "heat_map",
    "importances",
    "losses_without",
    "member_scores",
    "nothing",
    "reliability",
    "save",
    "score_against_seconds",
    "search",
    "slices",
    "to_svg",
    "weights",
    "weights_grid",
]
