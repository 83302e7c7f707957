"""Every picture of a blend is drawn, shown in a notebook, and kept; or it says why not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from poolblend import config, pipeline
from poolblend.report import pictures, tables
from poolblend.report.plots import style
from rig.blend_cards import blend_card, member

TASKS = ("binary", "multiclass", "multilabel", "regression", "ordinal")
WHOLE = {
    "members": pictures.member_scores,
    "blends": pictures.blender_scores,
    "predictions": pictures.prediction_correlation,
    "errors": pictures.error_correlation,
    "disagreement": pictures.disagreement,
    "q-statistic": pictures.q_statistic,
    "without": pictures.losses_without,
    "budget": pictures.budget,
    "weights": pictures.weights,
    "weights-per-output": pictures.weights_per_output,
    "search": pictures.search,
    "importances": pictures.importances,
    "reliability": pictures.reliability,
}
QUICK = ["blend.fitters=[greedy,convex,optuna]", "blend.trials=25", "blend.resamples=50"]


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    monkeypatch.setattr(style, "PNG_DPI", 40)


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
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


def written(result):
    return {path.name for path in result.figures.iterdir() if path.stat().st_size > 1000}


@pytest.mark.parametrize("task", TASKS)
def test_every_picture_is_drawn_shown_and_written(blend, task):
    made = blend(task)
    figures = {name: draw(made) for name, draw in WHOLE.items()}
    figures["slices-words-of-text"] = pictures.slices(made, "words of text")
    assert written(made) == {f"{name}.{kind}" for name in figures for kind in ("png", "svg")}
    for name, figure in figures.items():
        assert isinstance(figure, Figure)
        assert figure.axes, f"IPython shows nothing of {name}"
        assert made.matrix.members[0] in words(figure) or len(words(figure)) > 30, name
    decides = "makes no decisions" not in words(figures["disagreement"])
    assert decides == (task != "regression") == bool(pictures.decisions(made))
    calibrated = "no probabilities" not in words(figures["reliability"])
    assert calibrated == (task in ("binary", "multiclass", "multilabel"))
    assert "one weight for all outputs" in words(figures["weights-per-output"])


def test_one_member_alone_and_no_search_have_all_their_pictures(blend):
    made = blend("binary", "blend={fitters: [greedy]}", members=1)
    figures = {name: draw(made) for name, draw in WHOLE.items()}
    assert all(figure.axes for figure in figures.values())
    assert "nothing to blend" in words(figures["blends"])
    assert "nothing to leave out" in words(figures["without"])
    assert "blend" not in words(figures["reliability"])
    assert pictures.searches(made) == {}
    assert "No search ran" in words(figures["search"])
    assert "No search ran" in words(figures["importances"])


def test_weights_per_output_have_a_grid_and_a_search_for_each(blend):
    made = blend("regression", "blend.weights=per_output", "blend.fitter=optuna")
    grid = words(pictures.weights_per_output(made))
    assert all(name in grid for name in (*made.matrix.members, *made.matrix.outputs))
    assert list(pictures.searches(made)) == ["a", "b"]
    for output in pictures.searches(made):
        assert f"search: {output}" in words(pictures.search(made, output))
        pictures.importances(made, output)
    assert {"search-a.png", "search-b.svg", "importances-b.png"} <= written(made)


def test_ranks_are_not_passed_off_as_probabilities(blend):
    made = blend("binary", "blend.space=rank", "metric=roc_auc")
    shown = words(pictures.reliability(made))
    assert "averages ranks" in shown
    assert " blend, calibration" not in shown
    assert "calibration error" in shown
    for labels, pred_NK in zip(pictures.decisions(made), made.matrix.oof_MNK, strict=True):
        np.testing.assert_array_equal(labels, pred_NK[:, 0] >= 0.5)


@pytest.mark.parametrize(
    ("sets", "title"),
    [
        (["blend.fitter=greedy"], "Weights in use: greedy"),
        (["blend.fitter=equal"], "Weights in use: equal (dots and lines: fitted by convex)"),
        (["blend.fitter=optuna"], "Weights in use: optuna (lines: fitted by convex)"),
    ],
)
def test_the_weights_title_says_whose_dots_and_lines_are_drawn(blend, sets, title):
    assert title in words(pictures.weights(blend("regression", *sets)))


def test_slices_of_columns_with_odd_names_have_files_of_their_own(blend):
    names = ["a/b", "a b", "../x", "词"]
    columns = {name: ["<i>one</i>", "$two$"] * 40 for name in names}
    made = blend("binary", f"blend.slices={names}", **columns)
    for name in made.findings.slices:
        assert "$two$" in words(pictures.slices(made, name)) or name == "words of text"
    stems = ["words-of-text", "1", "2", "x", "4"]
    assert written(made) == {f"slices-{stem}.{kind}" for stem in stems for kind in ("png", "svg")}


def test_tables_have_the_cards_numbers_and_escape_names_in_html():
    scored = member(score=0.71239, low=0.7, high=0.75, fold_scores=(0.7, None))
    card = blend_card(members={"<script>": scored}, left_out={"knn": "lacks fold 1 of 2"})
    table = tables.member_scores(card)
    assert table.loc["<script>"].tolist() == ["0.7124", "0.7000..0.7500", "0.7000", "undefined"]
    assert "<script>" not in table.to_html()
    assert tables.blender_scores(card).loc["equal", "honest"] == "0.7000"
    losses = tables.contributions(card)["loss without it"]
    assert losses.tolist() == ["+0.1000 (+0.0500..+0.2000)"]
    assert tables.show(card).endswith("One member.\n\nNot in this blend: knn lacks fold 1 of 2.")
