"""The matrix joins by id, and refuses whatever does not fit, naming who, where and what."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolblend.ensembling.matrix import OofMatrix, build_matrix
from poolblend.errors import UserError

IDS = ["0007", "12", "b", "a", "9", "0"]
FOLDS = pd.DataFrame({"id": IDS, "fold": [0, 1, 2, 0, 1, 2]})
Y = np.array([0, 1, 0, 1, 1, 0])


def member(shift: float = 0.0) -> pd.DataFrame:
    return FOLDS.assign(pred_target=np.linspace(0.1, 0.6, 6) + shift)


def build(*, probabilities: bool = True, **tables: pd.DataFrame) -> OofMatrix:
    return build_matrix(tables, FOLDS, Y, ["target"], probabilities=probabilities)


@given(st.permutations(range(6)))
def test_rows_follow_the_folds_table_whatever_order_a_member_has(order: list[int]) -> None:
    matrix = build(a=member(), b=member(0.1).iloc[order].reset_index(drop=True))
    assert matrix.ids_N.tolist() == IDS
    assert matrix.fold_N.tolist() == [0, 1, 2, 0, 1, 2]
    assert matrix.members == ("a", "b")
    assert matrix.outputs == ("target",)
    np.testing.assert_array_equal(matrix.y, Y)
    np.testing.assert_allclose(matrix.oof_MNK[1] - matrix.oof_MNK[0], 0.1)


def test_outputs_are_matched_by_name_not_by_place() -> None:
    table = FOLDS.assign(pred_no=0.25, pred_yes=0.75)
    matrix = build_matrix({"a": table}, FOLDS, Y, ["yes", "no"], probabilities=True)
    np.testing.assert_array_equal(matrix.oof_MNK[0], np.tile([0.75, 0.25], (6, 1)))


def test_integer_predictions_and_columns_beside_the_predictions_are_accepted() -> None:
    table = FOLDS.assign(pred_target=[0, 1, 0, 1, 1, 0], text="…")
    assert build(a=table).oof_MNK.dtype == np.float64


def test_rounding_beyond_one_is_clipped_and_values_outside_are_for_regression_only() -> None:
    assert build(a=member().assign(pred_target=1 + 1e-7)).oof_MNK.max() == 1
    assert build(a=member(3.0), probabilities=False).oof_MNK.max() > 3


def with_value(row: int, column: str, value: object) -> pd.DataFrame:
    table = member().astype({column: object})
    table.loc[row, column] = value
    return table.infer_objects()


WRONG = {
    "missing id": (member().drop(index=[2, 5]), "2 of 6 ids .* first is 'b' of fold 2"),
    "extra id": (
        pd.concat([member(), pd.DataFrame({"id": ["new"], "fold": [0], "pred_target": [0.5]})]),
        "1 ids are not among the training rows, the first is 'new'",
    ),
    "other id": (with_value(0, "id", "7"), "1 of 6 ids .* first is '0007' of fold 0"),
    "repeated id": (pd.concat([member(), member().iloc[[3]]]), "id 'a' is predicted more than"),
    "other fold": (with_value(2, "fold", 0), "id 'b' is in fold 0 there, in fold 2"),
    "no fold": (with_value(2, "fold", np.nan), "other folds: id 'b'"),
    "NaN": (with_value(4, "pred_target", np.nan), "pred_target is nan for id '9' of fold 1"),
    "infinite": (with_value(4, "pred_target", np.inf), "pred_target is inf for id '9'"),
    "above one": (member().assign(pred_target=1.2), "pred_target is 1.2 .* from 0 to 1 .6 such"),
    "below zero": (with_value(1, "pred_target", -0.1), "pred_target is -0.1 for id '12'"),
    "text": (member().assign(pred_target="yes"), "pred_target holds 'yes' .* expected numbers"),
    "other output": (member().rename(columns={"pred_target": "pred_x"}), "expected id, fold, pred"),
    "one output more": (member().assign(pred_x=0.5), "pred_x, expected id, fold, pred_target"),
    "no fold column": (member().drop(columns="fold"), "its columns are id, pred_target, expected"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_in_one_line_with_its_place(case: str) -> None:
    table, message = WRONG[case]
    with pytest.raises(UserError, match=f"member 'bad' cannot be blended: .*{message}") as error:
        build(good=member(), bad=table)
    assert "\n" not in str(error.value)
    assert "also refused" not in str(error.value)


def test_every_member_at_fault_is_named() -> None:
    gap, nan = WRONG["missing id"][0], WRONG["NaN"][0]
    with pytest.raises(UserError, match=r"member 'b' .* \(also refused: d\)"):
        build(a=member(), b=gap, c=member(), d=nan)


def test_nothing_to_blend_is_refused() -> None:
    with pytest.raises(UserError, match="no member to blend"):
        build()


def test_a_folds_table_that_repeats_an_id_or_has_other_rows_than_the_labels_is_refused() -> None:
    twice = pd.concat([FOLDS, FOLDS.iloc[[1]]])
    with pytest.raises(UserError, match="id '12' stands more than once in the folds table"):
        build_matrix({"a": member()}, twice, np.append(Y, 1), ["target"], probabilities=True)
    with pytest.raises(UserError, match="5 rows have labels but 6 have folds"):
        build_matrix({"a": member()}, FOLDS, Y[:5], ["target"], probabilities=True)
