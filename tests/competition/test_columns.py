"""Laws of numeric and categorical columns: scikit-learn's own transform, and no silent number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from poolblend.competition.columns import Columns, fit_columns, unknown_share
from rig.tables import refused

TRAIN = pd.DataFrame(
    {
        "age": ["1", " 2.5 ", None, "-4e1", "7"],
        "size": ["5", "5", "", "5", "5"],
        "place": ["rome", None, "oslo", "rome", "Oslo"],
    }
)
TEST = pd.DataFrame(
    {"age": ["", "3", "100"], "size": ["5", "6", None], "place": ["oslo", "bonn", None]}
)


def fitted() -> Columns:
    return fit_columns(TRAIN, ["age", "size"], ["place"])


@pytest.mark.parametrize("frame", [TRAIN, TEST], ids=["train", "test"])
def test_the_matrix_is_that_of_the_scikit_learn_pipeline(frame: pd.DataFrame) -> None:
    def numeric(frame: pd.DataFrame) -> pd.DataFrame:
        numbers = frame.replace("", None)[["age", "size"]].astype(float)
        return numbers.assign(place=frame["place"].astype(object).fillna("gap"))

    reference = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "size"]),
        (
            OneHotEncoder(
                categories=[["Oslo", "oslo", "rome"]], handle_unknown="ignore", sparse_output=False
            ),
            ["place"],
        ),
    ).fit(numeric(TRAIN).replace("gap", "rome"))
    matrix_NF = fitted().transform(frame)
    assert matrix_NF.dtype == np.float32
    assert matrix_NF.shape == (len(frame), fitted().width) == (len(frame), 5)
    np.testing.assert_allclose(matrix_NF, reference.transform(numeric(frame)), rtol=1e-6)


def test_whole_numbers_are_the_same_category_however_they_are_written() -> None:
    columns = fit_columns(pd.DataFrame({"code": ["1.0", "2", "-3.00", "1.5"]}), [], ["code"])
    assert columns.categories == (("-3", "1", "1.5", "2"),)
    matrix_NF = columns.transform(pd.DataFrame({"code": ["-3", "1", "1.5", "2.0", "15", "01"]}))
    assert matrix_NF.argmax(axis=1)[:4].tolist() == [0, 1, 2, 3]
    assert not matrix_NF[4:].any()


def test_the_share_of_unknown_categories_is_that_of_the_filled_cells() -> None:
    assert unknown_share(TRAIN["place"], TEST["place"]) == 0.5
    assert unknown_share(TRAIN["size"], pd.Series(["5.0", ""])) == 0
    assert unknown_share(TRAIN["place"], pd.Series([None, ""])) == 0


def test_of_many_categories_the_most_frequent_are_kept() -> None:
    names = [f"c{k:03d}" for k in range(120)]
    frame = pd.DataFrame({"c": [*names, *names[30:]]})
    columns = fit_columns(frame, [], ["c"])
    assert columns.width == 100
    assert set(columns.categories[0]) == {*names[30:], *names[:10]}


def test_columns_survive_json() -> None:
    again = Columns.model_validate_json(fitted().model_dump_json())
    assert again == fitted()
    np.testing.assert_array_equal(again.transform(TEST), fitted().transform(TEST))
    assert Columns.model_validate_json(Columns().model_dump_json()) == Columns()


@pytest.mark.parametrize("cell", ["NA", "1,5", "inf", "nan", "1e999", "ten", "0x1"])
def test_a_cell_that_is_no_number_is_refused_with_column_row_and_value(cell: str) -> None:
    frame = TRAIN.assign(age=["1", "2", "3", cell, cell])
    message = f"row 4 holds '{cell}' in numeric column 'age' (2 such rows), expected a finite"
    with refused(message):
        fit_columns(frame, ["age"], [])
    with refused(message):
        fitted().transform(frame)


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_of_a_column_that_a_folds_rows_leave_empty_nothing_is_learned(blank: str | None) -> None:
    frame = TRAIN.assign(empty=pd.Series([blank] * 5, dtype=str))
    columns = fit_columns(frame, ["age", "empty"], ["empty"])
    again = Columns.model_validate_json(columns.model_dump_json())
    other = TRAIN.assign(empty=pd.Series(["7"] * 5, dtype=str))
    for rows in (frame, other):
        np.testing.assert_array_equal(again.transform(rows)[:, 1:], np.zeros((5, 1)))


def test_a_column_that_is_not_there_is_refused() -> None:
    with refused("unknown column 'ages' in data.numeric or data.categorical; did you mean 'age'?"):
        fit_columns(TRAIN, ["ages"], [])
    with refused("unknown column 'size' in data.numeric"):
        fitted().transform(TEST.drop(columns="size"))
