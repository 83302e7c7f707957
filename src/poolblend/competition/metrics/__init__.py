"""Metrics by name: one function (y_true, y_pred) -> float under one `@register`.

To add one, write it in any module of this folder. That puts it into `--help`, the config's choices,
the README's table and the laws of tests/competition/test_metrics.py.

Its docstring's first line is what `--help` shows. It sees y as `Task.encode` writes it, or with
`by_value` ordinal classes as `Task.steps_C`. With takes="labels", y_pred is of the same shape; with
takes="scores" it is the predictions themselves, a vector for binary. They are written out in NumPy,
since a blend asks for tens of thousands of scores; the tests hold each equal to scikit-learn's.
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
