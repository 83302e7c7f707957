"""The pictures hold every name and number inside their edges, whatever they are given."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from poolblend.ensembling.problem import Trial
from poolblend.errors import UserError
from poolblend.report import plots
from poolblend.report.plots.style import BLUE, MUTED, ORANGE, breadth, labels, plain

ROOT = Path(__file__).parents[2]
METRICS = [("f1", "max", 0.8, 0.01), ("rmse", "min", 71_000.0, 900.0)]
BLENDERS = ["equal", "best", "greedy", "bagged", "convex", "shrunk", "stack", "optuna"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def names(count: int) -> list[str]:
    poolers = ["mean_kmax", "max", "weighted_layer", "pooler_output", "cls"]
    return [f"minilm-{poolers[m % 5]}-s{40 + m}" for m in range(count)]


def correlations(count: int) -> np.ndarray:
    return np.corrcoef(rng().normal(size=(count, 40)) + rng(1).normal(size=40)).reshape(count, -1)


def tree(corr: np.ndarray) -> np.ndarray:
    return linkage(squareform(1 - corr, checks=False), "average")


def history(count: int = 40) -> list[Trial]:
    losses = -rng().uniform(0.7, 0.8, count)
    best = np.minimum.accumulate(losses)
    sources = ["equal", "best", "convex"] + ["search"] * count
    return [
        Trial(n, sources[n], float(losses[n]), float(best[n]), (0.5, 0.5)) for n in range(count)
    ]


def slice_table(count: int, undefined: bool = False) -> pd.DataFrame:
    low = rng(2).normal(size=count) * 0.01
    table = pd.DataFrame(
        {
            "rows": np.arange(count) * 1200 + 12,
            "best: minilm-max-s41": rng(3).uniform(0.7, 0.8, count),
            "equal": rng(4).uniform(0.7, 0.8, count),
            "gain": low + 0.005,
            "low": low,
            "high": low + 0.01,
        },
        index=[f"{n}–{n + 1} words" for n in range(count)],
    )
    if undefined:
        table.loc[:, table.columns != "rows"] = math.nan
    return table


def member_scores(called: list[str], undefined: bool = False, scale: int = 0) -> Figure:
    metric, better, middle, width = METRICS[scale]
    score = middle + width * rng(5).normal(size=len(called)) + (math.nan if undefined else 0)
    folds = score[:, None] + width * rng(6).normal(size=(len(called), 5))
    return plots.member_scores(
        called,
        score,
        score - width,
        score + width,
        metric,
        better,
        fold_scores_MF=folds,
        reference=math.nan if undefined else middle + width,
    )


def optimism(called: list[str], undefined: bool = False, scale: int = 0) -> Figure:
    metric, better, middle, width = METRICS[scale]
    fitted = middle + width * rng(5).normal(size=len(called)) + (math.nan if undefined else 0)
    gain = width * rng(7).normal(size=len(called)) + (math.nan if undefined else 0)
    return plots.optimism(
        called,
        fitted,
        fitted - width * rng(8).uniform(0, 1, len(called)),
        metric,
        better,
        chosen=called[-1],
        gain=gain,
        low=gain - width,
        high=gain + width,
        reference=middle,
    )


def leave_one_out(called: list[str], undefined: bool = False, scale: int = 0) -> Figure:
    metric, _, _, width = METRICS[scale]
    value = width * rng(9).normal(size=len(called)) + (math.nan if undefined else 0)
    return plots.leave_one_out(called, value, value - width, value + width, metric)


def weights_bar(called: list[str], undefined: bool = False, scale: int = 0) -> Figure:
    weights = rng(10).dirichlet(np.full(len(called), 0.5)) * (1 + scale)
    weights = weights + (math.nan if undefined else 0)
    folds = np.abs(weights + 0.02 * rng(11).normal(size=(5, len(called))))
    return plots.weights_bar(
        called, weights, low=weights * 0.7, high=weights * 1.2, fold_weights_FM=folds
    )


def weights_grid(called: list[str], undefined: bool = False, scale: int = 0) -> Figure:
    weights = rng(12).dirichlet(np.ones(len(called)), 6).T * (1 + scale)
    weights[rng(13).random(weights.shape) < 0.3] = 0
    outputs = ["cohesion", "syntax", "vocabulary", "phraseology", "grammar", "conventions"]
    return plots.weights_grid(called, outputs, weights + (math.nan if undefined else 0))


def heat_map(called: list[str], undefined: bool = False, scale: int = 0) -> Figure:
    corr = correlations(len(called))
    branches = tree(corr) if len(called) > 1 and scale else None
    return plots.heat_map(called, corr + (math.nan if undefined else 0), linkage=branches)


def importances(called: list[str], undefined: bool = False, scale: int = 0) -> Figure:
    del scale
    shares = rng(14).dirichlet(np.ones(len(called))) + (math.nan if undefined else 0)
    return plots.importances(called, shares)


def slices(called: list[str], undefined: bool = False, scale: int = 0) -> Figure:
    metric, better, *_ = METRICS[scale]
    table = slice_table(len(called), undefined).set_axis(called)
    return plots.slices(table, metric, better, over="best: minilm-max-s41")


PER_NAME: dict[str, Callable[..., Figure]] = {
    draw.__name__: draw
    for draw in (
        heat_map,
        importances,
        leave_one_out,
        member_scores,
        optimism,
        slices,
        weights_bar,
        weights_grid,
    )
}
ROWS_OF_TEXT = set(PER_NAME) - {"heat_map", "weights_grid"}


def texts(figure: Figure) -> list[str]:
    """The words drawn; fails where one leaves the figure or runs into another."""
    drawn: list[Text] = []
    draw = Text.draw

    def spy(text: Text, *args: object) -> None:
        drawn.append(text)
        draw(text, *args)

    with mock.patch.object(Text, "draw", spy):
        figure.savefig(io.BytesIO(), format="png")
    needed = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert min(needed.x0, needed.y0) >= 0
    assert needed.x1 <= width
    assert needed.y1 <= height
    shown = list(dict.fromkeys(t for t in drawn if t.get_visible() and t.get_text()))
    level = [text for text in shown if text.get_rotation() in (0, 90)]
    left, low, right, high = np.array([text.get_window_extent().extents for text in level]).T
    meet = (left[:, None] < right - 1) & (left < right[:, None] - 1)
    meet &= (low[:, None] < high - 1) & (low < high[:, None] - 1)
    pairs = np.argwhere(np.triu(meet, 1))
    assert not [(level[a].get_text(), level[b].get_text()) for a, b in pairs]
    return [text.get_text() for text in shown]


def data_inside(figure: Figure) -> bool:
    """Whether every dot and every interval that was drawn lies within its panel's limits."""
    inside = []
    for axes in figure.axes:
        for drawn in axes.collections:
            dots = isinstance(drawn, PathCollection)
            vertices = [path.vertices for path in drawn.get_paths()]
            points = np.ma.getdata(drawn.get_offsets()) if dots else np.vstack(vertices or [[]])
            for values, limits in zip(points.T, (axes.get_xlim(), axes.get_ylim()), strict=False):
                inside.append(bool(((values >= min(limits)) & (values <= max(limits))).all()))
    return all(inside)


