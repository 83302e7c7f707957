"""Laws of filling a sample submission: what fills a column is told by names, or is asked for."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from poolblend.competition.filling import Filling, find_filling
from poolblend.competition.names import match_names
from poolblend.competition.options import Submission
from poolblend.competition.submission import build_submission, check_submission
from poolblend.competition.tasks import Task
from rig.tables import refused, unlabelled

IDS = ["x", "y", "z"]
STATUS = Task("multiclass", ("Status",), ("C", "CL", "D"))
BINARY = Task("binary", ("y",), (0, 1))
AUTHOR = Task("binary", ("label",), ("human", "AI"))
REGRESSION = Task("regression", ("u", "v"))
MULTILABEL = Task("multilabel", ("nice", "nasty"))
ESSAYS = Task("regression", ("score",))
PRED_N1 = np.array([[0.1], [0.5], [0.9]])
PRED_N2 = np.array([[0.1, 0.6], [0.5, 0.2], [0.9, 0.8]])
PRED_N3 = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.3, 0.6, 0.1]])


def find(
    task: Task, columns: dict[str, object], values: str = "auto", inputs: str = "labels", **keys
) -> Filling:
    """`given` is the config's submission.columns."""
    own = {key: keys.pop(key) for key in ("test", "own_rows") if key in keys}
    tables = unlabelled(pd.DataFrame({"id": IDS} | columns), **own)
    options = Submission(values=values, columns=keys.pop("given", {}), **keys)
    return find_filling(task, tables, options, inputs)


def made(task: Task, filling: Filling) -> dict[str, list]:
    pred_NK = {1: PRED_N1, 2: PRED_N2, 3: PRED_N3}[len(task.outputs)]
    submission = build_submission(task, filling, IDS, pred_NK, id="id")
    check_submission(submission, filling.template, id="id", copied=filling.copied)
    return submission.drop(columns="id").to_dict("list")


@pytest.mark.parametrize(
    ("columns", "how"),
    [
        (["Status_C", "Status_CL", "Status_D"], "without prefix 'Status_'"),
        (["Status_D", "Status_C", "Status_CL"], "without prefix 'Status_'"),
        (["C_prob", "CL_prob", "D_prob"], "without suffix '_prob'"),
        (["p(C)", "p(CL)", "p(D)"], "without prefix 'p(' and suffix ')'"),
        (["d", "c", "cl"], "ignoring case"),
        (["status_c", "status_cl", "status_d"], "without prefix 'status_', ignoring case"),
        (["CL", "C", "D"], ""),
    ],
)
@pytest.mark.parametrize("cell", [0, 1 / 3])
def test_a_column_for_each_class_is_matched_by_name_whatever_its_affix_and_order(
    columns: list[str], how: str, cell: float
) -> None:
    filling = find(STATUS, dict.fromkeys(columns, cell))
    assert filling.values == "probabilities"
    assert how in filling.how
    assert bool(filling.how) == bool(how)
    cells = made(STATUS, filling)
    for k, label in enumerate(STATUS.classes):
        plain = [re.sub(r"status_|_prob|p\(|\)", "", column.casefold()) for column in columns]
        column = columns[plain.index(label.casefold())]
        assert cells[column] == PRED_N3[:, k].tolist()


@settings(deadline=None)
@given(
    names=st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=6, unique=True),
    prefix=st.text(max_size=4),
    suffix=st.text(max_size=4),
    data=st.data(),
)
def test_one_prefix_and_suffix_for_all_gives_each_name_its_own_column(
    names: list[str], prefix: str, suffix: str, data: st.DataObject
) -> None:
    columns = {name: f"{prefix}{name}{suffix}" for name in names}
    order = data.draw(st.permutations(sorted(columns.values())))
    # A name may be equal to another name's column: then more than one match is right.
    assume(not set(names) & set(order))
    match = match_names(names, order)
    assert match is not None
    assert match.columns == columns


