"""Which files of a folder are train, test and sample; each refusal says what to give."""

import pytest

from poolblend.competition.drafting.draft import draft_config
from poolblend.competition.drafting.findings import Given
from poolblend.competition.drafting.table_files import find_table_files, role_of
from rig.tables import refused

TABLES = {
    "train": "id,text,target\n1,some words are here,1\n2,and other words there,0\n",
    "test": "id,text\n3,some more words here\n",
    "sample": "id,target\n3,0\n",
}


def write(folder, **files):
    for name, table in files.items():
        (folder / f"{name}.csv").write_text(TABLES.get(table, table))


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (
            ["train.csv", "training.csv", "Train_Data.csv", "trainEssays.csv", "TRAIN-2.csv"],
            "train",
        ),
        (["test.csv", "testing.parquet", "test_essays.csv", "unlabeled.csv"], "test"),
        (["sampleSubmission.csv", "gender_submission.csv", "sample.csv", "submit.csv"], "sample"),
        (["sample_submission_test.csv", "samplesubmission.csv"], "sample"),
        (["prompts.csv", "constraints.csv", "latest.csv", "contest.csv"], None),
    ],
)
def test_the_role_is_a_word_of_the_name(names, role):
    assert {role_of(name) for name in names} == {role}


def test_of_several_the_columns_decide(tmp_path):
    write(tmp_path, train_essays="train", test_essays="test", sample_submission="sample")
    write(tmp_path, train_prompts="prompt,text\na,b\n", test_prompts="prompt,text\na,b\n")
    write(tmp_path, test_labels="id,target\n3,1\n", folds="id,fold\n1,0\n2,1\n")
    files = find_table_files(tmp_path, Given())
    assert files[:3] == ("sample_submission.csv", "train_essays.csv", "test_essays.csv")
    assert files.others == ["test_labels.csv", "test_prompts.csv", "train_prompts.csv"]


def test_a_plain_name_is_taken_before_others(tmp_path):
    write(tmp_path, train="train", train_clean="train", test="test", test_2="test", sample="sample")
    assert find_table_files(tmp_path, Given())[1:3] == ("train.csv", "test.csv")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no sample submission in {}, which holds: no .csv or .parquet files; name it with"),
        ({"sample": "sample", "test": "test"}, "no train table in {}, which holds: sample.csv"),
        ({"sample": "sample", "train": "train"}, "no test table in {}, which holds: sample.csv"),
        ({"train": "train", "test": "test"}, "no sample submission in {}, which holds: test.csv"),
        (
            {"sample": "sample", "train_a": "train", "train_b": "train", "test": "test"},
            "{} has 2 files that may be the train table: train_a.csv, train_b.csv; say which with "
            "--train NAME",
        ),
        (
            {"sample": "sample", "train": "train", "test": "id,words\n3,4\n"},
            "{}/train.csv has no column of text that test has, too (both have: none); name it",
        ),
        (
            {"sample": "id,p\n3,0\n", "train": "id,text,a,b\n1,x y,1,0\n", "test": "test"},
            "{}/train.csv has 2 columns that test lacks (a, b), and none named like the sample's p",
        ),
        (
            {"sample": "id,p\n3,0\n", "train": "id,text\n1,x y\n", "test": "test"},
            "{}/train.csv has no column that test lacks",
        ),
        (
            {"sample": "id,a,b\n3,0,0\n", "train": "id,text,a,b\n1,x y,1,no\n2,z,0,so\n"}
            | {"test": "test"},
            "target column 'b' holds no, so; several targets hold numbers",
        ),
        (
            {"sample": "id,words\n3,x\n", "test": "test"}
            | {"train": "id,text,words\n" + "".join(f"{i},a b,w{i}\n" for i in range(30))},
            "target 'words' holds 30 different texts in 30 rows (w0, w1, w10, w11, w12",
        ),
        (
            {"sample": "", "train": "train", "test": "test"},
            "{}/sample.csv has no rows; expected a header and at least one row below it",
        ),
    ],
)
def test_what_is_missing_or_unclear_is_told_with_what_to_give(tmp_path, files, message):
    write(tmp_path, **files)
    with refused(message.format(tmp_path)):
        draft_config(tmp_path, Given())


def test_a_table_of_another_kind_is_named(tmp_path):
    write(tmp_path, sample="sample", test="test")
    (tmp_path / "train.csv.zip").write_bytes(b"PK")
    with refused(f"no train table in {tmp_path}: train.csv.zip is not a .csv or .parquet file"):
        draft_config(tmp_path, Given())
    with refused(f"no folder {tmp_path / 'nowhere'}; --from takes the folder"):
        draft_config(tmp_path / "nowhere", Given())


def test_flags_name_what_is_unclear(tmp_path):
    write(tmp_path, a="train", b="test", c="sample")
    files = find_table_files(tmp_path, Given(train="a.csv", test="b.csv", sample="c.csv"))
    assert files == ("c.csv", "a.csv", "b.csv", [])
    with refused(f"unknown column 'words' in {tmp_path / 'a.csv'}; known: id, target, text"):
        draft_config(tmp_path, Given("a.csv", "b.csv", "c.csv", text=["words"]))