def label_texts(figure: Figure) -> list[str]:
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def xs(figure: Figure, colour: str, panel: int = 0, edge: bool = False) -> list[float]:
    """Where along x the dots of one colour stand in a panel, from the top row down."""
    found = []
    for dots in figure.axes[panel].collections:
        if isinstance(dots, PathCollection):
            points = np.ma.getdata(dots.get_offsets())
            colours = dots.get_edgecolors() if edge else dots.get_facecolors()
            for (x, y), shade in zip(points, np.resize(colours, (len(points), 4)), strict=True):
                found += [(y, x)] if to_hex(shade) == colour else []
    return [float(x) for _, x in sorted(found)]


@pytest.mark.parametrize(("count", "scale"), [(1, 0), (2, 1), (7, 0), (25, 1)])
@pytest.mark.parametrize("kind", PER_NAME)
def test_every_name_is_shown_and_nothing_overlaps_or_is_cut_off(
    kind: str, count: int, scale: int
) -> None:
    figure = PER_NAME[kind](names(count), scale=scale)
    shown = texts(figure)
    assert set(names(count)) <= set(shown)
    assert data_inside(figure)


@pytest.mark.parametrize("kind", PER_NAME)
def test_long_names_lose_their_middle_and_stay_inside(kind: str) -> None:
    long = [f"microsoft-deberta-v3-large-{n}-pseudo-labelled-twice-s{n}" for n in range(3)]
    shown = texts(PER_NAME[kind](long))
    assert {f"microsoft-deberta-v3-…-labelled-twice-s{n}" for n in range(3)} <= set(shown)


