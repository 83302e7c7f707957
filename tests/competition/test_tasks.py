"""Laws of tasks: encoding and decoding are inverse, and labels outside the kind are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolblend.competition.tasks import KINDS, Task, make_task
from rig.tables import refused


def frame(**columns: list) -> pd.DataFrame:
    return pd.DataFrame(columns)


def scores_of(task: Task, y: np.ndarray) -> np.ndarray:
    """Predictions pred_NK that are certain of y."""
    if task.kind == "multiclass":
        return np.eye(len(task.outputs))[y]
    if task.kind == "ordinal":
        return np.array(task.classes, dtype=np.float64)[y][:, None]
    return y.reshape(len(y), -1).astype(np.float64)


TASKS = {
    "binary": (frame(a=[0, 1, 1]), ["a"]),
    "multiclass": (frame(a=["x", "z", "y", "x"]), ["a"]),
    "multilabel": (frame(a=[0, 1, 1], b=[0, 0, 1]), ["a", "b"]),
    "regression": (frame(a=[0.5, 3.0, -1.0], b=[1.0, 2.0, 3.5]), ["a", "b"]),
    "ordinal": (frame(a=[4, 1, 2, 1, 8]), ["a"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_certain_predictions_come_back_as_the_encoded_targets(kind: str) -> None:
    train, targets = TASKS[kind]
    task = make_task(kind, train, targets)
    y = task.encode(train)
    pred_NK = scores_of(task, y)
    assert pred_NK.shape == (len(train), len(task.outputs))
    labels = task.labels(pred_NK)
    assert labels.dtype == y.dtype
    np.testing.assert_array_equal(labels, y)


LABELS = st.lists(st.text(min_size=1), min_size=2, unique=True) | st.lists(
    st.integers(-(10**9), 10**9), min_size=2, unique=True
)


@settings(deadline=None)
@given(classes=LABELS, data=st.data())
def test_classes_decode_to_the_very_values_they_were_encoded_from(
    classes: list, data: st.DataObject
) -> None:
    values = classes + data.draw(st.lists(st.sampled_from(classes)))
    train = frame(label=values)
    task = make_task("binary" if len(classes) == 2 else "multiclass", train, ["label"])
    assert task.classes == tuple(sorted(classes))
    decoded = task.decode(task.encode(train))
    assert decoded.tolist() == values
    assert decoded.dtype == (object if isinstance(classes[0], str) else np.int64)


def test_the_positive_label_is_the_last_unless_named() -> None:
    train = frame(a=["ham", "spam", "ham"])
    assert make_task("binary", train, ["a"]).classes == ("ham", "spam")
    task = make_task("binary", train, ["a"], positive="ham")
    assert task.classes == ("spam", "ham")
    assert task.encode(train).tolist() == [1, 0, 1]
    assert task.decode(np.array([0, 1])).tolist() == ["spam", "ham"]


def test_the_positive_label_of_numbers_may_be_named_as_text() -> None:
    assert make_task("binary", frame(a=[1, 2]), ["a"], positive="1").classes == (2, 1)
    assert make_task("binary", frame(a=[1, 2]), ["a"], positive=2).classes == (1, 2)
    for positive in (0, 0.0, "0", "0.0"):
        for column in ([1, 0], [1.0, 0.0]):
            assert make_task("binary", frame(a=column), ["a"], positive=positive).classes == (1, 0)


def test_an_unknown_positive_label_names_the_nearest() -> None:
    with refused("unknown positive label 'spa' in 'a'; did you mean 'spam'? known: ham, spam"):
        make_task("binary", frame(a=["ham", "spam"]), ["a"], positive="spa")


def test_a_label_unseen_in_train_is_refused() -> None:
    task = make_task("multiclass", frame(a=["x", "y", "z"]), ["a"])
    with refused("unknown label 'w' in column 'a'; known: x, y, z"):
        task.encode(frame(a=["x", "w"]))


@pytest.mark.parametrize("kind", ["binary", "ordinal"])
def test_several_targets_are_refused_where_one_is_meant(kind: str) -> None:
    with refused(f"a {kind} task has one target column, not 2 (a, b); name one, or use multiclass"):
        make_task(kind, frame(a=[0, 1], b=[0, 1]), ["a", "b"])


class TestOneHotTargets:
    """Several columns of a multiclass task are its classes, of which each row has one."""

    NAMES = ("win_b", "win_a", "tie")  # classes keep the config's order

    def one_hot(self, *rows: list[float]) -> pd.DataFrame:
        return pd.DataFrame(
            rows, columns=list(self.NAMES), index=[f"r{k}" for k in range(len(rows))]
        )

    def test_each_column_is_a_class_and_an_output(self) -> None:
        train = self.one_hot([1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1])
        task = make_task("multiclass", train, self.NAMES)
        assert task.classes == task.outputs == task.targets == self.NAMES
        y = task.encode(train)
        assert y.tolist() == [0, 2, 1, 2]
        assert y.dtype == np.int64
        np.testing.assert_array_equal(task.decode(y), train.to_numpy())
        np.testing.assert_array_equal(task.labels(np.eye(3)[y]), y)

    def test_a_shared_row_is_of_the_largest_share_and_of_equal_ones_of_the_first(self) -> None:
        train = self.one_hot([0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [0.0, 0.5, 0.5], [0.33, 0.33, 0.33])
        task = make_task("multiclass", train, self.NAMES)
        assert task.encode(train).tolist() == [1, 0, 1, 0]
        np.testing.assert_allclose(task.shares(train).sum(axis=1), 1, rtol=1e-12)
        assert task.shares(train)[0].tolist() == [0.2, 0.5, 0.3]

    @pytest.mark.parametrize(
        ("row", "told"), [([0, 0, 0], "0"), ([1, 1, 0], "2"), ([1, 0, 0.4], "1.4")]
    )
    def test_a_row_that_does_not_sum_to_1_is_refused_by_name_and_sum(
        self, row: list[float], told: str
    ) -> None:
        with refused(
            f"target columns win_b, win_a, tie: row 'r1' sums to {told} (2 such rows), expected 1; "
            "correct the row, or use task=multilabel"
        ):
            make_task("multiclass", self.one_hot([0, 1, 0], row, [1, 0, 0], row), self.NAMES)

    def test_counts_and_words_are_refused(self) -> None:
        with refused("column 'tie' holds 3 in 1 rows; a multiclass target holds 1 or 0, or shares"):
            make_task("multiclass", self.one_hot([0, 1, 0], [0, 0, 3]), self.NAMES)
        with refused("column 'tie' holds True, False in 2 rows; a multiclass target holds 1 or 0"):
            words = frame(win_b=[0, 1], win_a=[0, 0], tie=["True", "False"])
            make_task("multiclass", words, self.NAMES)

    def test_one_class_alone_and_classes_of_the_config_are_refused(self) -> None:
        with refused("column 'win_a' has the largest share of all rows; a multiclass task needs"):
            make_task("multiclass", self.one_hot([0, 1, 0], [0, 1, 0]), self.NAMES)
        with refused("data.classes: with 3 target columns these are the classes; leave it out"):
            train = self.one_hot([0, 1, 0], [1, 0, 0])
            make_task("multiclass", train, self.NAMES, classes=self.NAMES)


def test_one_target_is_refused_where_several_are_meant() -> None:
    with refused("a multilabel task has several target columns, not 1 (a); name more, or use bin"):
        make_task("multilabel", frame(a=[0, 1]), ["a"])


ORDINAL = make_task("ordinal", frame(a=[8, 1, 2, 4, 1]), ["a"])


class TestOrdinal:
    """Predictions are values on the classes' own scale, labels are places among the classes."""

    def test_labels_change_midway_between_classes_unless_cuts_are_given(self) -> None:
        cuts = ORDINAL.default_cuts
        assert cuts is not None
        assert cuts.tolist() == [1.5, 3, 6]
        values_N1 = np.array([[-9.0], [1.49], [1.5], [2.9], [3.0], [5.9], [6.0], [99.0]])
        assert ORDINAL.labels(values_N1).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        moved = ORDINAL.labels(values_N1, np.array([0.0, 6.0, 6.0]))
        assert moved.tolist() == [0, 1, 1, 1, 1, 1, 3, 3]

    @settings(deadline=None)
    @given(values=st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1))
    def test_labels_of_the_learnt_values_decode_to_the_cells(self, values: list[int]) -> None:
        learnt_N1 = ORDINAL.training_targets(ORDINAL.encode(frame(a=values)))
        assert ORDINAL.decode(ORDINAL.labels(learnt_N1)).tolist() == values


