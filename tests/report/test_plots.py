"""The pictures hold every name and number inside their edges, whatever they are given."""

import io
import math
import subprocess
import sys
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from poolblend.ensembling.problem import Trial
from poolblend.errors import UserError
from poolblend.report import plots
from poolblend.report.plots import style
from poolblend.report.plots.style import BLUE, MUTED, ORANGE, labels, plain

ROOT = Path(__file__).parents[2]
METRICS = [("f1", "max", 0.8, 0.01), ("rmse", "min", 71_000.0, 900.0)]


def rng(seed=0):
    return np.random.default_rng(seed)


def names(count):
    poolers = ["mean_kmax", "max", "weighted_layer", "pooler_output", "cls"]
    return [f"minilm-{poolers[m % 5]}-s{40 + m}" for m in range(count)]


def correlations(count):
    return np.corrcoef(rng().normal(size=(count, 40)) + rng(1).normal(size=40)).reshape(count, -1)


def tree(corr):
    return linkage(squareform(1 - corr, checks=False), "average") if len(corr) > 1 else None


def history(count=40):
    losses = -rng().uniform(0.7, 0.8, count)
    best = np.minimum.accumulate(losses)
    sources = ["equal", "best", "convex"] + ["search"] * count
    return [
        Trial(n, sources[n], float(losses[n]), float(best[n]), (0.5, 0.5)) for n in range(count)
    ]


def around(value, width):
    """A value with the ends of an interval around it."""
    return np.array([value, value - width, value + width])


# --- each picture, of members or slices of these names -------------------------------------------


def member_scores(called, undefined=0.0, scale=0):
    metric, better, middle, width = METRICS[scale]
    score = middle + width * rng(5).normal(size=len(called)) + undefined
    folds = score[:, None] + width * rng(6).normal(size=(len(called), 5))
    blend = middle + width + undefined
    return plots.member_scores(called, around(score, width), folds, metric, better, blend=blend)


def blender_scores(called, undefined=0.0, scale=0):
    metric, better, middle, width = METRICS[scale]
    fitted = middle + width * rng(5).normal(size=len(called)) + undefined
    honest = fitted - width * rng(8).uniform(0, 1, len(called))
    gain = around(width * rng(7).normal(size=len(called)) + undefined, width)
    chosen = {"chosen": called[-1], "best_member": middle}
    return plots.blender_scores(called, fitted, honest, gain, metric, better, **chosen)


def losses_without(called, undefined=0.0, scale=0):
    metric, _, _, width = METRICS[scale]
    value = width * rng(9).normal(size=len(called)) + undefined
    return plots.losses_without(called, around(value, width), metric, blender="convex")


def weights(called, undefined=0.0, scale=0):
    weights = rng(10).dirichlet(np.full(len(called), 0.5)) * (1 + scale) + undefined
    folds = np.abs(weights + 0.02 * rng(11).normal(size=(5, len(called))))
    return plots.weights(called, weights, weights * 0.7, weights * 1.2, folds, "Weights in use")


def weights_grid(called, undefined=0.0, scale=0):
    weights = rng(12).dirichlet(np.ones(len(called)), 6).T * (1 + scale)
    weights[rng(13).random(weights.shape) < 0.3] = 0
    outputs = ["cohesion", "syntax", "vocabulary", "phraseology", "grammar", "conventions"]
    return plots.weights_grid(called, outputs, weights + undefined, "Weights, per output")


def heat_map(called, undefined=0.0, scale=0):
    del scale
    corr = correlations(len(called))
    return plots.heat_map(called, corr + undefined, "Correlation", linkage=tree(corr))


def importances(called, undefined=0.0, scale=0):
    del scale
    shares = rng(14).dirichlet(np.ones(len(called))) + undefined
    return plots.importances(called, shares, "Importances")


