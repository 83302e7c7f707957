"""Metrics by name: one function (y_true, y_pred) -> float under one `@register`.

To add one, write it in any module of this folder. That puts it into `--help`, the config's choices,
the table of docs/config.md and the laws of tests/competition/test_metrics.py.

The first line of its docstring is shown in `--help`. y_true is as `Task.encode` returns it, or with
`by_value` ordinal classes as `Task.steps_C`. With inputs="labels", y_pred has the same shape; with
inputs="scores" it holds the predictions, a vector for binary. Metrics are written in NumPy because
a blend computes tens of thousands of scores; tests compare each with scikit-learn's.
"""

import importlib
import pkgutil

from poolblend.competition.metrics.scorer import (
    METRICS,
    Counts,
    Metric,
    Scorer,
    UndefinedScoreError,
    make_scorer,
    register,
)
from poolblend.competition.metrics.scores import SMALLEST_PROBABILITY

__all__ = [
    "METRICS",
    "SMALLEST_PROBABILITY",
    "Counts",
    "Metric",
    "Scorer",
    "UndefinedScoreError",
    "make_scorer",
    "register",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