@pytest.mark.parametrize("kind", PER_NAME)
def test_names_are_drawn_as_they_are_or_with_boxes_for_missing_letters(kind: str) -> None:
    odd = ["$5 to $10", "$\\bad{$ 50% \\alpha_{x", "two\nlines", "日本", "_hidden"]
    shown = texts(PER_NAME[kind](odd))
    assert {"$5 to $10", "$\\bad{$ 50% \\alpha_{x", "two lines", "□□", "_hidden"} <= set(shown)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", PER_NAME)
def test_what_is_undefined_is_said_or_blank_but_never_nan(kind: str, count: int) -> None:
    shown = texts(PER_NAME[kind](names(count), undefined=True))
    assert set(names(count)) <= set(shown)
    assert not any("nan" in text.lower() for text in shown)
    said = sum("undefined" in text for text in shown)
    assert said >= count if kind in ROWS_OF_TEXT else said == 0


@pytest.mark.parametrize(
    "figure",
    [
        lambda: plots.heat_map([], np.empty((0, 0))),
        lambda: plots.member_scores([], *np.empty((3, 0)), "f1", "max"),
        lambda: plots.optimism([], *np.empty((2, 0)), "f1", "max"),
        lambda: plots.leave_one_out([], *np.empty((3, 0)), "f1"),
        lambda: plots.weights_bar([], np.empty(0)),
        lambda: plots.weights_grid([], ["y"], np.empty((0, 1))),
        lambda: plots.importances([], np.empty(0)),
        lambda: plots.optuna_history([], "f1", "max"),
        lambda: plots.slices(slice_table(0), "f1", "max"),
        lambda: plots.reliability(np.array([0, 1]), {}),
        lambda: plots.reliability(np.array([]), {"equal": np.array([])}),
    ],
)
def test_nothing_to_show_is_said_in_words(figure: Callable[[], Figure]) -> None:
    title, reason = texts(figure())
    assert title
    assert reason.endswith(".")
    assert not figure().axes


def test_the_users_own_style_changes_no_picture_and_is_left_as_it_was(tmp_path: Path) -> None:
    plots.save(member_scores(names(3)), tmp_path / "plain")
    own = {"font.size": 30, "axes.grid": True, "savefig.bbox": "tight", "savefig.facecolor": "red"}
    with mpl.rc_context(own):
        plots.save(member_scores(names(3)), tmp_path / "styled")
        assert mpl.rcParams["font.size"] == 30
    for kind in ("png", "svg"):
        plain_one = (tmp_path / f"plain.{kind}").read_bytes()
        assert plain_one == (tmp_path / f"styled.{kind}").read_bytes()


def test_matplotlib_is_imported_by_the_first_picture_only_and_pyplot_never(tmp_path: Path) -> None:
    probe = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        "from pathlib import Path\n"
        "from poolblend import plots\n"
        "heavy = {'matplotlib', 'scipy', 'pandas', 'optuna', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import numpy as np\n"
        f"plots.save(plots.heat_map(['a'], np.eye(1)), Path({str(tmp_path / 'a')!r}))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", PER_NAME)
def test_a_saved_picture_is_a_png_and_an_svg_the_same_every_time(kind: str, tmp_path: Path) -> None:
    first = plots.save(PER_NAME[kind](names(2)), tmp_path / "new folder" / "a.b")
    again = plots.save(PER_NAME[kind](names(2)), tmp_path / "again")
    assert [path.name for path in first] == ["a.b.png", "a.b.svg"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    assert first[0].read_bytes().startswith(b"\x89PNG")
    svg = first[1].read_text(encoding="utf-8")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "<dc:date>" not in svg
    assert sorted(p.name for p in (tmp_path / "new folder").iterdir()) == ["a.b.png", "a.b.svg"]


def test_a_picture_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="could not write .*weights.png"):
        plots.save(weights_bar(names(2)), tmp_path / "file" / "weights")