def slice_table(called, undefined=0.0):
    count = len(called)
    gain, low, high = around(rng(2).normal(size=count) * 0.01 + undefined, 0.01)
    scores = {
        "best member": rng(3).uniform(0.7, 0.8, count) + undefined,
        "equal": rng(4).uniform(0.7, 0.8, count) + undefined,
    }
    columns = {"rows": np.arange(count) * 1200 + 12, **scores, "gain": gain, "low": low}
    return pd.DataFrame({**columns, "high": high}, index=called)


def slices(called, undefined=0.0, scale=0):
    metric, better, *_ = METRICS[scale]
    table = slice_table(called, undefined)
    return plots.slices(table, metric, better, column_name="length", over="minilm-max-s41")


ROWS = (member_scores, blender_scores, losses_without, weights, importances, slices)
PER_NAME = (*ROWS, heat_map, weights_grid)
every_picture = pytest.mark.parametrize("draw", PER_NAME, ids=lambda draw: draw.__name__)


def texts(figure):
    """The words drawn; fails where one leaves the figure or runs into another."""
    drawn = []
    draw = Text.draw

    def spy(text, *args):
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


def data_inside(figure):
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


def label_texts(figure):
    return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def xs(figure, colour, panel=0, edge=False):
    """Where along x the dots of one colour stand in a panel, from the top row down."""
    found = []
    for dots in figure.axes[panel].collections:
        if isinstance(dots, PathCollection):
            points = np.ma.getdata(dots.get_offsets())
            colours = dots.get_edgecolors() if edge else dots.get_facecolors()
            for (x, y), shade in zip(points, np.resize(colours, (len(points), 4)), strict=True):
                found += [(y, x)] if to_hex(shade) == colour else []
    return [float(x) for _, x in sorted(found)]


# --- what all pictures do ------------------------------------------------------------------------


@every_picture
@pytest.mark.parametrize(("count", "scale"), [(1, 0), (2, 1), (25, 1)])
def test_every_name_is_shown_and_nothing_overlaps_or_is_cut_off(draw, count, scale):
    figure = draw(names(count), scale=scale)
    assert set(names(count)) <= set(texts(figure))
    assert data_inside(figure)


@every_picture
def test_odd_and_long_names_are_drawn_and_stay_inside(draw):
    odd = ["$5 to $10", "$\\bad{$ 50% \\alpha_{x", "two\nlines", "日本", "_hidden"]
    long = "microsoft-deberta-v3-large-0-pseudo-labelled-twice-s0"
    expected = {*odd[:2], "two lines", "□□", "_hidden", f"{long[:22]}…{long[-22:]}"}
    assert expected <= set(texts(draw([*odd, long])))


@every_picture
def test_what_is_undefined_is_said_or_blank_but_never_nan(draw):
    shown = texts(draw(names(3), undefined=math.nan))
    assert set(names(3)) <= set(shown)
    assert not any("nan" in text.lower() for text in shown)
    said = sum("undefined" in text for text in shown)
    assert said >= 3 if draw in ROWS else said == 0


def test_nothing_to_show_is_said_in_words_and_still_has_axes():
    figure = plots.nothing("A long title " * 9, "There is nothing to see.")
    assert "There is nothing to see." in texts(figure)
    assert figure.axes


def test_the_users_own_style_changes_no_picture_and_is_left_as_it_was(tmp_path):
    first = plots.save(member_scores(names(3)), tmp_path / "new folder" / "a.b")
    own = {"font.size": 30, "axes.grid": True, "savefig.bbox": "tight", "savefig.facecolor": "red"}
    with mpl.rc_context(own):
        again = plots.save(member_scores(names(3)), tmp_path / "again")
        assert mpl.rcParams["font.size"] == 30
    assert [path.name for path in first] == ["a.b.png", "a.b.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert first[0].read_bytes().startswith(b"\x89PNG")
    svg = first[1].read_text(encoding="utf-8")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "<dc:date>" not in svg
    assert sorted(p.name for p in (tmp_path / "new folder").iterdir()) == ["a.b.png", "a.b.svg"]


def test_a_picture_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"could not write .*weights\.png"):
        plots.save(weights(names(2)), tmp_path / "file" / "weights")


