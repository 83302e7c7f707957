"""The blend's pictures, as matplotlib figures: save one with `figure.savefig("weights.png")`.

Made without pyplot, so nothing is kept open; a notebook shows a figure that ends a cell once
`%matplotlib inline` has run. Legend: M members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from poolblend.ensembling.blenders import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, PALE = "#1f2933", "#7b8794", "#e9edf0"
BLUE, ORANGE = "#1668a7", "#c8501e"
DPI = 110
INCHES_PER_LETTER = 0.08
VISIBLE = 0.0005


def heat_map(
    names: Sequence[str], corr: np.ndarray, title: str = "Correlation of predictions"
) -> Figure:
    """The members' correlations (M, M), shaded and numbered; an undefined one stays blank.

    The shades span the values off the diagonal: members differ little, and with the ones of the
    diagonal among the shades they would all look alike.
    """
    from matplotlib import colormaps

    size = len(names)
    side = 0.46 * max(size, 6) + INCHES_PER_LETTER * max(map(len, names))
    figure, axes = _canvas(side + 1.3, side + 0.5)
    others_MM = np.where(np.eye(size, dtype=bool), np.nan, corr)
    low, high = _span(others_MM)
    shades = colormaps["Blues"].with_extremes(bad=PALE)
    image = axes.imshow(others_MM, cmap=shades, vmin=low, vmax=high)
    decimals = 3 if high - low < 0.2 else 2
    for row, column in np.argwhere(np.isfinite(corr)):
        shade = (others_MM[row, column] - low) / (high - low)
        axes.text(
            column,
            row,
            "1" if row == column else _short(corr[row, column], decimals),
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if shade > 0.6 else INK,
        )
    axes.set_xticks(range(size), names, rotation=90)
    axes.set_yticks(range(size), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=20, pad=0.02)
    bar.outline.set_visible(False)
    return figure


def optuna_history(history: Sequence[Trial], metric: str = "loss", better: str = "min") -> Figure:
    """Every trial's score, the best so far as a line, and the simpler blends it started from.

    For a metric whose `better` is "max" the losses are turned back into scores. Far worse trials
    are left outside the picture, so that the last small gains can be seen.
    """
    figure, axes = _canvas(8, 4)
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{metric} ({'higher' if better == 'max' else 'lower'} is better)")
    if not history:
        axes.set_title("Nothing was searched", loc="left")
        return figure
    sign = -1.0 if better == "max" else 1.0
    number = np.array([trial.number for trial in history])
    score = sign * np.array([trial.loss for trial in history])
    reached = sign * np.array([trial.best for trial in history])
    started = np.array([trial.source != "search" for trial in history])
    axes.step(number, reached, where="post", color=BLUE, linewidth=1.8, label="best so far")
    axes.scatter(number, score, s=14, color=MUTED, alpha=0.6, linewidths=0, label="trial")
    axes.scatter(
        number[started],
        score[started],
        s=60,
        facecolors="none",
        edgecolors=ORANGE,
        linewidths=1.6,
        label="start: " + ", ".join(trial.source for trial in history if trial.source != "search"),
    )
    axes.set_ylim(*_window(score, reached, better))
    axes.set_title(f"Optuna's search: best {metric} {reached[-1]:.5g}", loc="left")
    axes.grid(axis="y", color=PALE)
    axes.set_axisbelow(True)
    figure.legend(frameon=False, ncols=3, loc="outside lower center")
    return figure


def weights_bar(
    members: Sequence[str], weights_M: np.ndarray, title: str = "Weights of the blend"
) -> Figure:
    """One bar per member, the heaviest on top; those without weight are named in grey."""
    order = np.argsort(weights_M, kind="stable")
    label = INCHES_PER_LETTER * max(map(len, members))
    figure, axes = _canvas(5.5 + label, 0.28 * len(members) + 0.7)
    bars = axes.barh(range(len(order)), weights_M[order], color=BLUE, height=0.7)
    shown = [_short(weight, 3) if weight >= VISIBLE else "" for weight in weights_M[order]]
    axes.bar_label(bars, shown, padding=4, color=INK)
    axes.set_yticks(range(len(order)), [members[m] for m in order])
    for tick, m in zip(axes.get_yticklabels(), order, strict=True):
        tick.set_color(INK if weights_M[m] >= VISIBLE else MUTED)
    axes.set_xlim(0, 1.12 * weights_M.max())
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(title, loc="left")
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _span(values: np.ndarray) -> tuple[float, float]:
    """The least and greatest finite value, a little apart even where all are equal."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high - low > 1e-6 else (low - 0.01, high + 0.01)


def _window(score: np.ndarray, reached: np.ndarray, better: str) -> tuple[float, float]:
    """Limits that hold the best-so-far line and the better four fifths of the trials."""
    worse = np.quantile(score[np.isfinite(score)], 0.2 if better == "max" else 0.8)
    low, high = _span(np.array([*reached, worse]))
    margin = 0.08 * (high - low)
    return low - margin, high + margin


def _short(value: float, decimals: int) -> str:
    """A number without its leading zero, as space is short: .975, -.12, 1.000."""
    return (
        f"{value:.{decimals}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{decimals}f}"
    )
