"""A folder of anybody's predictions is read by name, or refused in one line that says where."""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from poolblend.competition.tasks import Task
from poolblend.ensembling.matrix import OofMatrix, build_matrix, build_test, shared_folds
from poolblend.errors import UserError
from poolblend.loading.outside import OutsideMember, read_members, read_predictions

IDS = ["0001", "2", "b c", "ü"]
FOLD_N = [0, 1, 2, 1]
TASKS = {
    "binary": (Task("binary", ("target",), (0, 1)), {"target": [0, 1, 1, 0]}),
    "named": (Task("binary", ("mood",), ("neg", "pos")), {"mood": ["neg", "pos", "pos", "neg"]}),
    "multiclass": (Task("multiclass", ("label",), ("A", "B", "C")), {"label": list("ABCA")}),
    "multilabel": (Task("multilabel", ("x", "y")), {"x": [0, 1, 1, 0], "y": [1, 1, 0, 0]}),
    "regression": (Task("regression", ("x", "y")), {"x": [1.5, 2, 3, 4], "y": [1.0, 1, 2, 2]}),
    "ordinal": (Task("ordinal", ("score",), (0, 1, 2)), {"score": [0, 1, 2, 1]}),
}


def train_of(kind: str) -> pd.DataFrame:
    return pd.DataFrame({"key": IDS, "text": "…"} | TASKS[kind][1])


def csv(*columns: list[object], header: str = "id,pred", ids: list[str] = IDS) -> str:
    rows = zip(ids, *(columns or ([0.1, 0.2, 0.3, 0.4],)), strict=True)
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def members_of(
    folder: Path, kind: str = "binary", trained: tuple[str, ...] = ()
) -> list[OutsideMember]:
    return read_members(
        folder, id="key", task=TASKS[kind][0], train=train_of(kind), trained=trained
    )


def blend_of(folder: Path, kind: str = "binary") -> OofMatrix:
    """From the folder to the matrix, as a run does it."""
    task, members = TASKS[kind][0], members_of(folder, kind)
    return build_matrix(
        {member.name: member.oof for member in members},
        pd.DataFrame({"id": IDS, "fold": FOLD_N}),
        task.encode(train_of(kind)),
        task.outputs,
        probabilities=task.probabilistic,
        simplex=task.kind == "multiclass",
        files={member.name: member.path for member in members},
    )


HALVES = [0.5, 0.25, 0.75, 0.5]
REST = [0.5, 0.75, 0.25, 0.5]


def same(header: str, *values: object) -> str:
    """A file whose rows hold the same values."""
    return csv(*([value] * 4 for value in values), header=header)


# Right files: the task, the text of the file, and the predictions of the first row.
RIGHT = {
    "pred": ("binary", csv(), [0.1]),
    "pred_<output>": ("binary", csv(header="id,pred_target"), [0.1]),
    "<output>": ("binary", csv(header="id,target"), [0.1]),
    "the competition's id column": ("binary", csv(header="key,oof"), [0.1]),
    "both id columns": ("binary", csv(IDS[::-1], [0, 0.1, 0.2, 0.3], header="key,id,pred"), [0]),
    "the only numeric column": ("binary", csv(HALVES, list("ab7d"), header="id,xgb,note"), [0.5]),
    "numbers with a label": (
        "binary",
        csv([0, "1.0", 1, 0], HALVES, header="id,target,oof"),
        [0.5],
    ),
    "two classes": ("binary", csv(REST, HALVES, header="id,1,0"), [0.5]),
    "two named classes": ("named", same("id,pos,pred_pos,pred_neg", 0, 0.9, 0.1), [0.9]),
    "named labels": ("named", csv(TASKS["named"][1]["mood"], HALVES, header="id,mood,xgb"), [0.5]),
    "pred_<output> first": ("binary", csv(REST, HALVES, header="id,pred,pred_target"), [0.5]),
    "exponents and spaces": ("binary", csv(["1e-1", " 0.2", ".3 ", "+4E-1"]), [0.1]),
    "a space in the header": ("binary", csv(header="id, pred"), [0.1]),
    "two indices": ("binary", csv([0] * 4, IDS, HALVES, header="Unnamed: 0,,id,pred"), [0.5]),
    "folds from 0": ("binary", csv(FOLD_N, HALVES, header="id,fold,pred"), [0.5]),
    "folds from 1": ("binary", csv(["1.0", 2, 3, 2], HALVES, header="id,kfold,pred"), [0.5]),
    "classes": ("multiclass", same("id,B,C,A", 0.5, 0.3, 0.2), [0.2, 0.5, 0.3]),
    "classes with labels": (
        "multiclass",
        csv(list("ABCA"), [0.5] * 4, [0.3] * 4, [0.2] * 4, header="id,label,pred_B,pred_C,pred_A"),
        [0.2, 0.5, 0.3],
    ),
    "rounded classes": ("multiclass", same("id,A,B,C", 0.33, 0.33, 0.33), [0.33, 0.33, 0.33]),
    "classes cut off": ("multiclass", same("id,A,B,C", 0.32, 0.33, 0.33), [0.32, 0.33, 0.33]),
    "classes of one digit": ("multiclass", same("id,A,B,C", 0.3, 0.3, 0.3), [0.3, 0.3, 0.3]),
    "two rounded classes": ("binary", same("id,0,1", 0.13, 0.86), [0.86]),
    "numbers of classes": (
        "multiclass",
        same("id,pred_1,2,class_0", 0.5, 0.3, 0.2),
        [0.2, 0.5, 0.3],
    ),
    "numbers of two named classes": ("named", same("id,pred_1,pred_0", 0.9, 0.1), [0.9]),
    "labels that sum to two": ("multilabel", same("id,y,x", 1, 1), [1, 1]),
    "values": ("regression", same("id,y,x", -5, 1e9), [1e9, -5]),
    "labels in single precision": (
        "regression",
        csv([1.4999999, 2, 3, 4], [7] * 4, [8] * 4, header="id,x,pred_x,pred_y"),
        [7, 8],
    ),
    "ordinal values": ("ordinal", csv([2.7, -0.1, 1, 1], header="id,score"), [2.7]),
}