@pytest.mark.parametrize("count", [1, 2, 12])
def test_a_heat_map_names_every_member_twice_and_numbers_every_pair(count: int) -> None:
    shown = texts(plots.heat_map(names(count), correlations(count), "Correlation of errors"))
    assert all(shown.count(name) == 2 for name in names(count))
    assert shown.count("1") == count
    assert "Correlation of errors" in shown


@pytest.mark.parametrize("count", [2, 25])
def test_names_below_a_heat_map_do_not_run_into_each_other(count: int) -> None:
    figure = plots.heat_map(names(count), correlations(count))
    texts(figure)
    ticks = figure.axes[0].get_xticklabels()
    anchors = figure.axes[0].transData.transform([(n, 0) for n in range(count)])
    apart = np.diff(anchors[:, 0]) * math.sin(math.radians(ticks[0].get_rotation()))
    assert (apart > ticks[0].get_fontsize() / 72 * figure.dpi).all()


@pytest.mark.parametrize(("count", "panels"), [(1, 1), (2, 1), (3, 2)])
def test_a_heat_map_has_a_colour_bar_only_where_shades_differ(count: int, panels: int) -> None:
    figure = plots.heat_map(names(count), correlations(count))
    texts(figure)
    assert len(figure.findobj(mpl.axes.Axes)) == panels


@pytest.mark.parametrize("count", [2, 7, 12])
def test_with_a_tree_like_members_stand_beside_like(count: int) -> None:
    corr = correlations(count)
    figure = plots.heat_map(names(count), corr, linkage=tree(corr))
    order = leaves_list(tree(corr))
    assert label_texts(figure) == [names(count)[m] for m in order]
    shaded = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    off = ~np.eye(count, dtype=bool)
    assert np.array_equal(shaded[off], corr[np.ix_(order, order)][off])
    branches = figure.axes[0].child_axes[0]
    assert len(branches.lines) == count - 1
    ends = {y for line in branches.lines for x, y in zip(*line.get_data(), strict=True) if x == 0}
    assert ends == set(range(count))
    assert branches.get_ylim() == figure.axes[0].get_ylim()


def test_close_correlations_are_told_apart() -> None:
    close = np.array([[1, 0.961, 0.963], [0.961, 1, 0.97], [0.963, 0.97, 1]])
    assert {".961", ".963", ".970"} <= set(texts(plots.heat_map(["a", "b", "c"], close)))
    nearly = np.array([[1, 0.999], [0.999, 1]])
    assert texts(plots.heat_map(["a", "b"], nearly)).count(".999") == 2


def test_a_map_of_disagreement_is_numbered_from_zero() -> None:
    apart = np.array([[0, 0.25, -0.5], [0.25, 0, 0.75], [-0.5, 0.75, 0]])
    shown = texts(plots.heat_map(["a", "b", "c"], apart, "Disagreement"))
    assert shown.count("0") == 3
    assert {".25", "−.50", ".75"} <= set(shown)


def test_an_undefined_correlation_stays_blank() -> None:
    corr = correlations(3)
    corr[1, :] = corr[:, 1] = math.nan
    shown = texts(plots.heat_map(names(3), corr))
    assert shown.count("1") == 2


@pytest.mark.parametrize(("better", "order"), [("max", "cadb"), ("min", "bdac")])
def test_the_best_member_stands_on_top_and_the_undefined_last(better: str, order: str) -> None:
    score = np.array([0.7, 0.5, 0.9, 0.6, math.nan])
    figure = plots.member_scores(list("abcde"), score, score - 0.1, score + 0.1, "x", better)
    assert label_texts(figure) == [*order, "e"]
    expected = sorted(score[:4], reverse=better == "max")
    assert xs(figure, BLUE) == pytest.approx(expected)
    assert figure.axes[0].yaxis_inverted()
    direction = "higher is better →" if better == "max" else "← lower is better"
    assert f"x  ({direction})" in texts(figure)


def test_member_scores_show_a_dot_an_interval_and_the_folds_of_each() -> None:
    figure = plots.member_scores(
        ["a", "b"],
        np.array([0.6, 0.7]),
        np.array([0.5, math.nan]),
        np.array([0.65, 0.8]),
        "f1",
        "max",
        fold_scores_MF=np.array([[0.4, 0.6, math.nan], [0.7, 0.71, 0.72]]),
        reference=0.95,
    )
    folds, intervals, dots = figure.axes[0].collections
    assert len(folds.get_offsets()) == 5
    (interval,) = (path.vertices for path in intervals.get_paths())
    assert interval.tolist() == [[0.5, 1], [0.65, 1]]
    assert len(dots.get_offsets()) == 2
    assert figure.axes[0].get_xlim()[1] > 0.95
    assert any(text.startswith("the blend, honest 0.95") for text in texts(figure))


