"""Laws of soft labels and balanced weights: what models learn from beside hard labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_class_weight

from poolblend.competition.targets import balanced_weights, soft_labels
from poolblend.competition.tasks import Task
from rig.tables import refused

CLASSES = {
    "binary": Task("binary", ("a",), (0, 1)),
    "multiclass": Task("multiclass", ("a",), ("x", "y", "z")),
    "ordinal": Task("ordinal", ("a",), (0, 1, 2)),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_balanced_weights_are_those_of_scikit_learn(kind: str) -> None:
    y = np.array([0, 0, 0, 1, 1, 0, 0] + [2] * (kind != "binary"))
    weight_N = balanced_weights(CLASSES[kind], y)
    by_class = compute_class_weight("balanced", classes=np.unique(y), y=y)
    np.testing.assert_allclose(weight_N, by_class[y])
    assert weight_N.mean() == pytest.approx(1)


def test_a_class_that_does_not_occur_changes_nothing() -> None:
    y = np.array([0, 0, 0, 2])
    weight_N = balanced_weights(CLASSES["ordinal"], y)
    np.testing.assert_allclose(weight_N, [2 / 3, 2 / 3, 2 / 3, 2])


def test_labels_of_a_multilabel_task_are_balanced_apart() -> None:
    y_NK = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]])
    weight_NK = balanced_weights(Task("multilabel", ("a", "b", "c")), y_NK)
    np.testing.assert_allclose(weight_NK[:, 0], [2, 2 / 3, 2 / 3, 2 / 3])
    np.testing.assert_allclose(weight_NK[:, 1], [2, 2 / 3, 2 / 3, 2 / 3])
    np.testing.assert_allclose(weight_NK[:, 2], 1)


def test_regression_has_no_classes_to_balance() -> None:
    with refused("train.class_weights: a regression task has no classes to balance; set it to no"):
        balanced_weights(Task("regression", ("a",)), np.zeros((3, 1)))


MULTICLASS = Task("multiclass", ("label",), ("x", "y"))


def frame(**columns: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"id": ["a", "b"], **columns})


def test_columns_are_taken_in_the_order_named() -> None:
    table = frame(p=[0.25, 1.0], q=[0.75, 0.0])
    assert soft_labels(MULTICLASS, table, ["q", "p"], "id").tolist() == [[0.75, 0.25], [0.0, 1.0]]
    multilabel = Task("multilabel", ("s", "t"))
    unlike = frame(p=[0.25, 1.0], q=[0.5, 1.0])
    assert soft_labels(multilabel, unlike, ["p", "q"], "id").tolist() == [[0.25, 0.5], [1.0, 1.0]]
    binary = Task("binary", ("t",), (0, 1))
    assert soft_labels(binary, unlike, ["p"], "id").tolist() == [[0.25], [1.0]]


def test_a_row_that_is_rounded_is_normalised() -> None:
    table = frame(p=[0.333, 0.5], q=[0.6665, 0.5])
    soft_NK = soft_labels(MULTICLASS, table, ["p", "q"], "id")
    np.testing.assert_allclose(soft_NK.sum(axis=1), 1, rtol=1e-12)
    assert soft_NK[0, 0] == pytest.approx(0.333 / 0.9995)
    thirds = frame(p=[0.33, 0.34], q=[0.33, 0.34], r=[0.33, 0.33])
    soft_NK = soft_labels(Task("multiclass", ("t",), ("x", "y", "z")), thirds, list("pqr"), "id")
    np.testing.assert_allclose(soft_NK[0], 1 / 3)


def test_a_row_that_does_not_sum_to_1_is_refused_by_its_id() -> None:
    with refused("data.soft: the row of id 'b' sums to 0.9 (1 such rows), expected 1; mend the"):
        soft_labels(MULTICLASS, frame(p=[0.5, 0.4], q=[0.5, 0.5]), ["p", "q"], "id")


def test_one_column_per_output_is_asked_for() -> None:
    with refused("data.soft names 1 columns, expected 2: one for each of x, y, in this order"):
        soft_labels(MULTICLASS, frame(p=[0.5, 0.4]), ["p"], "id")
    with refused("data.soft names 2 columns, expected 1: one for positive label yes, in this ord"):
        table = frame(p=[0.5, 0.4], q=[0.5, 0.6])
        soft_labels(Task("binary", ("t",), ("no", "yes")), table, ["p", "q"], "id")


@pytest.mark.parametrize("kind", ["regression", "ordinal"])
def test_targets_that_are_no_probabilities_are_refused(kind: str) -> None:
    with refused(f"data.soft: {kind} targets are no probabilities; leave it out"):
        soft_labels(Task(kind, ("t",), (1, 2)), frame(p=[0.5, 0.4]), ["p"], "id")
