"""Metrics by name: one function (y_true, y_pred) -> float under one `@register`.

Its docstring's first line is what `--help` shows. It sees y as `Task.encode` writes it, or with
`by_value` ordinal classes as `Task.steps_C`. With takes="labels", y_pred is of the same shape; with
takes="scores" it is the predictions themselves, a vector for binary. They are written out in NumPy,
since a blend asks for tens of thousands of scores; the tests hold each equal to scikit-learn's.
"""

from poolblend.competition.metrics import labels, scores  # noqa: F401
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