@pytest.mark.parametrize(
    ("better", "in_sample", "honest", "optimism"),
    [
        ("max", 0.82, 0.81, "+0.0100"),
        ("min", 0.81, 0.82, "+0.0100"),
        ("max", 0.81, 0.82, "−0.0100"),
    ],
)
def test_optimism_is_positive_where_the_honest_score_is_worse(
    better: str, in_sample: float, honest: float, optimism: str
) -> None:
    figure = plots.optimism(
        ["equal", "convex"], np.array([in_sample, 0.8]), np.array([honest, 0.8]), "f1", better
    )
    shown = texts(figure)
    assert optimism in shown
    assert "+0.0000" in shown
    (arrow,) = [text for text in figure.axes[0].texts if hasattr(text, "arrow_patch")]
    assert (arrow.xyann[0], arrow.xy[0]) == (in_sample, honest)
    assert xs(figure, BLUE) == [honest, 0.8]
    assert xs(figure, MUTED, edge=True) == [in_sample, 0.8]


def test_blenders_keep_their_order_and_the_chosen_one_is_marked_in_every_panel() -> None:
    figure = optimism(BLENDERS)
    assert label_texts(figure) == BLENDERS
    weights = [tick.get_fontweight() for tick in figure.axes[0].get_yticklabels()]
    assert weights == ["normal"] * 7 + ["bold"]
    assert [len(axes.patches) for axes in figure.axes] == [1, 1]
    assert "Chosen: optuna." in texts(figure)


@pytest.mark.parametrize("panel", ["leave_one_out", "optimism", "slices"])
def test_a_gain_is_coloured_by_whether_its_interval_clears_zero(panel: str) -> None:
    value, low, high = np.array([[0.4, -0.1, -0.5], [0.1, -0.3, -0.7], [0.6, 0.2, -0.2]])
    called, same = ["helps", "unclear", "harms"], np.full(3, 0.8)
    if panel == "leave_one_out":
        figure = plots.leave_one_out(called, value, low, high, "f1")
    elif panel == "optimism":
        figure = plots.optimism(called, same, same, "f1", "max", gain=value, low=low, high=high)
    else:
        columns = {"rows": 50, "equal": same, "gain": value, "low": low, "high": high}
        figure = plots.slices(pd.DataFrame(columns, index=called), "f1", "max")
    last = len(figure.axes) - 1
    assert [xs(figure, colour, last) for colour in (BLUE, MUTED, ORANGE)] == [
        [0.4],
        [-0.1],
        [-0.5],
    ]
    left, right = figure.axes[last].get_xlim()
    assert left < -0.7 < 0.6 < right


def test_the_member_that_helps_most_stands_on_top_and_helping_is_to_the_right() -> None:
    value = np.array([-0.2, 0.3, math.nan, 0.1])
    figure = plots.leave_one_out(list("abcd"), value, value - 0.01, value + 0.01, "log_loss")
    assert label_texts(figure) == list("bdac")
    assert not figure.axes[0].xaxis_inverted()
    assert "log_loss lost without the member  (it helps →)" in texts(figure)


def test_a_gain_without_an_interval_is_shown_as_unclear() -> None:
    blank = np.full(2, math.nan)
    figure = plots.leave_one_out(["a", "b"], np.array([0.2, -0.2]), blank, blank, "f1")
    assert xs(figure, MUTED) == [0.2, -0.2]


@pytest.mark.parametrize("count", [1, 5, 23])
def test_bars_stand_in_order_of_weight_and_say_it(count: int) -> None:
    weights_M = rng().dirichlet(np.ones(count))
    figure = plots.weights_bar(names(count), weights_M)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == sorted(weights_M, reverse=True)
    assert label_texts(figure) == [names(count)[m] for m in np.argsort(-weights_M)]
    assert f"{weights_M.max():.3f}" in texts(figure)