@pytest.mark.parametrize(
    ("task", "columns", "cells"),
    [
        (BINARY, {"0": 0.5, "1": 0.5}, {"0": [0.9, 0.5, 0.1], "1": [0.1, 0.5, 0.9]}),
        (BINARY, {"1": 0, "0": 0}, {"1": [0.1, 0.5, 0.9], "0": [0.9, 0.5, 0.1]}),
        (
            BINARY,
            {"prob_0": 0, "prob_1": 1},
            {"prob_0": [0.9, 0.5, 0.1], "prob_1": [0.1, 0.5, 0.9]},
        ),
        (AUTHOR, {"ai": 0.5, "human": 0.5}, {"ai": [0.1, 0.5, 0.9], "human": [0.9, 0.5, 0.1]}),
        (AUTHOR, {"human": 0.5}, {"human": [0.9, 0.5, 0.1]}),
        (AUTHOR, {"generated": 0.5}, {"generated": [0.1, 0.5, 0.9]}),
        (BINARY, {"0": 0.5}, {"0": [0.1, 0.5, 0.9]}),  # a column that pandas had no name for
    ],
)
def test_columns_of_a_binary_task_hold_the_probability_of_the_label_they_name(
    task: Task, columns: dict, cells: dict
) -> None:
    found = made(task, find(task, columns))
    assert found.keys() == cells.keys()
    for column, wanted in cells.items():
        assert found[column] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        (BINARY, {"y": 0, "Usage": ["Public", "Private", "Public"]}),
        (BINARY, {"Usage": "Public", "prediction": 0.5}),
        (STATUS, {"Status": "C", "Usage": ["Public", "Private", "Public"]}),
        (STATUS, {"Answer": "C", "Usage": "Public"}),
        (STATUS, {"Status_C": 0.3, "Usage": "Public", "Status_CL": 0.3, "Status_D": 0.4}),
        (REGRESSION, {"v": 0.0, "u": 0.0, "Usage": "Public"}),
        (MULTILABEL, {"is_nasty": 0, "is_nice": 0, "Usage": "Public"}),
        (STATUS, {"Status": "C", "weight": [0.5, 1.0, 2.0]}),
    ],
)
def test_a_column_that_cannot_hold_predictions_is_copied_and_named(
    task: Task, columns: dict
) -> None:
    filling = find(task, columns)
    (extra,) = filling.copied
    assert extra in ("Usage", "weight")
    assert f"copied: '{extra}'" in filling.how
    cells = made(task, filling)
    assert cells[extra] == pd.Series(columns[extra], range(3)).tolist()
    assert list(cells) == list(columns)


def test_a_column_that_test_has_too_is_copied() -> None:
    test = pd.DataFrame({"id": ["z", "y", "x"], "essay_set": ["3", "2", "1"]})
    columns = {"essay_set": [1, 2, 3], "predicted_score": 0}
    filling = find(ESSAYS, columns, test=test)
    assert filling.copied == ["essay_set"]
    assert filling.sources["predicted_score"].name == "score"
    with refused("has columns essay_set, predicted_score, but"):
        find(ESSAYS, columns | {"essay_set": [1, 2, 4]}, test=test)


@pytest.mark.parametrize(
    ("task", "columns", "message"),
    [
        (BINARY, {"y": 0, "w": 1}, "has columns y, w, but labels of this task are y"),
        (REGRESSION, {"u": 0, "v": 0, "w": 0}, "has columns u, v, w, but"),
        (
            STATUS,
            {"Status_C": 0.3, "Status_CL": 0.3},
            "but probabilities of this task are C, CL, D",
        ),
        (STATUS, {"Status": "C", "C": 0.3, "CL": 0.3, "D": 0.4}, "has columns Status, C, CL, D"),
        (
            STATUS,
            {f"{stem}_{label}": 0.3 for stem in "pq" for label in STATUS.classes},
            "'C' may be any of the sample submission's columns 'p_C', 'q_C'; say which with",
        ),
        (ESSAYS, {"score_a": 0.0, "score_b": 0.0}, "has columns score_a, score_b, but"),
        (ESSAYS, {"rescored": 0.0, "other": 0.0}, "has columns rescored, other, but"),
    ],
)
def test_what_no_name_tells_is_refused_and_the_key_named(
    task: Task, columns: dict, message: str
) -> None:
    with refused(message) as caught:
        find(task, columns)
    assert "submission.columns" in str(caught.value)


@pytest.mark.parametrize(
    ("task", "columns", "given", "sources"),
    [
        (BINARY, {"y": 0, "w": 1}, {"w": "copy"}, ["y", "copy"]),
        (REGRESSION, {"first": 0, "v": 0}, {"first": "u"}, ["u", "v"]),
        (REGRESSION, {"a": 0, "b": 0}, {"a": "v", "b": "u"}, ["v", "u"]),
        (BINARY, {"p": 0.5}, {"p": 0}, ["0"]),
        (AUTHOR, {"p": 0.5}, {"p": "human"}, ["human"]),
        (AUTHOR, {"human": 0.5}, {"human": "ai"}, ["AI"]),
        (STATUS, {"x": 0, "CL": 0, "D": 0}, {"x": "C"}, ["C", "CL", "D"]),
        (
            STATUS,
            {"best": "C", "C": 0.3, "CL": 0.3, "D": 0.3},
            {"best": "Status"},
            ["Status", "C", "CL", "D"],
        ),
        (
            Task("multiclass", ("t",), (0.0, 1.0)),
            {"a": 0, "b": 0},
            {"a": 1, "b": 0},
            ["1.0", "0.0"],
        ),
    ],
)
def test_the_users_word_decides_and_names_tell_the_rest(
    task: Task, columns: dict, given: dict, sources: list[str]
) -> None:
    filling = find(task, columns, given=given)
    assert [source.name for source in filling.sources.values()] == sources
    if len(task.outputs) in (1, 3):
        made(task, filling)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"z": "copy"}, "unknown column 'z' for submission.columns in the sample submission"),
        ({"y": "zz"}, "unknown output or label 'zz' in submission.columns.y; known: 0, 1, copy, y"),
        ({"y": "copy"}, "submission.columns leaves no column for predictions"),
    ],
)
def test_a_word_that_names_nothing_is_refused(given: dict, message: str) -> None:
    with refused(message):
        find(BINARY, {"y": 0}, given=given)


