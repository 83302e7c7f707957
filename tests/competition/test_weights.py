"""Laws of weights: balanced labels count alike, and no row counts less than nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from poolblend.competition.weights import balanced_weights, row_weights
from refusals import refused
from sklearn.utils.class_weight import compute_class_weight

from poolblend.competition.tasks import Task

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


def column(*cells: str | None) -> pd.Series:
    return pd.Series(cells, dtype=str, name="w")


def test_weights_are_read_as_numbers() -> None:
    weights = row_weights(Path("train.csv"), column("1", " .5", "2e1", "0", "0.0"))
    assert weights.tolist() == [1, 0.5, 20, 0, 0]


@pytest.mark.parametrize("cell", ["-1", "-0.001", "inf", "nan", "much"])
def test_a_weight_that_is_negative_or_no_number_is_refused_with_its_row(cell: str) -> None:
    with refused(f"train.csv row 3 holds '{cell}' in "):
        row_weights(Path("train.csv"), column("1", cell))


def test_a_row_without_a_weight_is_refused() -> None:
    with refused(
        "train.csv row 2 holds nothing in column 'w' of data.weight (1 such rows), expected a "
        "finite number, 0 or more; mend the cell"
    ):
        row_weights(Path("train.csv"), column(None, "1"))