def test_matplotlib_is_imported_by_the_first_picture_only_and_pyplot_never():
    probe = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        "from poolblend.report import plots\n"
        "heavy = {'matplotlib', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import numpy as np\n"
        "plots.heat_map(['a'], np.eye(1), 'title', linkage=None)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_are_shortened_only_while_they_stay_apart():
    alike = ["x" * 30 + middle + "y" * 30 for middle in "ab"]
    assert labels(alike) == alike
    assert [len(name) <= 45 for name in labels([alike[0], "short"])] == [True, True]
    assert plain("a\tb\nc ") == "a b c"


# --- scores and gains ----------------------------------------------------------------------------


@pytest.mark.parametrize(("better", "order"), [("max", "cadb"), ("min", "bdac")])
def test_the_best_member_stands_on_top_and_the_undefined_last(better, order):
    score = np.array([0.7, 0.5, 0.9, 0.6, math.nan])
    folds = np.full((5, 2), 0.65)
    figure = plots.member_scores(list("abcde"), around(score, 0.1), folds, "x", better, blend=0.95)
    assert label_texts(figure) == [*order, "e"]
    assert xs(figure, BLUE)[:4] == pytest.approx(sorted(score[:4], reverse=better == "max"))
    shown = texts(figure)
    direction = "higher is better →" if better == "max" else "← lower is better"
    assert f"x  ({direction})" in shown
    assert any(text.startswith("the blend, honest 0.95") for text in shown)
    assert figure.axes[0].get_xlim()[1] > 0.95


@pytest.mark.parametrize(
    ("better", "in_sample", "honest", "optimism"),
    [
        ("max", 0.82, 0.81, "+0.0100"),
        ("min", 0.81, 0.82, "+0.0100"),
        ("max", 0.81, 0.82, "−0.0100"),
    ],
)
def test_optimism_is_positive_where_the_honest_score_is_worse(better, in_sample, honest, optimism):
    scores = np.array([in_sample, 0.8]), np.array([honest, 0.8])
    chosen = {"chosen": "convex", "best_member": 0.8}
    called = ["equal", "convex"]
    figure = plots.blender_scores(called, *scores, np.zeros((3, 2)), "f1", better, **chosen)
    assert {optimism, "+0.0000", "Chosen: convex."} <= set(texts(figure))
    assert label_texts(figure) == called
    assert xs(figure, BLUE) == [honest, 0.8]
    assert xs(figure, MUTED, edge=True) == [in_sample, 0.8]
    bold = [tick.get_fontweight() for tick in figure.axes[0].get_yticklabels()]
    assert bold == ["normal", "bold"]
    assert [len(axes.patches) for axes in figure.axes] == [1, 1]


@pytest.mark.parametrize("picture", [losses_without, blender_scores, slices])
def test_a_gain_is_coloured_by_whether_its_interval_clears_zero(picture):
    gain_3 = np.array([[0.4, -0.1, -0.5], [0.1, -0.3, -0.7], [0.6, 0.2, -0.2]])
    called, same = ["helps", "unclear", "harms"], np.full(3, 0.8)
    if picture is losses_without:
        figure = plots.losses_without(called, gain_3, "f1", blender="convex")
    elif picture is blender_scores:
        chosen = {"chosen": "helps", "best_member": 0.8}
        figure = plots.blender_scores(called, same, same, gain_3, "f1", "max", **chosen)
    else:
        columns = dict(zip(("gain", "low", "high"), gain_3, strict=True))
        table = pd.DataFrame({"rows": 50, "equal": same, **columns}, index=called)
        figure = plots.slices(table, "f1", "max", column_name="length", over="a")
    last = len(figure.axes) - 1
    dots = [xs(figure, colour, last) for colour in (BLUE, MUTED, ORANGE)]
    assert dots == [[0.4], [-0.1], [-0.5]]
    left, right = figure.axes[last].get_xlim()
    assert left < -0.7 < 0.6 < right