class TestRowsThatTheSampleLacks:
    """Copied columns of rows that were made for test's further ids."""

    test = pd.DataFrame({"id": ["z", "y", "x"], "set": ["3", "2", "1"]})

    def test_a_constant_is_copied(self) -> None:
        filling = find(BINARY, {"y": 0, "Usage": "Public"}, own_rows=False)
        assert made(BINARY, filling)["Usage"] == ["Public"] * 3

    def test_a_column_of_test_is_taken_from_there(self) -> None:
        filling = find(BINARY, {"y": 0, "set": [7, 8, 7]}, own_rows=False, test=self.test)
        assert made(BINARY, filling)["set"] == [1, 2, 3]

    def test_what_varies_and_is_unknown_is_refused(self) -> None:
        with refused("column 'Usage' of the sample submission is to be copied, but differs from"):
            find(BINARY, {"y": 0, "Usage": ["a", "b", "a"]}, own_rows=False)


class TestCellsOfSeveralLabels:
    def test_as_many_as_the_sample_shows_the_most_probable_first(self) -> None:
        filling = find(STATUS, {"Status": "C CL D"})
        assert made(STATUS, filling)["Status"] == ["D CL C", "C CL D", "CL C D"]
        assert "a cell holds the 3 most probable labels" in filling.how

    @pytest.mark.parametrize("separator", [" ", ",", ", ", ";", "|"])
    def test_the_separator_is_the_samples(self, separator: str) -> None:
        cells = [separator.join(pair) for pair in (["C", "CL"], ["C", "C"], ["D", "CL"])]
        filling = find(STATUS, {"Status": cells}, inputs="scores")
        assert made(STATUS, filling)["Status"] == [
            separator.join(pair) for pair in (["D", "CL"], ["C", "CL"], ["CL", "C"])
        ]

    def test_a_label_of_several_words_is_one(self) -> None:
        task = Task("multiclass", ("y",), ("a", "a b", "b"))
        assert made(task, find(task, {"y": "a b"}))["y"] == ["b", "a", "a b"]

    @pytest.mark.parametrize("cells", [["C CL", "C", "D C"], "C X", "C CL D C"])
    def test_cells_that_do_not_show_how_many_ask_for_the_key(self, cells: object) -> None:
        with refused("seems to hold several labels in a cell") as caught:
            find(STATUS, {"Status": cells})
        assert "submission.top" in str(caught.value)
        assert made(STATUS, find(STATUS, {"Status": cells}, top=2))["Status"][0] == "D CL"
        assert made(STATUS, find(STATUS, {"Status": cells}, top=1))["Status"] == ["D", "C", "CL"]

    def test_where_there_are_no_labels_they_are_refused(self) -> None:
        with refused("submission.top=4, but there are 3 labels; lower it"):
            find(STATUS, {"Status": "C"}, top=4)
        with refused("2 labels in a cell, as submission.top or the sample says, need a column"):
            find(AUTHOR, {"label": "AI human"})
        with refused("2 labels in a cell, as submission.top or the sample says, need a column"):
            find(STATUS, {"C": 0.3, "CL": 0.3, "D": 0.3}, top=2)
        with refused("2 labels in a cell, as submission.top or the sample says, need a column"):
            find(REGRESSION, {"u": 0, "v": 0}, top=2)


@pytest.mark.parametrize(
    ("task", "columns", "inputs", "values"),
    [
        (BINARY, {"y": 0}, "labels", "labels"),
        (BINARY, {"y": 0}, "scores", "probabilities"),
        (BINARY, {"y": 0.5}, "labels", "probabilities"),
        (BINARY, {"y": 0, "weight": "0.5"}, "labels", "labels"),
        (STATUS, {"Status": "C"}, "scores", "labels"),
        (STATUS, {"Status": "C", "weight": [0.5, 1, 2]}, "labels", "labels"),
        (MULTILABEL, {"nice": 0.5, "nasty": 0.5}, "labels", "probabilities"),
        (MULTILABEL, {"nice": 0, "nasty": 0}, "labels", "labels"),
    ],
)
def test_auto_goes_by_columns_metric_and_the_cells_that_predictions_fill(
    task: Task, columns: dict, inputs: str, values: str
) -> None:
    assert find(task, columns, inputs=inputs).values == values


def test_cells_that_are_no_labels_of_train_are_told() -> None:
    told = "'Status' shows 'deceased', which is not a label of train"
    assert find(STATUS, {"Status": ["deceased", "alive", "alive"]}).how == told
    assert find(STATUS, {"Status": ["deceased", "C", "C"]}).how == ""
    assert find(STATUS, {"Status": None}).how == ""
    assert find(Task("ordinal", ("y",), (1, 2)), {"y": 0}, "labels").how == ""


def test_a_copied_column_must_stay_as_it_is() -> None:
    filling = find(BINARY, {"y": 0, "Usage": "Public"})
    submission = build_submission(BINARY, filling, IDS, PRED_N1, id="id")
    with refused("submission column 'Usage' is to be copied, but differs from the sample's"):
        changed = submission.assign(Usage="Private")
        check_submission(changed, filling.template, id="id", copied=["Usage"])