def test_each_label_of_a_multilabel_task_has_a_cut_of_its_own() -> None:
    task = make_task("multilabel", *TASKS["multilabel"])
    pred_NK = np.array([[0.3, 0.3], [0.6, 0.6]])
    assert task.labels(pred_NK, np.array([0.2, 0.6])).tolist() == [[1, 0], [1, 1]]


class TestGivenClasses:
    """`data.classes` names the labels that may occur; those that do not occur are kept."""

    def test_classes_are_sorted_and_an_absent_one_is_an_output(self) -> None:
        task = make_task("multiclass", frame(a=["z", "x"]), ["a"], classes=["z", "y", "x"])
        assert task.outputs == ("x", "y", "z")
        assert task.encode(frame(a=["z", "x"])).tolist() == [2, 0]

    @pytest.mark.parametrize(
        ("cells", "given", "classes"),
        [
            ([0, 1], [1.0, 0.0], (0, 1)),
            ([0, 1], ["0", "1", "2"], (0, 1, 2)),
            ([0.0, 1.0], [0, 1], (0.0, 1.0)),
            ([0, 1], [0, 0.5, 1], (0.0, 0.5, 1.0)),
            (["0", "x"], [0, "x"], ("0", "x")),
            ([0, 1], ["0", "1", "none"], ("0", "1", "none")),
        ],
    )
    def test_labels_take_the_type_that_the_column_was_read_as(
        self, cells: list, given: list, classes: tuple
    ) -> None:
        task = make_task("multiclass", frame(a=cells), ["a"], classes=given)
        assert task.classes == classes
        assert [type(label) for label in task.classes] == [type(label) for label in classes]
        assert task.decode(task.encode(frame(a=cells))).tolist() == [
            classes[list(map(str, classes)).index(str(type(classes[0])(cell)))] for cell in cells
        ]

    def test_a_binary_task_has_two_and_the_positive_one_is_among_them(self) -> None:
        task = make_task("binary", frame(a=["n", "y"]), ["a"], positive="n", classes=["n", "y"])
        assert task.classes == ("y", "n")
        with refused("data.classes names 3 labels (0, 1, 2); a binary task needs exactly two"):
            make_task("binary", frame(a=[0, 1]), ["a"], classes=[0, 1, 2])

    def test_a_label_named_twice_is_refused(self) -> None:
        with refused("data.classes names a label twice (0, 1, 1.0); name each once"):
            make_task("multiclass", frame(a=[0, 1]), ["a"], classes=[0, 1, 1.0])

    def test_tasks_without_classes_refuse_them(self) -> None:
        with refused("data.classes: a regression task has no classes; leave it out"):
            make_task("regression", frame(a=[0, 1]), ["a"], classes=[0, 1])