def test_the_member_that_helps_most_stands_on_top_and_without_interval_it_is_unclear():
    value = np.array([-0.2, 0.3, math.nan, 0.1])
    gain_3 = np.array([value, *np.full((2, 4), math.nan)])
    figure = plots.losses_without(list("abcd"), gain_3, "log_loss", blender="convex")
    assert label_texts(figure) == list("bdac")
    assert xs(figure, MUTED)[:3] == [0.3, 0.1, -0.2]
    assert "log_loss lost without the member  (it helps →)" in texts(figure)


@pytest.mark.parametrize(("better", "worst"), [("max", "b"), ("min", "c")])
def test_the_slice_on_which_the_last_prediction_is_worst_is_marked(better, worst):
    table = slice_table(list("abcd")).rename(columns={"best member": "_hidden"})
    table["equal"] = [0.5, 0.2, 0.9, math.nan]
    figure = plots.slices(table, "f1", better, column_name="length", over="a")
    bold = [t.get_text() for t in figure.axes[0].get_yticklabels() if t.get_fontweight() == "bold"]
    assert bold == [worst]
    shown = {text.strip() for text in texts(figure)}
    assert {"12", "1,212", "2,412", "3,612, undefined", "_hidden", "equal"} <= shown


# --- weights -------------------------------------------------------------------------------------


def test_bars_stand_in_order_of_weight_with_their_own_dots_and_lines():
    figure = plots.weights(
        ["light", "none", "heavy"],
        np.array([0.2, 0.0, 0.8]),
        np.array([0.1, 0.0, 0.6]),
        np.array([0.5, 0.1, 0.9]),
        np.array([[0.25, 0.0, 0.75], [0.15, 0.0, 1.85]]),
        "Weights in use",
    )
    assert label_texts(figure) == ["heavy", "light", "none"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.8, 0.2, 0.0]
    shown = texts(figure)
    assert {"0.800", "0.200"} <= set(shown)
    assert "0.000" not in shown
    folds, intervals = figure.axes[0].collections
    assert folds.get_offsets()[:, 0].tolist() == [0.75, 1.85, 0.25, 0.15, 0.0, 0.0]
    ends = [path.vertices.tolist() for path in intervals.get_paths()]
    assert ends == [[[0.6, 0], [0.9, 0]], [[0.1, 1], [0.5, 1]], [[0.0, 2], [0.1, 2]]]
    assert figure.axes[0].get_xlim()[1] > 1.85


def test_a_grid_of_weights_leaves_zeros_blank_and_the_heaviest_on_top():
    weights_MK = np.array([[0.25, 0.0], [0.75, 0.4], [0.0, 0.6]])
    figure = plots.weights_grid(["a", "b", "c"], ["x", "y"], weights_MK, "Weights, per output")
    assert label_texts(figure) == ["b", "c", "a"]
    numbers = sorted(text.get_text() for text in figure.axes[0].texts)
    assert numbers == [".25", ".40", ".60", ".75"]


# --- maps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 12])
def test_a_heat_map_names_every_member_twice_and_numbers_every_pair(count):
    corr = correlations(count)
    figure = plots.heat_map(names(count), corr, "Correlation of errors", linkage=tree(corr))
    shown = texts(figure)
    assert all(shown.count(name) == 2 for name in names(count))
    assert sum(text == "1" for text in shown) == count
    assert "Correlation of errors" in shown
    order = list(range(count)) if count == 1 else list(leaves_list(tree(corr)))
    assert label_texts(figure) == [names(count)[m] for m in order]
    shaded = np.ma.filled(figure.axes[0].collections[0].get_array(), np.nan)
    off = ~np.eye(count, dtype=bool)
    assert np.array_equal(shaded.reshape(count, count)[off], corr[np.ix_(order, order)][off])
    branches = figure.axes[1]
    assert len(branches.lines) == count - 1
    assert branches.get_ylim() == figure.axes[0].get_ylim()


def test_a_map_of_many_members_has_a_colour_bar_in_place_of_numbers():
    corr = correlations(45)
    figure = plots.heat_map(names(45), corr, "Correlation", linkage=tree(corr))
    assert len(figure.axes) == 3
    assert not figure.axes[0].texts


