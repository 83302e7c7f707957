"""Optuna's search, trial by trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from poolblend.report.plots.rows import mark
from poolblend.report.plots.style import (
    BLUE,
    MUTED,
    ORANGE,
    canvas,
    decimals,
    dress,
    head,
    nothing,
    number,
    plain,
    span,
    theme,
    towards,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from poolblend.ensembling.problem import Trial


@theme()
def optuna_history(
    history: Sequence[Trial],
    metric: str = "loss",
    better: str = "min",
    title: str = "Optuna's search",
) -> Figure:
    """Every trial's score, the best so far as a line, and the simpler blends it started from.

    For a metric whose `better` is "max" the losses are turned back into scores. Far worse trials
    are left outside the picture, so that the last small gains can be seen; the note counts them.
    """
    if not history:
        return nothing(title, "Nothing was searched.")
    sign = -1.0 if better == "max" else 1.0
    place = np.array([trial.number for trial in history])
    score = sign * _finite([trial.loss for trial in history])
    reached = sign * _finite([trial.best for trial in history])
    started = np.array([trial.source != "search" for trial in history])
    figure = canvas(7.6, 3.7)
    axes = figure.add_subplot()
    dress(axes, "y")
    axes.step(place, reached, where="post", color=BLUE, linewidth=1.8)
    axes.scatter(place, score, s=14, color=MUTED, alpha=0.55, linewidths=0)
    axes.scatter(
        place[started], score[started], s=52, facecolors="none", edgecolors=ORANGE, linewidths=1.6
    )
    low, high = _window(score, reached)
    axes.set_ylim(low, high)
    axes.set_xlabel("trial")
    axes.set_ylabel(towards(plain(metric), better).replace("→", "↑").replace("←", "↓"))
    first = int(np.argmax(reached == reached[-1]))
    axes.scatter(place[first], reached[first], s=46, color=BLUE, zorder=4)
    outside = int((~((score >= low) & (score <= high))).sum())
    best = number(reached[-1], max(decimals(low, high), 4))
    marks = [
        mark("best so far", BLUE, 0),
        mark("trial", MUTED, 4, line=False),
        mark("start, a simpler blend", ORANGE, 7, line=False, hollow=True),
    ]
    return head(figure, f"{title}: best {best}", _note(history, first, outside), marks)


def _finite(losses: Sequence[float]) -> np.ndarray:
    return np.where(np.isfinite(losses), losses, np.nan)


def _note(history: Sequence[Trial], first: int, outside: int) -> str:
    if not np.isfinite(history[first].loss):
        return f"None of {len(history)} trials has a score."
    starts = ", ".join(trial.source for trial in history if trial.source != "search")
    found = f"Found at trial {history[first].number} of {len(history)}"
    if history[first].source != "search":
        found += f", a start: {history[first].source}"
    note = f"{found}. Started from {starts}." if starts else f"{found}."
    return note + (f" Far worse, outside the picture: {outside}." if outside else "")


def _window(score: np.ndarray, reached: np.ndarray) -> tuple[float, float]:
    """Limits that hold the best-so-far line and every trial but the far worse.

    Those are more than four times as far from the best as the median trial is.
    """
    distance = np.abs(score - reached[-1])
    finite = distance[np.isfinite(distance)]
    near = distance <= 4 * np.median(finite) if finite.size else distance < 0
    low, high = span(reached, score[near])
    margin = 0.08 * (high - low)
    return low - margin, high + margin