def test_a_member_without_weight_is_named_in_grey_without_a_number() -> None:
    figure = plots.weights_bar(["a", "b"], np.array([0.0, 1.0]))
    shown = texts(figure)
    assert {"a", "b", "1.000"} <= set(shown)
    assert "0.000" not in shown
    colours = [tick.get_color() for tick in figure.axes[0].get_yticklabels()]
    assert colours[1] == MUTED != colours[0]


def test_a_weights_stability_lies_on_its_own_bar() -> None:
    figure = plots.weights_bar(
        ["light", "heavy"],
        np.array([0.2, 0.8]),
        low=np.array([0.1, 0.6]),
        high=np.array([0.5, 0.9]),
        fold_weights_FM=np.array([[0.25, 0.75], [0.15, 1.85]]),
    )
    assert label_texts(figure) == ["heavy", "light"]
    folds, intervals = figure.axes[0].collections
    assert folds.get_offsets()[:, 0].tolist() == [0.75, 1.85, 0.25, 0.15]
    ends = [path.vertices.tolist() for path in intervals.get_paths()]
    assert ends == [[[0.6, 0], [0.9, 0]], [[0.1, 1], [0.5, 1]]]
    assert figure.axes[0].get_xlim()[1] > 1.85


def test_a_grid_of_weights_leaves_zeros_blank_and_the_heaviest_on_top() -> None:
    weights_MK = np.array([[0.25, 0.0], [0.75, 0.4], [0.0, 0.6]])
    figure = plots.weights_grid(["a", "b", "c"], ["x", "y"], weights_MK)
    assert label_texts(figure) == ["b", "c", "a"]
    numbers = sorted(text.get_text() for text in figure.axes[0].texts)
    assert numbers == [".25", ".40", ".60", ".75"]


def test_a_history_shows_scores_in_the_metrics_own_direction() -> None:
    tried = history()
    axes = plots.optuna_history(tried, "f1", "max").axes[0]
    line = axes.lines[0].get_ydata()
    assert list(line) == [-trial.best for trial in tried]
    assert axes.get_ylim()[1] > max(line)
    assert axes.get_ylim()[0] < min(line)
    lower = plots.optuna_history(tried, "loss", "min").axes[0]
    assert list(lower.lines[0].get_ydata()) == [trial.best for trial in tried]


@pytest.mark.parametrize("better", ["max", "min"])
def test_a_history_names_its_starts_and_counts_the_trials_it_leaves_out(better: str) -> None:
    tried = history()
    for n in range(3, 15):
        tried[n] = tried[n]._replace(loss=math.inf if n < 13 else 5.0)
    figure = plots.optuna_history(tried, "f1", better)
    (note,) = [text for text in texts(figure) if text.startswith("Found at")]
    best = max(range(len(tried)), key=lambda n: -tried[n].loss)
    assert note.startswith(f"Found at trial {best} of 40")
    assert note.endswith("Started from equal, best, convex. Far worse, outside the picture: 12.")
    low, high = figure.axes[0].get_ylim()
    sign = -1 if better == "max" else 1
    assert sum(low <= sign * trial.loss <= high for trial in tried) == 28


def test_a_search_that_never_scored_is_drawn_without_a_dot() -> None:
    lost = [Trial(n, "search", math.inf, math.inf, (1.0,)) for n in range(3)]
    shown = texts(plots.optuna_history(lost, "f1", "max"))
    assert {"Optuna's search: best undefined", "None of 3 trials has a score."} <= set(shown)


@pytest.mark.parametrize(("better", "worst"), [("max", "b"), ("min", "c")])
def test_the_slice_on_which_the_last_prediction_is_worst_is_marked(better: str, worst: str) -> None:
    table = slice_table(4).set_axis(list("abcd"))
    table["equal"] = [0.5, 0.2, 0.9, math.nan]
    figure = plots.slices(table, "f1", better)
    bold = [t.get_text() for t in figure.axes[0].get_yticklabels() if t.get_fontweight() == "bold"]
    assert bold == [worst]
    shown = texts(figure)
    assert {"12", "1,212", "2,412", "3,612, undefined"} <= set(shown)
    assert {"best: minilm-max-s41", "equal"} <= set(shown)


def test_slices_without_gains_have_one_panel() -> None:
    table = slice_table(3).drop(columns=["gain", "low", "high"])
    assert len(plots.slices(table, "f1", "max").axes) == 1
    assert len(plots.slices(slice_table(3), "f1", "max").axes) == 2


