"""Laws of soft labels: what models learn from beside hard labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from poolblend.competition.targets import soft_labels
from poolblend.competition.tasks import Task
from rig.tables import refused

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
    with refused("data.soft: the row of id 'b' sums to 0.9 (1 such rows), expected 1; correct the"):
        soft_labels(MULTICLASS, frame(p=[0.5, 0.4], q=[0.5, 0.5]), ["p", "q"], "id")


def test_one_column_per_output_is_asked_for() -> None:
    with refused("data.soft names 1 columns, expected 2: one for each of x, y, in this order"):
        soft_labels(MULTICLASS, frame(p=[0.5, 0.4]), ["p"], "id")
    with refused("data.soft names 2 columns, expected 1: one for positive label yes, in this ord"):
        table = frame(p=[0.5, 0.4], q=[0.5, 0.6])
        soft_labels(Task("binary", ("t",), ("no", "yes")), table, ["p", "q"], "id")


@pytest.mark.parametrize("kind", ["regression", "ordinal"])
def test_targets_that_are_no_probabilities_are_refused(kind: str) -> None:
    with refused(f"data.soft: {kind} targets are not probabilities; leave it out"):
        soft_labels(Task(kind, ("t",), (1, 2)), frame(p=[0.5, 0.4]), ["p"], "id")
