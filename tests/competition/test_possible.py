"""The labels that a column says are possible in a row: read, checked, and applied."""

import numpy as np
import pandas as pd
import pytest

from poolblend.competition.possible import check_true_possible, only_possible, possible_labels
from poolblend.competition.tasks import Task
from poolblend.errors import UserError

TASK = Task("multiclass", ("kind",), ("a", "b", "c c"))


def read(*cells, task=TASK):
    index = [f"r{n}" for n in range(len(cells))]
    return possible_labels(task, pd.DataFrame({"may": cells}, index), "may")


@pytest.mark.parametrize(
    "cells",
    [["a;b", "c c", " b ; c c "], ["a, b", "c c", "b, c c"], ["b|a", "c c", "c c|b|b"]],
)
def test_cells_name_labels_as_a_sample_submission_does(cells):
    assert read(*cells).tolist() == [[True, True, False], [False, False, True], [False, True, True]]


def test_an_empty_cell_leaves_every_label_possible():
    every = [True, True, True]
    assert read("a", None, " ", np.nan).tolist() == [[True, False, False], every, every, every]
    assert read(None, None).tolist() == [every, every]
    assert possible_labels(TASK, pd.DataFrame({"other": [1]}), None) is None


def test_numbers_are_labels_too():
    task = Task("multiclass", ("kind",), (1, 2, 10))
    assert read("1 10", "2", task=task).tolist() == [[True, False, True], [False, True, False]]
    assert read(10, 2, task=task).tolist() == [[False, False, True], [False, True, False]]
    every = [True, True, True]
    assert read(10.0, np.nan, 2.0, task=task).tolist() == [
        [False, False, True],
        every,
        [False, True, False],
    ]


def test_at_inference_a_label_that_is_none_is_ignored_with_a_warning(caplog):
    table = pd.DataFrame({"may": ["a;d", "d", "b;a", "a;d"]}, index=["r0", "r1", "r2", "r3"])
    possible_NK = possible_labels(TASK, table, "may", strict=False)
    assert possible_NK.tolist() == [
        [True, False, False],
        [True, True, True],
        [True, True, False],
        [True, False, False],
    ]
    assert "'d' is no label of column 'kind'; in 3 rows such labels are ignored" in caplog.text


def test_a_label_that_is_none_is_refused_with_its_row():
    line = "data.possible: row 'r1' holds 'a;d' in column 'may', and 'd' is no label of column"
    with pytest.raises(UserError, match=line):
        read("a;b", "a;d")


def test_a_true_label_that_is_not_possible_is_refused_with_its_row():
    table = pd.DataFrame({"may": ["a;b", "a;b", "b;a"]}, index=["r0", "r1", "r2"])
    possible_NK = possible_labels(TASK, table, "may")
    check_true_possible(TASK, table, "may", np.array([0, 1, 1]), possible_NK)
    line = "row 'r1' has the label 'c c', which its cell in column 'may' does not name .2 rows"
    with pytest.raises(UserError, match=line):
        check_true_possible(TASK, table, "may", np.array([0, 2, 2]), possible_NK)


def test_probabilities_of_other_labels_go_to_those_that_are_possible():
    pred_NK = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.0, 0.0, 1.0], [0.2, 0.2, 0.6]])
    possible_NK = np.array([[1, 0, 1], [1, 1, 1], [1, 1, 0], [0, 1, 0]], dtype=bool)
    expected_NK = [[5 / 7, 0, 2 / 7], [0.5, 0.3, 0.2], [0.5, 0.5, 0], [0, 1, 0]]
    np.testing.assert_allclose(only_possible(pred_NK, possible_NK), expected_NK, atol=1e-15)
    assert only_possible(pred_NK, None) is pred_NK