def test_close_correlations_are_told_apart():
    close = np.array([[1, 0.961, 0.963], [0.961, 1, 0.97], [0.963, 0.97, 1]])
    shown = texts(plots.heat_map(["a", "b", "c"], close, "Correlation", linkage=tree(close)))
    assert {".961", ".963", ".970"} <= set(shown)


# --- the search ----------------------------------------------------------------------------------


@pytest.mark.parametrize("better", ["max", "min"])
def test_a_search_shows_scores_names_its_starts_and_counts_trials_outside(better):
    tried = history()
    for n in range(3, 15):
        tried[n] = tried[n]._replace(loss=math.inf if n < 13 else 5.0)
    figure = plots.search(tried, "f1", better, "Optuna's search")
    (note,) = [text for text in texts(figure) if text.startswith("Best trial")]
    note = " ".join(note.split())
    best = max(range(len(tried)), key=lambda n: -tried[n].loss)
    assert note.startswith(f"Best trial: {best} of 40")
    assert note.endswith("Start points: equal, best, convex. Outside the picture (much worse): 12.")
    low, high = figure.axes[0].get_ylim()
    sign = -1 if better == "max" else 1
    assert list(figure.axes[0].lines[0].get_ydata()) == [sign * trial.best for trial in tried]
    assert sum(low <= sign * trial.loss <= high for trial in tried) == 28


def test_a_search_that_never_scored_is_drawn_without_a_dot():
    lost = [Trial(n, "search", math.inf, math.inf, (1.0,)) for n in range(3)]
    shown = texts(plots.search(lost, "f1", "max", "Optuna's search"))
    assert {"Optuna's search: best undefined", "None of 3 trials has a score."} <= set(shown)


# --- reliability ---------------------------------------------------------------------------------


def test_calibrated_probabilities_lie_on_the_dashed_line(monkeypatch):
    given = np.repeat([0.1, 0.3, 0.5, 0.9], 100)
    truth = np.concatenate([np.arange(100) < 100 * p for p in (0.1, 0.3, 0.5, 0.9)]).astype(int)
    both = {"equal": given, "_lost": np.full(400, math.nan)}
    figure = plots.reliability(truth, both, "Calibrated?")
    diagonal, curve, lost = figure.axes[0].lines
    assert np.allclose(curve.get_xdata(), [0.1, 0.3, 0.5, 0.9])
    assert np.allclose(curve.get_ydata(), [0.1, 0.3, 0.5, 0.9])
    assert np.array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert len(lost.get_xdata()) == 0
    (below,) = figure.axes[1].patches
    assert below.get_data().values.sum() == 400
    shown = {text.strip() for text in texts(figure)}
    assert {"equal, calibration error 0.000", "_lost, calibration error undefined"} <= shown


def test_the_calibration_error_is_the_mean_distance_weighted_by_rows():
    given = np.array([0.2, 0.2, 0.2, 0.8, 0.8, math.nan])
    truth = np.array([1, 0, 0, 1, 1, 0])
    expected = (3 * abs(0.2 - 1 / 3) + 2 * abs(0.8 - 1)) / 5
    assert plots.expected_calibration_error(truth, given, bins=2) == pytest.approx(expected)
    assert math.isnan(plots.expected_calibration_error(truth, np.full(6, math.nan)))


def test_bins_of_probabilities_hold_equally_many_rows_and_never_part_equal_ones():
    given = rng().beta(0.3, 2, 1000)
    truth = (rng(1).random(1000) < given).astype(int)
    figure = plots.reliability(truth, {"a": given, "same": np.full(1000, 0.5)}, "Calibrated?")
    _, many, one = figure.axes[0].lines
    assert np.allclose(many.get_xdata(), np.sort(given).reshape(10, 100).mean(axis=1))
    assert one.get_xdata().tolist() == [0.5]
    assert data_inside(figure)


def test_every_series_is_told_from_the_others():
    looks = {tuple(style.series(n).values()) for n in range(36)}
    assert len(looks) == 36
