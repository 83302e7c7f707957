"""Optuna's search, trial by trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from poolblend.report.plots.style import (
    BLUE,
    MUTED,
    ORANGE,
    axis_label,
    decimals,
    finish,
    new_figure,
    number,
    span,
    theme,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from poolblend.ensembling.problem import Trial


@theme()
def search(trials: Sequence[Trial], metric: str, better: str, title: str) -> Figure:
    """The score of each trial, the best so far as a line, and the simpler blends at the start.

    If `better` is "max", scores are negative losses. Much worse trials are outside the picture, so
    that small gains are visible; the note counts them.
    """
    sign = -1.0 if better == "max" else 1.0
    loss, best_loss = np.array([(trial.loss, trial.best) for trial in trials]).T
    score = sign * np.where(np.isfinite(loss), loss, np.nan)
    best = sign * np.where(np.isfinite(best_loss), best_loss, np.nan)
    place = np.array([trial.number for trial in trials])
    started = np.array([trial.source != "search" for trial in trials])
    first = int(np.argmax(best == best[-1]))
    figure = new_figure(7.6, 4.4)
    axes = figure.add_subplot()
    axes.grid(visible=False)
    axes.grid(axis="y")
    axes.step(place, best, where="post", color=BLUE, linewidth=1.8, label="best so far")
    axes.scatter(place, score, s=14, color=MUTED, alpha=0.55, linewidths=0, label="trial")
    hollow: dict[str, Any] = {"facecolors": "none", "edgecolors": ORANGE, "linewidths": 1.6}
    label = "start, a simpler blend"
    axes.scatter(place[started], score[started], s=52, label=label, **hollow)
    axes.scatter(place[first], best[first], s=46, color=BLUE, zorder=4)
    low, high = _window(score, best)
    axes.set_ylim(low, high)
    axes.set_xlabel("trial")
    axes.set_ylabel(axis_label(metric, better).replace("→", "↑").replace("←", "↓"))
    outside = int((~((score >= low) & (score <= high))).sum())
    found = number(best[-1], max(decimals(low, high), 4))
    return finish(figure, f"{title}: best {found}", _note(trials, first, outside))


def _note(trials: Sequence[Trial], first: int, outside: int) -> str:
    found = trials[first]
    if not np.isfinite(found.loss):
        return f"None of {len(trials)} trials has a score."
    note = f"Best trial: {found.number} of {len(trials)}"
    if found.source != "search":
        note += f", the start point {found.source}"
    starts = ", ".join(trial.source for trial in trials if trial.source != "search")
    note += f". Start points: {starts}." if starts else "."
    return note + (f" Outside the picture (much worse): {outside}." if outside else "")


def _window(score: np.ndarray, best: np.ndarray) -> tuple[float, float]:
    """Limits for the best-so-far line and all trials but the much worse ones.

    These are more than four times as far from the best score as the median trial.
    """
    distance = np.abs(score - best[-1])
    finite = distance[np.isfinite(distance)]
    near = distance <= 4 * np.median(finite) if finite.size else distance < 0
    low, high = span(best, score[near])
    margin = 0.08 * (high - low)
    return low - margin, high + margin