@pytest.mark.parametrize("ending", ["CSV", "parquet"])
@pytest.mark.parametrize("case", RIGHT)
def test_columns_are_found_by_name_in_either_format(tmp_path: Path, case: str, ending: str) -> None:
    kind, content, first_K = RIGHT[case]
    path = write(tmp_path, f"m.{ending}", content)
    if ending == "parquet":
        # Parquet has types: numbers stay numbers, and ids strings.
        table = pd.read_csv(write(tmp_path, ".source", content), dtype={"id": str, "key": str})
        table.to_parquet(path, index=False)
    matrix = blend_of(tmp_path, kind)
    assert matrix.members == ("m",)
    np.testing.assert_allclose(matrix.oof_MNK[0, 0], first_K)


def test_numbered_columns_say_which_class_each_is_read_as(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    columns = ([0.5] * 4, [0.3] * 4, [0.2] * 4)
    write(tmp_path, "m.csv", csv(*columns, header="id,1,2,0"))
    members_of(tmp_path, "multiclass")
    assert "columns '0', '1', '2' are read as the classes in their order: 'A', 'B', 'C'" in (
        caplog.text
    )


def test_numbered_columns_of_two_words_are_refused_where_their_order_is_not_known(
    tmp_path: Path,
) -> None:
    """A tool that sorts AI and human calls AI 0, which here is the positive label."""
    path = write(tmp_path, "m.csv", csv([0.9] * 4, [0.1] * 4, header="id,pred_0,pred_1"))
    for classes, known in ((("human", "AI"), False), (("ham", "spam"), True)):
        task = Task("binary", ("mood",), classes)
        if known:
            assert read_predictions(path, id="key", task=task).table["pred_mood"][0] == 0.1
            continue
        with pytest.raises(UserError, match="name them 'pred_human' and 'pred_AI'") as refusal:
            read_predictions(path, id="key", task=task)
        assert "in sorted order ('AI', 'human')" in str(refusal.value)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_ids_stay_strings_and_rows_are_joined_by_them(tmp_path: Path, ending: str) -> None:
    table = pd.DataFrame({"pred": [0.4, 0.1, 0.3, 0.2], "id": [IDS[n] for n in (3, 0, 2, 1)]})
    path = tmp_path / f"m.{ending}"
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    (member,) = members_of(tmp_path)
    assert member.oof["id"].tolist() == [IDS[n] for n in (3, 0, 2, 1)]
    assert member.oof.columns.tolist() == ["id", "pred_target"]
    np.testing.assert_array_equal(blend_of(tmp_path).oof_MNK[0, :, 0], [0.1, 0.2, 0.3, 0.4])


# Wrong files: the task, the text of the file, and what the one line says of it.
WRONG = {
    "header only": ("binary", "id,pred\n", "m.csv has no rows"),
    "no header": ("binary", csv().split("\n", 1)[1], "no column 'key'.*columns: '0001', '0.1'"),
    "a pickle": ("binary", pickle.dumps([0.5]), "m.csv cannot be read as CSV: it holds a pickle"),
    "UTF-16": ("binary", csv().encode("utf-16"), "m.csv is not UTF-8"),
    "decimal commas": ("binary", csv(['"0,5"'] * 4), "holds '0,5' in column 'pred' .*4 such"),
    "two of a name": ("binary", csv(HALVES, REST, header="id,pred,pred "), "two columns"),
    "no id column": ("binary", csv(header="keys,pred"), "no column 'key'; did you mean 'keys'"),
    "an empty id": ("binary", csv(ids=["1", "", "b", "ü"]), "no id in column 'id' of data row 2"),
    "other zeros": ("binary", csv(ids=["1", *IDS[1:]]), "is '0001' of fold 0 .*such as '1'"),
    "a missing id": ("binary", csv([0.5] * 3, ids=IDS[:3]), "1 of 4 ids .* first is 'ü' of fold 1"),
    "an extra id": ("binary", csv() + "z,0.5\n", "1 ids are not among the training rows.*'z'"),
    "an extra id with a label": (
        "binary",
        csv([0, 1, 1, 0], HALVES, header="id,target,pred") + "z,1,0.5\n",
        "1 ids are not among the training rows.*'z'",
    ),
    "other ids": ("binary", csv(header="id,target", ids=list("wxyz")), "4 of 4 ids have no pred"),
    "labels for predictions, and an extra id": (
        "binary",
        csv([0, 1, 1, 0], header="id,target") + "z,1\n",
        "holds train's labels in column 'target', expected predictions there; give .* pred_target",
    ),
    "a repeated id": ("binary", csv() + "2,0.2\n", "id '2' is predicted more than once"),
    "a line break in an id": ("binary", csv(ids=['"2\n"', *IDS[1:]]), r"such as '2\\n'"),
    "an endless id": ("binary", csv(ids=["x" * 9999, *IDS[1:]]), r"such as 'xxx.*\.\.\.xxx"),
    "nan": ("binary", csv([0, "nan", 0, 0]), "'nan' in column 'pred' for id '2', expected a prob"),
    "overflow": ("regression", same("id,x,y", 1, "1e999"), "holds '1e999' in column 'y'"),
    "an empty cell": ("binary", csv([0, 0, "", 0]), "empty cell in column 'pred' for id 'b c'"),
    "truth values": ("binary", csv(["True", "False", "True", "True"]), "holds 'True' in column"),
    "underscores": ("regression", same("id,x,y", 1, "1_0"), "holds '1_0'"),
    "above one": ("binary", csv([0, 0, 0, 1.2]), "'1.2' in column 'pred' for id 'ü'.*from 0 to 1"),
    "below zero": ("multilabel", same("id,x,y", 1, -0.1), "'-0.1' in column 'y'"),
    "sums": (
        "multiclass",
        same("id,A,B,C", 0.5, 0.5, 0.5),
        "1.5 for id '0001' of fold 0, .*4 such",
    ),
    "two classes' sum": ("binary", csv(HALVES, HALVES, header="id,0,1"), "0.5 for id '2'.*2 such"),
    "sums too low": ("multiclass", same("id,A,B,C", 0.3, 0.3, 0.33), "sum to 0.93 for id '0001'"),
    "sums too high": ("multiclass", same("id,A,B,C", 0.34, 0.34, 0.34), "sum to 1.02 for"),
    "numbers from 1": ("multiclass", same("id,1,2,3", 0.5, 0.3, 0.2), "no column 'pred_A' or 'A'"),
    "numbers and a name": ("multiclass", same("id,0,1,2,A", 1, 0, 0, 0), "no column 'pred_B' or"),
    "a number twice": ("multiclass", same("id,0,1,2,class_2", 1, 0, 0, 0), "no column 'pred_A' or"),
    "numbers of numbers": ("ordinal", same("id,0,1,2", 0.5, 0.3, 0.2), "no column 'pred_score' or"),
    "one class of three": ("multiclass", csv(header="id,A"), "no column 'pred_B' or 'B'"),
    "hard classes": ("multiclass", csv(list("ABCA")), "no column 'pred_A' or 'A'"),
    "one pred_ of two": ("regression", same("id,pred_x,y", 1, 1), "no column 'pred_y'"),
    "a misspelt target": ("multilabel", same("id,pred_x,Pred_Y", 1, 1), "mean 'Pred_Y'"),
    "two numeric columns": ("binary", same("id,xgb,lgb", 0.5, 0.5), "columns: 'xgb', 'lgb'"),
    "only the negative class": ("named", csv(header="id,neg"), "no column 'pred_mood' or 'mood'"),
    "only ids": ("binary", "id\n" + "\n".join(IDS), "no column 'pred_target' .* columns: none"),
    "two that may be meant": ("binary", same("id,pred,oof", 0.5, 0.5), "each of which .*'pred_tar"),
    "other labels": (
        "binary",
        csv([0, 1, 0, 0], HALVES, header="id,target,pred"),
        "holds '0' in column 'target' for id 'b c', expected train's label '1'",
    ),
    "other named labels": ("named", same("id,mood,pred", 0, 0.5), "label 'neg' .4 such"),
    "labels for predictions": (
        "regression",
        csv([1.5, 2, 3, 4], [7] * 4, header="id,x,y"),
        "holds train's labels in column 'x'",
    ),
    "other folds": (
        "binary",
        csv([0, 1, 1, 2], HALVES, header="id,fold,pred"),
        "id 'b c' is in fold 1 there, in fold 2 of the folds table .2 ids",
    ),
    "other folds from 1": (
        "binary",
        csv([1, 2, 2, 3], HALVES, header="id,fold,pred"),
        "'b c' is in fold 2 there .1 when counted from 0., in fold 2",
    ),
    "a fold with no number": (
        "binary",
        csv([0, "x", 2, 1], HALVES, header="id,fold,pred"),
        "holds 'x' in column 'fold' for id '2', expected the number of a fold",
    ),
    "a huge fold": ("binary", same("id,fold,pred", "1e300", 0.5), "'1e300' in column 'fold'"),
    "half a fold": ("binary", same("id,fold,pred", 0.5, 0.5), "holds '0.5' in column 'fold'"),
    "a fold below zero": ("binary", same("id,kfold,pred", -1, 0.5), "'-1' in column 'kfold'"),
    "a missing fold": ("binary", same("id,fold,pred", "", 0.5), "empty cell in column 'fold'"),
}


def refusal(folder: Path, kind: str = "binary") -> str:
    """The one line that reading and joining the folder ends in."""
    with pytest.raises(UserError) as error:
        blend_of(folder, kind)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    return str(error.value)


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_in_one_line_that_names_it(tmp_path: Path, case: str) -> None:
    kind, content, message = WRONG[case]
    path = write(tmp_path, "m.csv", content)
    line = refusal(tmp_path, kind)
    assert str(path) in line
    assert re.search(message, line), line


@given(st.binary(max_size=60))
@example(b'id,pred\n"')
@example(b",\n,")
@example(b"id\r,\npred")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None
)
def test_no_bytes_end_in_a_traceback(tmp_path: Path, noise: bytes) -> None:
    middle = csv().encode()
    for content in (noise, noise + middle, middle + noise, middle[:20] + noise + middle[20:]):
        write(tmp_path, "m.csv", content)
        with suppress(UserError):
            assert np.isfinite(blend_of(tmp_path).oof_MNK).all()