def test_calibrated_probabilities_lie_on_the_dashed_line() -> None:
    given = np.repeat([0.1, 0.3, 0.5, 0.9], 100)
    truth = np.concatenate([np.arange(100) < 100 * p for p in (0.1, 0.3, 0.5, 0.9)]).astype(int)
    figure = plots.reliability(truth, {"equal": given}, bins=4)
    diagonal, curve = figure.axes[0].lines
    assert np.allclose(curve.get_xdata(), [0.1, 0.3, 0.5, 0.9])
    assert np.allclose(curve.get_ydata(), [0.1, 0.3, 0.5, 0.9])
    assert np.array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    (below,) = figure.axes[1].patches
    assert below.get_data().values.sum() == 400
    assert "equal, calibration error 0.000" in texts(figure)


def test_the_calibration_error_is_the_mean_distance_weighted_by_rows() -> None:
    given = np.array([0.2, 0.2, 0.2, 0.8, 0.8, math.nan])
    truth = np.array([1, 0, 0, 1, 1, 0])
    expected = (3 * abs(0.2 - 1 / 3) + 2 * abs(0.8 - 1)) / 5
    assert plots.expected_calibration_error(truth, given, bins=2) == pytest.approx(expected)
    assert math.isnan(plots.expected_calibration_error(truth, np.full(6, math.nan)))


def test_bins_of_probabilities_hold_equally_many_rows_and_never_part_equal_ones() -> None:
    given = rng().beta(0.3, 2, 1000)
    truth = (rng(1).random(1000) < given).astype(int)
    figure = plots.reliability(truth, {"a": given, "same": np.full(1000, 0.5)}, bins=10)
    _, many, one = figure.axes[0].lines
    expected = np.sort(given).reshape(10, 100).mean(axis=1)
    assert np.allclose(many.get_xdata(), expected)
    assert one.get_xdata().tolist() == [0.5]
    assert data_inside(figure)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_every_reliability_curve_is_told_from_the_others(count: int) -> None:
    truth = (rng().random(200) < 0.3).astype(int)
    given = {name: rng(n).random(200) for n, name in enumerate(names(count))}
    figure = plots.reliability(truth, given)
    looks = {(line.get_color(), line.get_marker()) for line in figure.axes[0].lines[1:]}
    assert len(looks) == count
    shown = texts(figure)
    assert all(any(text.startswith(name) for text in shown) for name in given)


def test_one_undefined_prediction_leaves_the_other_curves() -> None:
    truth = np.array([0, 1] * 20)
    given = {"fine": np.linspace(0, 1, 40), "lost": np.full(40, math.nan)}
    figure = plots.reliability(truth, given)
    assert len(figure.axes[0].lines) == 2
    assert "lost, calibration error undefined" in texts(figure)


def test_names_are_shortened_only_while_they_stay_apart() -> None:
    alike = ["x" * 30 + middle + "y" * 30 for middle in "ab"]
    assert labels(alike) == alike
    assert [len(name) <= 45 for name in labels([alike[0], "short"])] == [True, True]
    assert plain("a\tb\nc ") == "a b c"


def test_a_long_title_is_wrapped_into_the_figure() -> None:
    title = "Correlation of the members' errors on the rows that nobody could predict at all"
    shown = texts(plots.heat_map(["a"], np.ones((1, 1)), title))
    lines = [line for line in shown if line in title and len(line) > 1]
    assert " ".join(lines) == title
    assert len(lines) > 1
    assert any("…" in text for text in texts(plots.heat_map(["a"], np.ones((1, 1)), "W" * 90)))


@pytest.mark.parametrize("kind", ["slices", "reliability"])
def test_a_legend_leaves_no_name_out(kind: str) -> None:
    given = {"_hidden": np.linspace(0, 1, 9), "日": np.linspace(0, 1, 9)}
    if kind == "slices":
        figure = plots.slices(pd.DataFrame({"rows": [3, 4], "_hidden": 0.5, "日": 0.6}), "x", "max")
    else:
        figure = plots.reliability(np.arange(9) % 2, given)
    shown = [text.strip().partition(",")[0] for text in texts(figure)]
    assert {"_hidden", "□"} <= set(shown)


def test_text_is_measured_in_inches() -> None:
    assert 0 == breadth([]) < breadth(["i"]) < breadth(["w"]) < breadth(["w"], 18)
