"""Laws of tables that hold for whatever stands in them: reading, parsing, folds, submissions."""

from __future__ import annotations

import csv
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from poolblend.competition.cells import parse_column
from poolblend.competition.files import read_table
from poolblend.competition.filling import find_filling
from poolblend.competition.options import Submission
from poolblend.competition.submission import build_submission, check_submission
from poolblend.competition.tasks import Task, make_task
from poolblend.errors import UserError
from rig.tables import load, unlabelled

RULES = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Any text that UTF-8 can hold, less NUL; and what CSV readers stumble over.
CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
CELL |= st.text(st.sampled_from("\n\r,;\t\"' \\0.e\ufeff#"), max_size=6)
NAMES = st.lists(CELL.filter(lambda name: bool(name.strip())), min_size=2, max_size=4, unique=True)
IDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)
IDS |= st.sampled_from(
    ["0001", "1", "1e5", "100000", "1.0", " 1", "NaN", "null", "-0", "É", "E\u0301"]
)
UNIQUE_IDS = st.lists(IDS.filter(lambda id: bool(id.strip())), min_size=1, max_size=12, unique=True)
QUOTING = st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC])


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    names = draw(NAMES)
    rows = draw(
        st.lists(st.lists(CELL, min_size=len(names), max_size=len(names)), min_size=1, max_size=5)
    )
    return pd.DataFrame(rows, columns=pd.Index(names, dtype=object), dtype=object)


def write(path: Path, table: pd.DataFrame, quoting: int, end: str = "\n") -> None:
    """As csv.writer does, but for line ends other than `end`, which it may leave unquoted."""
    cells = "".join([*table.columns, *table.to_numpy().ravel()])
    quoting = csv.QUOTE_ALL if re.search("[\r\n]", cells) else quoting
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=quoting, lineterminator=end)
        writer.writerow(table.columns)
        writer.writerows(table.to_numpy().tolist())


@RULES
@given(tables(), QUOTING, st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_table_written_as_csv_reads_back_cell_by_cell(
    tmp_path: Path, table: pd.DataFrame, quoting: int, end: str
) -> None:
    # Blank lines, a mark of the encoding, JSON or a web page may not come first.
    assume(table.columns[0][0] not in "\n\r\t <[{\ufeff")
    path = tmp_path / "table.csv"
    write(path, table, quoting, end)
    found = read_table(path)
    assert list(found.columns) == list(table.columns)
    assert found.fillna("").to_numpy().tolist() == table.to_numpy().tolist()
    assert (found.isna().to_numpy() == (table == "").to_numpy()).all()


@RULES
@given(tables())
def test_a_table_written_as_parquet_reads_back_cell_by_cell(
    tmp_path: Path, table: pd.DataFrame
) -> None:
    table.to_parquet(tmp_path / "table.parquet")
    found = read_table(tmp_path / "table.parquet")
    assert list(found.columns) == list(table.columns)
    assert found.fillna("").to_numpy().tolist() == table.to_numpy().tolist()


@RULES
@given(UNIQUE_IDS, st.booleans())
def test_ids_never_change_on_their_way_through_the_tables(
    tmp_path: Path, ids: list[str], as_parquet: bool
) -> None:
    columns = {"id": ids, "text": "a", "target": 0}
    ending = "parquet" if as_parquet else "csv"
    for name, keys in (("train", 3), ("test", 2), ("sample", 3)):
        table = pd.DataFrame(columns).iloc[:: -1 if name == "sample" else 1, :keys]
        path = tmp_path / f"{name}.{ending}"
        table.to_parquet(path) if as_parquet else table.to_csv(path, index=False)
    names = {key: f"{key}.{ending}" for key in ("train", "test")}
    found = load(tmp_path, **names, sample_submission=f"sample.{ending}")
    assert found.train["id"].tolist() == found.test["id"].tolist() == ids
    assert found.sample["id"].tolist() == ids[::-1]


NUMBERS = st.integers(-(10**20), 10**20).map(str) | st.floats().map(repr)
NUMBERS |= st.sampled_from(
    ["007", "1e400", "1_0", " 1", "+.5", "5.", "", "١", "0x1", "1e", "True", "nan"]
)


@settings(RULES, max_examples=300)
@given(st.lists(NUMBERS | CELL, min_size=1, max_size=5))
@example(["1e400", "1"])
@example(["9223372036854775808"])
def test_a_column_is_parsed_without_loss_or_not_at_all(cells: list[str]) -> None:
    column = pd.Series(cells, index=range(3, 3 + len(cells)), name="y", dtype=object)
    parsed = parse_column(column)
    assert parsed.name == "y"
    assert list(parsed.index) == list(column.index)
    if parsed.dtype == np.int64:
        assert parsed.tolist() == [int(cell) for cell in cells]
    elif parsed.dtype == np.float64:
        for cell, number in zip(cells, parsed, strict=True):
            exact = Decimal(cell.strip())
            assert repr(float(exact)) == repr(float(number)), cell
            assert exact.is_finite() == np.isfinite(number)
    else:
        assert parsed is column


@RULES
@given(ids=UNIQUE_IDS, data=st.data(), kind=st.sampled_from(["binary", "regression", "multiclass"]))
def test_a_submission_holds_each_ids_own_prediction_in_the_samples_order(
    ids: list[str], data: st.DataObject, kind: str
) -> None:
    outputs = {"binary": ["y"], "regression": ["a", "b"], "multiclass": ["x", "y", "z"]}[kind]
    classes = {"binary": (0, 1), "regression": (), "multiclass": tuple(outputs)}[kind]
    task = Task(kind, tuple(outputs) if kind == "regression" else ("y",), classes)
    order = data.draw(st.permutations(range(len(ids))))
    columns = data.draw(st.permutations(["id", *outputs]))
    sample = pd.DataFrame({"id": [ids[n] for n in order]} | dict.fromkeys(outputs, 0.5))[columns]
    pred_NK = np.random.default_rng(len(ids)).random((len(ids), len(outputs)))
    filling = find_filling(task, unlabelled(sample), Submission(values="probabilities"))
    made = build_submission(task, filling, ids, pred_NK, id="id")
    check_submission(made, sample, id="id")
    by_id = made.set_index("id")[outputs]
    np.testing.assert_array_equal(by_id.loc[ids].to_numpy(), pred_NK)
    if len(ids) > 1:
        with pytest.raises(UserError, match="have no prediction|not in the sample"):
            build_submission(task, filling, ids[1:], pred_NK[1:], id="id")
        with pytest.raises(UserError, match="keep the sample's order of rows"):
            check_submission(made[::-1].reset_index(drop=True), sample, id="id")


@RULES
@given(st.lists(st.sampled_from(["a", "b ", "1", "1.0", "x y", "É"]), min_size=2, max_size=9))
def test_labels_decode_to_the_cells_they_were_encoded_from(cells: list[str]) -> None:
    column = parse_column(pd.Series(cells, name="y", dtype=object))
    assume(column.nunique() > 1)
    task = make_task("multiclass", pd.DataFrame({"y": column}), ["y"])
    assert task.decode(task.encode(pd.DataFrame({"y": column}))).tolist() == column.tolist()