def test_a_folder_without_members_says_what_is_expected(tmp_path: Path) -> None:
    write(tmp_path, "README.md", "mine")
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "README.md"):
        with pytest.raises(
            UserError, match=r"expected one <member>.csv or <member>.parquet"
        ) as error:
            members_of(folder)
        assert str(folder) in str(error.value)


def test_hidden_files_folders_and_other_endings_are_passed_over(tmp_path: Path) -> None:
    for name in (".hidden.csv", "README.md", "m.csv.gz", "notes", "inner/x.csv", "x.csv/y.csv"):
        write(tmp_path, name, "mine")
    write(tmp_path, "b.csv", csv())
    write(tmp_path, "a.v2_s-1.csv", csv())
    assert [member.name for member in members_of(tmp_path)] == ["a.v2_s-1", "b"]


@pytest.mark.parametrize(
    "name", ["a b.csv", "modèle.csv", "-x.csv", "a\nb.csv", "a" * 101 + ".csv"]
)
def test_a_name_that_is_not_safe_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, csv())
    assert "expected a member's name of up to 100 letters" in refusal(tmp_path)


def test_a_member_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("m.csv", "m.parquet"):
        write(tmp_path, name, csv())
    assert "holds member 'm' twice, as m.csv and m.parquet" in refusal(tmp_path)
    (tmp_path / "m.parquet").unlink()
    for name in ("test/m.csv", "test/m.parquet"):
        write(tmp_path, name, csv())
    assert f"{tmp_path / 'test'} holds member 'm' twice" in refusal(tmp_path)


