"""The pictures hold every name and number inside their edges, for few members and for many."""

from __future__ import annotations

import io
import math
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from poolblend.ensembling.blenders import Trial
from poolblend.plots import heat_map, optuna_history, weights_bar

RNG = np.random.default_rng(0)


def names(count: int) -> list[str]:
    poolers = ["mean_kmax", "max", "weighted_layer", "pooler_output", "cls"]
    return [f"minilm-{poolers[m % 5]}-s{40 + m}" for m in range(count)]


def correlations(count: int) -> np.ndarray:
    return np.corrcoef(RNG.normal(size=(count, 40)) + RNG.normal(size=40)).reshape(count, count)


def history(count: int = 40) -> list[Trial]:
    losses = -RNG.uniform(0.7, 0.8, count)
    best = np.minimum.accumulate(losses)
    sources = ["equal", "best", "slsqp"] + ["search"] * count
    return [
        Trial(n, sources[n], float(losses[n]), float(best[n]), (0.5, 0.5)) for n in range(count)
    ]


def texts(figure: Figure) -> list[str]:
    """The words shown, after drawing; fails when one reaches beyond the figure's edge."""
    figure.savefig(io.BytesIO(), format="png")
    needed = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert min(needed.x0, needed.y0) >= 0
    assert needed.x1 <= width
    assert needed.y1 <= height
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible()]


@pytest.mark.parametrize("count", [1, 2, 5, 23])
def test_a_heat_map_names_every_member_twice_and_numbers_every_pair(count: int) -> None:
    corr = correlations(count)
    shown = texts(heat_map(names(count), corr, "Correlation of errors"))
    assert all(shown.count(name) == 2 for name in names(count))
    assert shown.count("1") == count
    assert "Correlation of errors" in shown


def test_names_below_a_heat_map_do_not_run_into_each_other() -> None:
    figure = heat_map(names(23), correlations(23))
    texts(figure)
    boxes = [tick.get_window_extent() for tick in figure.axes[0].get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_close_correlations_are_told_apart() -> None:
    shown = texts(
        heat_map(["a", "b", "c"], np.array([[1, 0.961, 0.963], [0.961, 1, 0.97], [0.963, 0.97, 1]]))
    )
    assert {".961", ".963", ".970"} <= set(shown)


def test_an_undefined_correlation_stays_blank() -> None:
    corr = correlations(3)
    corr[1, :] = corr[:, 1] = math.nan
    shown = texts(heat_map(names(3), corr))
    assert not any("nan" in text for text in shown)
    assert shown.count("1") == 2
    texts(heat_map(names(3), np.full((3, 3), math.nan)))


@pytest.mark.parametrize("count", [1, 5, 23])
def test_bars_stand_in_order_of_weight_and_say_it(count: int) -> None:
    weights_M = RNG.dirichlet(np.ones(count)) if count > 1 else np.ones(1)
    figure = weights_bar(names(count), weights_M)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == sorted(widths)
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == [names(count)[m] for m in np.argsort(weights_M)]
    shown = texts(figure)
    assert f"{weights_M.max():.3f}".lstrip("0") in shown


def test_a_member_without_weight_is_named_without_a_number() -> None:
    shown = texts(weights_bar(["a", "b"], np.array([1.0, 0.0])))
    assert {"a", "b", "1.000"} <= set(shown)
    assert ".000" not in shown


def test_a_history_shows_scores_in_the_metrics_own_direction() -> None:
    tried = history()
    axes = optuna_history(tried, "f1", "max").axes[0]
    line = axes.lines[0].get_ydata()
    assert list(line) == [-trial.best for trial in tried]
    assert axes.get_ylim()[1] > max(line)
    assert axes.get_ylim()[0] < min(line)
    lower = optuna_history(tried, "loss", "min").axes[0]
    assert list(lower.lines[0].get_ydata()) == [trial.best for trial in tried]


@pytest.mark.parametrize("better", ["max", "min"])
def test_a_history_names_its_starts_and_shows_the_better_trials_only(better: str) -> None:
    tried = history()
    for n in range(3, 15):
        tried[n] = tried[n]._replace(loss=math.inf if n < 13 else 5.0)
    figure = optuna_history(tried, "f1", better)
    assert "start: equal, best, slsqp" in texts(figure)
    low, high = figure.axes[0].get_ylim()
    sign = -1 if better == "max" else 1
    shown = sum(low <= sign * trial.loss <= high for trial in tried)
    assert 22 <= shown <= 28
    assert not low <= sign * 5.0 <= high


def test_a_search_without_trials_is_said() -> None:
    assert "Nothing was searched" in texts(optuna_history([], "f1", "max"))
