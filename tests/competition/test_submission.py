"""Laws of submissions: the sample's columns, ids and order, and every other table refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from poolblend.competition.filling import find_filling
from poolblend.competition.options import Submission
from poolblend.competition.submission import build_submission, check_submission
from poolblend.competition.tasks import Task
from rig.tables import refused, unlabelled

IDS = ["x", "y", "z"]
BINARY = Task("binary", ("target",), ("ham", "spam"))
MULTICLASS = Task("multiclass", ("label",), ("a", "b", "c"))
MULTILABEL = Task("multilabel", ("p", "q"))
REGRESSION = Task("regression", ("u", "v"))
ORDINAL = Task("ordinal", ("grade",), (1, 2, 4))
PRED_N1 = np.array([[0.1], [0.5], [0.9]])
PRED_N2 = np.array([[0.1, 0.6], [0.5, 0.2], [0.9, 0.8]])
PRED_N3 = np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.3, 0.6, 0.1]])


def sample(*columns: str, value: object = 0, ids: list[str] = IDS) -> pd.DataFrame:
    return pd.DataFrame({"id": ids} | dict.fromkeys(columns, value))


def built(
    task: Task,
    template: pd.DataFrame,
    ids: list[str],
    pred_NK: np.ndarray,
    values: str,
    cuts: np.ndarray | None = None,
) -> pd.DataFrame:
    filling = find_filling(task, unlabelled(template), Submission(values=values))
    return build_submission(task, filling, ids, pred_NK, id="id", cuts=cuts)


@pytest.mark.parametrize(
    ("task", "pred_NK", "values", "template", "columns"),
    [
        (BINARY, PRED_N1, "labels", sample("target", value="ham"), [["ham", "spam", "spam"]]),
        (BINARY, PRED_N1, "probabilities", sample("target"), [[0.1, 0.5, 0.9]]),
        (MULTICLASS, PRED_N3, "labels", sample("label", value="a"), [["c", "a", "b"]]),
        (MULTICLASS, PRED_N3, "probabilities", sample("c", "a", "b"), PRED_N3.T[[2, 0, 1]]),
        (MULTILABEL, PRED_N2, "labels", sample("q", "p"), [[1, 0, 1], [0, 1, 1]]),
        (MULTILABEL, PRED_N2, "probabilities", sample("q", "p"), PRED_N2.T[[1, 0]]),
        (REGRESSION, PRED_N2, "labels", sample("v", "u"), PRED_N2.T[[1, 0]]),
        (REGRESSION, PRED_N2, "probabilities", sample("u", "v"), PRED_N2.T),
        (Task("regression", ("u",)), PRED_N1, "probabilities", sample("prediction"), PRED_N1.T),
        (BINARY, PRED_N1, "labels", sample("Answer", value="ham"), [["ham", "spam", "spam"]]),
        (ORDINAL, 4 * PRED_N1, "labels", sample("grade"), [[1, 2, 4]]),
        (ORDINAL, 4 * PRED_N1, "probabilities", sample("grade"), 4 * PRED_N1.T),
    ],
)
def test_each_task_fills_the_samples_columns(
    task: Task, pred_NK: np.ndarray, values: str, template: pd.DataFrame, columns: list
) -> None:
    submission = built(task, template, IDS, pred_NK, values)
    check_submission(submission, template, id="id")
    assert submission.columns.tolist() == template.columns.tolist()
    assert submission["id"].tolist() == IDS
    for name, wanted in zip(template.columns[1:], columns, strict=True):
        assert submission[name].tolist() == list(wanted)


@pytest.mark.parametrize(
    ("task", "pred_NK", "cuts", "template", "columns"),
    [
        (BINARY, PRED_N1, [0.6], sample("target", value="ham"), [["ham", "ham", "spam"]]),
        (MULTILABEL, PRED_N2, [0.05, 0.7], sample("q", "p"), [[0, 0, 1], [1, 1, 1]]),
        (ORDINAL, 4 * PRED_N1, [0.1, 2.5], sample("grade"), [[2, 2, 4]]),
    ],
)
def test_labels_are_decided_at_the_cuts_and_probabilities_are_not(
    task: Task, pred_NK: np.ndarray, cuts: list[float], template: pd.DataFrame, columns: list
) -> None:
    at = np.array(cuts)
    cut = built(task, template, IDS, pred_NK, "labels", cuts=at)
    check_submission(cut, template, id="id")
    for name, wanted in zip(template.columns[1:], columns, strict=True):
        assert cut[name].tolist() == wanted
    plain = built(task, template, IDS, pred_NK, "probabilities")
    uncut = built(task, template, IDS, pred_NK, "probabilities", cuts=at)
    pd.testing.assert_frame_equal(uncut, plain)


def test_labels_are_written_as_integers_where_the_sample_does() -> None:
    task = Task("binary", ("target",), (0.0, 1.0))
    integers = built(task, sample("target"), IDS, PRED_N1, "labels")["target"]
    assert integers.dtype == np.int64
    floats = built(task, sample("target", value=0.0), IDS, PRED_N1, "labels")["target"]
    assert floats.dtype == np.float64
    halves = Task("binary", ("target",), (0.5, 1.0))
    kept = built(halves, sample("target"), IDS, PRED_N1, "labels")["target"]
    assert kept.tolist() == [0.5, 1.0, 1.0]


def test_predictions_of_other_ids_are_refused() -> None:
    def build(ids: list[str]) -> pd.DataFrame:
        pred_NK = np.zeros((len(ids), 1))
        return built(BINARY, sample("target"), ids, pred_NK, "labels")

    with refused("1 of the sample submission's 3 ids have no prediction, the first 'z'"):
        build(["x", "y"])
    with refused("1 predicted ids are not in the sample submission, the first 'w'"):
        build(["x", "w", "y", "z"])
    with refused("id 'x' is predicted more than once"):
        build(["x", "y", "z", "x"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("values", ["labels", "probabilities"])
def test_a_prediction_that_is_not_finite_never_becomes_a_label(bad: float, values: str) -> None:
    pred_NK = PRED_N2.copy()
    pred_NK[1, 0] = bad
    with refused("1 predictions are NaN or infinite, the first of 'p' for id 'y'; predict"):
        built(MULTILABEL, sample("p", "q"), IDS, pred_NK, values)


def test_a_submission_with_other_columns_is_refused() -> None:
    with refused("submission has columns id, v, u; expected the sample's: id, u, v"):
        check_submission(sample("v", "u"), sample("u", "v"), id="id")


def test_a_submission_in_another_order_is_refused() -> None:
    with refused("submission has id 'z' at position 1, the sample 'y'; keep the sample's order"):
        check_submission(sample("u", ids=["x", "z", "y"]), sample("u"), id="id")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_submission_with_a_cell_that_is_no_number_is_refused(bad: float) -> None:
    submission = sample("u", value=0.5)
    submission.loc[1, "u"] = bad
    with refused("submission column 'u' has 1 cells that are empty, NaN or infinite, the first at"):
        check_submission(submission, sample("u"), id="id")


def test_a_submission_of_another_kind_of_values_is_refused() -> None:
    with refused("column 'u' holds text ('spam'), the sample's holds numbers ('0'); check whether"):
        check_submission(sample("u", value="spam"), sample("u"), id="id")
    with refused("column 'u' holds numbers ('0.5'), the sample's holds text ('spam')"):
        check_submission(sample("u", value=0.5), sample("u", value="spam"), id="id")


def test_a_sample_with_empty_cells_accepts_any_kind_of_values() -> None:
    for value in (0.5, "spam"):
        check_submission(sample("u", value=value), sample("u", value=None), id="id")