def test_a_name_that_the_run_has_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "minilm.csv", csv())
    with pytest.raises(UserError, match="this run already has a member 'minilm'"):
        members_of(tmp_path, trained=("max", "minilm"))


@pytest.mark.parametrize("target", ["m.csv", "gone.csv"])
def test_links_that_lead_nowhere_are_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "m.csv").symlink_to(tmp_path / target)
    assert "m.csv is a broken link" in refusal(tmp_path)


def test_columns_not_used_are_named_in_one_line_but_an_index_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "m.csv", csv([0] * 4, list("abcd"), HALVES, header="id,,text,pred"))
    with caplog.at_level(logging.INFO):
        members_of(tmp_path)
    assert caplog.messages == [f"{tmp_path / 'm.csv'}: columns not used: 'text'"]


def test_test_predictions_stand_beside_and_both_files_are_hashed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    oof = write(tmp_path, "m.csv", csv())
    test = write(
        tmp_path, "test/m.csv", csv([0.9, 0.8], [5, 6], ids=["t1", "t2"], header="id,target,fold")
    )
    write(tmp_path, "other.csv", csv())
    write(tmp_path, "test/stray.csv", csv())
    with caplog.at_level(logging.INFO):
        member, other = members_of(tmp_path)
    assert "stray.csv is not used" in caplog.text
    assert other.test is None
    assert member.test is not None
    assert (member.path, member.test.path) == (oof, test)
    assert member.sha256 == hashlib.sha256(oof.read_bytes()).hexdigest()
    assert member.test.sha256 == hashlib.sha256(test.read_bytes()).hexdigest()
    assert member.test.table.to_dict("list") == {"id": ["t1", "t2"], "pred_target": [0.9, 0.8]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (csv([0.9], ids=["t1"]), "1 of 2 ids have no prediction, the first is 't2';"),
        (csv([0.9] * 3, ids=["t1", "t2", "t3"]), "1 ids are not among the test rows.*'t3'"),
        (csv([0.9] * 2, ids=["t1", "t1"]), "id 't1' is predicted more than once"),
        (csv([0.9, "x"], ids=["t1", "t2"]), "holds 'x' in column 'pred' for id 't2'"),
    ],
)
def test_test_predictions_are_checked_like_the_others(
    tmp_path: Path, content: str, message: str
) -> None:
    path = write(tmp_path, "m.csv", content)
    with pytest.raises(UserError, match=rf"m\.csv .*{message}") as error:
        made = read_predictions(path, id="key", task=TASKS["binary"][0])
        build_test(
            {"m": made.table}, ["t1", "t2"], ["target"], probabilities=True, files={"m": path}
        )
    assert "\n" not in str(error.value)


def test_folds_that_the_files_share_become_those_of_a_run_without(tmp_path: Path) -> None:
    folds = {"b": [5, 2, 9, 2], "c": [2, 1, 3, 1], "d": [1, 0, 2, 1], "e": [1, 1, 1, 1]}
    write(tmp_path, "a.csv", csv())
    for name, fold_N in folds.items():
        write(tmp_path, f"{name}.csv", csv(fold_N, HALVES, header="id,fold,pred"))
    members = {member.name: member for member in members_of(tmp_path)}
    files = {name: member.path for name, member in members.items()}

    def shared(*names: str) -> np.ndarray | None:
        return shared_folds({name: members[name].oof for name in names}, IDS, files=files)

    assert shared("a") is None
    np.testing.assert_array_equal(shared("a", "b", "c"), [1, 0, 2, 0])
    with pytest.raises(
        UserError, match=r"d\.csv .* not those of .*b\.csv.* id 'ü' is in fold 1 here, in fold 0"
    ):
        shared("b", "c", "d")
    with pytest.raises(UserError, match=r"e\.csv .* all in one fold"):
        shared("e")
