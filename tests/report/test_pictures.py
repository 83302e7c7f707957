"""Every picture of a blend is drawn, shown in a notebook, and kept; or it says why not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from poolblend import config, pipeline
from poolblend.report import styled
from poolblend.report.pictures import Pictures
from poolblend.report.plots import saving

TASKS = ("binary", "multiclass", "multilabel", "regression", "ordinal")
WHOLE = [name for name in vars(Pictures) if name[0] != "_" and callable(getattr(Pictures, name))]
WHOLE.remove("slices")
FILES = {"q_statistic": "q-statistic", "weights_per_output": "weights-per-output"}
QUICK = ["blend.fitters=[greedy,convex,optuna]", "blend.trials=25", "blend.resamples=50"]


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    monkeypatch.setattr(saving, "PNG_DPI", 40)


@pytest.fixture
def blend(toy, tmp_path):
    """Blends a toy competition's members, which are its truth under noise, without any training."""

    def make(task="regression", *sets, members=3, **columns):
        path = toy("multiclass" if task == "ordinal" else task, n=80)
        train = pd.read_csv(tmp_path / "data" / "train.csv", dtype={"id": str})
        if task == "ordinal":
            train = _ordinal(tmp_path / "data")
            sets = ("task=ordinal", "metric=qwk", *sets)
        train.assign(**columns).to_csv(tmp_path / "data" / "train.csv", index=False)
        folder = tmp_path / "members"
        folder.mkdir()
        for m in range(members):
            _predicted(train, task, m).to_csv(folder / f"m{m}.csv", index=False)
        settings = config.load(path, [*QUICK, *sets])
        return pipeline.blend(settings, members_from=str(folder))

    return make


def _ordinal(folder):
    """The toy of three classes with numbers in place of their names."""
    numbers = {"bad": 1, "odd": 2, "good": 3}
    for name in ("train", "test_labels", "sample_submission"):
        table = pd.read_csv(folder / f"{name}.csv", dtype={"id": str})
        table["target"] = table["target"].map(numbers)
        table.to_csv(folder / f"{name}.csv", index=False)
    return pd.read_csv(folder / "train.csv", dtype={"id": str})


def _predicted(train, task, seed):
    """Predictions by id; the noise differs between members."""
    truth = train.drop(columns=["id", "text"])
    if task == "multiclass":
        truth = pd.get_dummies(truth["target"]).astype(float)
    noisy = truth + np.random.default_rng(seed).normal(0, 0.7, truth.shape)
    if task in ("binary", "multilabel", "multiclass"):
        noisy = 1 / (1 + np.exp(1 - 2 * noisy))
    if task == "multiclass":
        noisy = noisy.div(noisy.sum(axis=1), axis=0)
    return noisy.add_prefix("pred_").assign(id=train["id"])


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def kept(blend):
    folder = blend.store.figure_path("any").parent
    return {path.name for path in folder.iterdir() if path.stat().st_size > 1000}


@pytest.mark.parametrize("task", TASKS)
def test_every_picture_is_drawn_shown_and_kept(blend, task):
    made = blend(task)
    figures = {FILES.get(name, name): getattr(made.pictures, name)() for name in WHOLE}
    figures["slices-words-of-text"] = made.pictures.slices("words of text")
    assert kept(made) == {f"{name}.{kind}" for name in figures for kind in ("png", "svg")}
    for name, figure in figures.items():
        assert isinstance(figure, Figure)
        assert figure.axes, f"IPython shows nothing of {name}"
        assert made.matrix.members[0] in words(figure) or len(words(figure)) > 30, name
    decides = "decides nothing" not in words(figures["disagreement"])
    assert decides == (task != "regression") == bool(made.pictures.labels)
    calibrated = "no probabilities" not in words(figures["reliability"])
    assert calibrated == (task in ("binary", "multiclass", "multilabel"))


def test_one_member_alone_has_all_its_pictures(blend):
    pictures = blend("binary", members=1).pictures
    for name in WHOLE:
        assert getattr(pictures, name)().axes, name
    assert "nothing to blend" in words(pictures.blends())
    assert "nothing to leave out" in words(pictures.without())
    assert "blend" not in words(pictures.reliability())


def test_weights_per_output_have_a_grid_and_a_search_for_each(blend):
    made = blend("regression", "blend.weights=per_output", "blend.fitter=optuna")
    grid = words(made.pictures.weights_per_output())
    assert all(name in grid for name in (*made.matrix.members, *made.matrix.outputs))
    assert list(made.pictures.searches) == ["a", "b"]
    for output in made.pictures.searches:
        assert f"search: {output}" in words(made.pictures.search(output))
        made.pictures.importances(output)
    assert {"search-a.png", "search-b.svg", "importances-b.png"} <= kept(made)


def test_shared_weights_have_no_grid(blend):
    assert "one weight for all outputs" in words(blend().pictures.weights_per_output())


def test_without_a_search_its_pictures_say_so(blend):
    made = blend("regression", "blend={fitters: [greedy]}")
    assert made.pictures.searches == {}
    for name in ("search", "importances"):
        assert "No search ran" in words(getattr(made.pictures, name)())


def test_ranks_are_not_passed_off_as_probabilities(blend):
    told = words(blend("binary", "blend.space=rank", "metric=roc_auc").pictures.reliability())
    assert "averages ranks" in told
    assert " blend, calibration" not in told
    assert "calibration error" in told


@pytest.mark.parametrize(
    ("sets", "title"),
    [
        (["blend.fitter=greedy"], "Weights in use: greedy"),
        (["blend.fitter=equal"], "Weights in use: equal (dots and lines: fitted by convex)"),
        (["blend.fitter=optuna"], "Weights in use: optuna (lines: fitted by convex)"),
    ],
)
def test_the_weights_title_says_whose_dots_and_lines_are_drawn(blend, sets, title):
    made = blend("regression", *sets)
    figure = made.pictures.weights()
    assert title in words(figure)
    if made.refitted != made.choice.blender:
        assert made.refitted in words(figure)


def test_slices_of_columns_with_odd_names_have_files_of_their_own(blend):
    names = ["a/b", "a b", "../x", "词"]
    columns = {name: ["<i>one</i>", "$two$"] * 40 for name in names}
    made = blend("binary", f"blend.slices={names}", **columns)
    for name in made.slices:
        assert "$two$" in words(made.pictures.slices(name)) or name == "words of text"
    stems = ["words-of-text", "1", "2", "x", "4"]
    assert kept(made) == {f"slices-{stem}.{kind}" for stem in stems for kind in ("png", "svg")}


def test_labels_are_what_the_metric_took_or_the_defaults(blend):
    ranked = blend("binary", "metric=roc_auc").pictures
    for labels, pred_NK in zip(ranked.labels, ranked._matrix.oof_MNK, strict=True):
        np.testing.assert_array_equal(labels, pred_NK[:, 0] >= 0.5)


def test_tables_escape_names_and_mark_the_best(blend):
    made = blend("binary")
    members = styled.members(made).to_html()
    best = made.member_scores["OOF"].idxmax()
    assert members.index(best) == min(members.index(name) for name in made.matrix.members)
    assert "font-weight: bold" in members
    blends = styled.blends(made).to_html()
    assert "gain over best" in blends
    assert blends.count("optimism") == 1
    nasty = pd.DataFrame({"<script>": [0.5]}, index=["<script>alert(1)</script>"])
    assert "<script" not in styled._styled(nasty, "nasty").to_html()
