"""The matrix joins by id, and refuses whatever does not fit, naming who, where and what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolblend.ensembling.matrix import OofMatrix, build_matrix, build_test, shared_folds
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
    with pytest.raises(UserError, match="id '12' is more than once in the folds table"):
        build_matrix({"a": member()}, twice, np.append(Y, 1), ["target"], probabilities=True)
    with pytest.raises(UserError, match="5 rows have labels but 6 have folds"):
        build_matrix({"a": member()}, FOLDS, Y[:5], ["target"], probabilities=True)


def outside(table: pd.DataFrame, **options: bool) -> OofMatrix:
    """The matrix of one member that comes from the file x/bad.csv."""
    columns = [c.removeprefix("pred_") for c in table if c.startswith("pred_")]
    options = {"probabilities": True} | options
    files = {"bad": Path("x/bad.csv")}
    return build_matrix({"bad": table}, FOLDS, Y, columns, files=files, **options)


@pytest.mark.parametrize("case", ["missing id", "other fold", "NaN"])
def test_a_member_from_elsewhere_is_named_by_its_file_and_mended_there(case: str) -> None:
    table, message = WRONG[case]
    with pytest.raises(UserError, match=message) as error:
        outside(table)
    line = str(error.value)
    assert line.startswith("x/bad.csv cannot be blended: ")
    assert line.endswith("; correct the file or remove it from its folder")


def test_a_member_of_the_run_is_told_to_train_or_predict_again() -> None:
    for case, remedy in {
        "missing id": "train the folds it lacks",
        "other fold": "train it again",
        "NaN": "predict that fold again",
        "extra id": "it was made from other data",
    }.items():
        with pytest.raises(UserError, match=f"; {remedy}$"):
            build(bad=WRONG[case][0])


def test_a_member_from_elsewhere_may_have_no_folds_or_count_them_from_one() -> None:
    without, from_one = member().drop(columns="fold"), member().assign(fold=FOLDS["fold"] + 1)
    for table in (without, from_one):
        np.testing.assert_array_equal(outside(table).oof_MNK, build(a=member()).oof_MNK)
    with pytest.raises(UserError, match="id '0007' is in fold 1 there, in fold 0"):
        build(own=from_one)


def test_probabilities_of_classes_sum_to_one_where_that_is_demanded() -> None:
    # Three decimals each may put two off by a thousandth, and not by more.
    table = FOLDS.assign(pred_a=0.5, pred_b=[0.5, 0.501, 0.5009, 0.499, 0.5011, 0.4])
    assert outside(table).oof_MNK.shape == (1, 6, 2)
    with pytest.raises(
        UserError, match=r"pred_b sum to 1.0011 for id '9' of fold 1.*\(2 such rows"
    ):
        outside(table, simplex=True)


def test_an_id_that_would_break_the_line_is_escaped_and_an_endless_one_cut() -> None:
    for id, shown in {"a\nb": r"'a\\nb'", "x" * 500: r"'x+\.\.\.x+'"}.items():
        with pytest.raises(UserError, match=shown) as error:
            outside(member().assign(id=[*IDS[:5], id]))
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 300


def test_rows_are_those_of_a_mask_or_of_positions_groups_and_all() -> None:
    groups = np.array(list("uuvvww"))
    matrix = build_matrix(
        {"a": member(), "b": member(0.1)}, FOLDS, Y, ["target"], probabilities=True, group_N=groups
    )
    mask = np.array([False, True, False, False, True, True])
    for rows in (mask, np.flatnonzero(mask)):
        part = matrix.rows(rows)
        assert part.ids_N.tolist() == ["12", "9", "0"]
        assert part.fold_N.tolist() == [1, 1, 2]
        assert part.y.tolist() == [1, 1, 0]
        assert part.group_N is not None
        assert part.group_N.tolist() == ["u", "w", "w"]
        np.testing.assert_array_equal(part.oof_MNK, matrix.oof_MNK[:, mask])
    twice = matrix.rows(np.array([3, 3]))
    assert twice.ids_N.tolist() == ["a", "a"]
    assert build(a=member()).rows(mask).group_N is None


def test_a_subset_holds_the_named_members_in_the_order_named() -> None:
    matrix = build(a=member(), b=member(0.1), c=member(0.2))
    part = matrix.subset(["c", "a"])
    assert part.members == ("c", "a")
    np.testing.assert_array_equal(part.oof_MNK, matrix.oof_MNK[[2, 0]])
    np.testing.assert_array_equal(part.ids_N, matrix.ids_N)
    with pytest.raises(UserError, match="unknown member 'bb'.* known: a, b, c"):
        matrix.subset(["bb"])


@pytest.mark.parametrize("case", ["missing id", "extra id", "repeated id", "NaN", "above one"])
def test_test_predictions_are_refused_as_the_others_are_but_for_folds(case: str) -> None:
    table = WRONG[case][0].drop(columns="fold")
    with pytest.raises(UserError, match="^x.csv cannot be blended: ") as error:
        build_test({"a": table}, IDS, ["target"], probabilities=True, files={"a": Path("x.csv")})
    assert "fold" not in str(error.value).split("; correct")[0]
    assert "training rows" not in str(error.value)


@given(st.permutations(range(6)), st.sampled_from([0, 1, -3, 10]))
def test_shared_folds_are_counted_from_zero_in_the_order_of_the_ids(
    order: list[int], start: int
) -> None:
    other = member().assign(fold=2 * FOLDS["fold"] + start).iloc[order]
    tables = {"a": other, "without": member().drop(columns="fold"), "b": member()}
    folds = shared_folds(tables, IDS)
    assert folds is not None
    assert folds.dtype == np.int64
    assert folds.tolist() == FOLDS["fold"].tolist()
    # What was found is what the matrix then accepts.
    build_matrix(
        tables,
        FOLDS.assign(fold=folds),
        Y,
        ["target"],
        probabilities=True,
        files={name: Path(name) for name in tables},
    )


def test_shared_folds_are_none_where_no_table_has_any() -> None:
    assert shared_folds({"a": member().drop(columns="fold")}, IDS) is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            WRONG["other fold"][0],
            "member 'b' .* folds are not those of x/a.csv: .*id 'b' is in fold 0",
        ),
        (WRONG["missing id"][0], "member 'b' .* 2 of 6 ids"),
        (WRONG["extra id"][0], "member 'b' .* not among the training rows, the first is 'new'"),
        (WRONG["repeated id"][0], "member 'b' .* more than once"),
        (member().assign(fold=3), "member 'b' .* all in one fold"),
    ],
)
def test_tables_that_share_no_folds_are_refused(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        shared_folds({"a": member(), "b": table}, IDS, files={"a": Path("x/a.csv")})
    assert "\n" not in str(error.value)
