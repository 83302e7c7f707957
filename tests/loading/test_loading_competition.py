"""Laws of a config's competition: every key of its tables and folds does what it says."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from poolblend.errors import UserError
from poolblend.loading.competition import open_store, read_tables, with_folds
from poolblend.pipeline.inference import load_unlabelled
from rig.tables import Toy

PROMPTS = pd.DataFrame({"prompt": ["p0", "p1", "p2", "p3"], "question": ["why", "how", "", "who"]})


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """With a prompt for every row: p0 to p3 of train in turn, p1 of test."""
    toy = Toy(tmp_path)
    toy.change("train", prompt=[f"p{k % 4}" for k in range(60)])
    toy.change("test", prompt="p1")
    PROMPTS.to_csv(toy.folder / "prompts.csv", index=False)
    return toy


JOIN = "data.joins=[{train: prompts.csv, on: prompt}]"
GROUPS = "folds.groups=prompt"


class TestJoins:
    def test_joined_columns_are_read_as_texts_and_hashed(self, toy: Toy) -> None:
        found = toy.load(JOIN, "data.text=[question, text]")
        assert found.tables.train["question"][:4].tolist() == ["why", "how", "", "who"]
        assert set(found.tables.test["question"]) == {"how"}
        assert found.data["joins_sha256"] == found.data["test_joins_sha256"]
        PROMPTS.assign(question="what").to_csv(toy.folder / "prompts.csv", index=False)
        again = toy.load(JOIN, "data.text=[question, text]")
        changed = {key for key in found.data if found.data[key] != again.data[key]}
        assert changed == {"joins_sha256", "test_joins_sha256"}

    def test_test_may_have_a_table_of_its_own(self, toy: Toy) -> None:
        PROMPTS.assign(question="what").to_csv(toy.folder / "other.csv", index=False)
        join = "data.joins=[{train: prompts.csv, test: other.csv, on: prompt}]"
        found = toy.load(join, "data.text=[question, text]")
        assert set(found.tables.test["question"]) == {"what"}
        assert set(found.tables.train["question"]) == {"why", "how", "", "who"}
        assert found.data["joins_sha256"] != found.data["test_joins_sha256"]

    def test_inference_reads_the_same_test_table_without_train(self, toy: Toy) -> None:
        toy.change("test", age="3")
        toy.change("train", age="4")
        keys = (
            JOIN,
            "data.text='{question} {text}'",
            "data.numeric=age",
            "data.categorical=prompt",
        )
        wanted = toy.load(*keys).tables
        (toy.folder / "train.csv").unlink()
        settings = toy.settings(*keys)
        found = load_unlabelled(settings, open_store(settings), {})
        assert found.test[["question", "age"]].isna().sum().sum() == 0
        pd.testing.assert_frame_equal(found.test, wanted.test)
        (toy.folder / "test.csv").write_text("id,text,prompt\nr060,a,p1\n")
        with pytest.raises(UserError, match=r"unknown column 'age' in .*test.csv"):
            load_unlabelled(settings, open_store(settings), {})


class TestRowsThatCount:
    def test_weights_follow_the_rows_of_train(self, toy: Toy) -> None:
        toy.change("train", heft=[str(k + 1) for k in range(60)])
        read = read_tables(toy.settings("data.weight=heft", "data.sample_rows=20"))
        assert read.weight_N is not None
        numbers = read.tables.train["id"].str.removeprefix("r").astype(int)
        np.testing.assert_array_equal(read.weight_N, numbers + 1)
        assert read.weight_N.dtype == np.float64
        assert read_tables(toy.settings()).weight_N is None

    def test_soft_labels_stand_beside_the_hard_ones(self, toy: Toy) -> None:
        toy.change("train", chance=["0.5", "0.25", "1"] * 20)
        read = read_tables(toy.settings("data.soft=chance"))
        assert read.soft_NK is not None
        assert read.soft_NK.shape == (60, 1)
        assert read.soft_NK[:3, 0].tolist() == [0.5, 0.25, 1]
        hard = read_tables(toy.settings())
        np.testing.assert_array_equal(read.y, hard.y)
        assert hard.soft_NK is None

    def test_a_refusal_of_soft_labels_names_the_file(self, toy: Toy) -> None:
        toy.change("train", chance="0.5", other="0.5")
        with pytest.raises(UserError, match=r"train.csv: data.soft names 2 columns, expected 1"):
            read_tables(toy.settings("data.soft=[chance, other]"))


class TestClasses:
    def test_an_absent_class_is_kept(self, tmp_path: Path) -> None:
        toy = Toy(tmp_path, "multiclass")
        found = toy.load("data.classes=[good, bad, odd, none]")
        assert found.task.classes == ("bad", "good", "none", "odd")
        assert found.n_folds == 3


AUTHORS = ["human", "AI"] * 30
PROBABILITIES = ("metric=roc_auc",)


class TestPositiveLabel:
    """It is told, or asked for, before anything is trained."""

    @pytest.fixture
    def named(self, tmp_path: Path) -> Toy:
        """Labels are two words; the sample holds fractions."""
        toy = Toy(tmp_path)
        toy.change("train", target=AUTHORS)
        toy.change("sample_submission", target="0.5")
        return toy

    def test_a_known_word_tells_it_and_the_log_names_it(
        self, named: Toy, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        read = read_tables(named.settings(*PROBABILITIES))
        assert read.task.classes == ("human", "AI")
        assert read.y.tolist() == [0, 1] * 30
        assert read.positive == ("AI", "'AI' is known as a positive label")
        assert "positive label: 'AI' ('AI' is known as a positive label)" in caplog.messages

    @pytest.mark.parametrize(
        ("sets", "what"),
        [
            (PROBABILITIES, "whose probability column 'target' of the submission holds"),
            (("metric=log_loss",), "whose probability column 'target' of the submission holds"),
            (("metric=f1", "submission=labels"), "label, which f1 scores"),
            (("metric=accuracy",), "column 'target' of the submission"),
            (
                ("metric=accuracy", "submission=labels", "data.soft=chance"),
                "whose probability data.soft holds",
            ),
        ],
    )
    def test_where_it_matters_and_nothing_tells_it_is_asked_for(
        self, named: Toy, sets: tuple[str, ...], what: str
    ) -> None:
        named.change("train", target=["left", "right"] * 30, chance="0.5")
        if "submission=labels" in sets:
            named.change("sample_submission", target="left")
        with pytest.raises(UserError, match=what) as caught:
            read_tables(named.settings(*sets))
        assert "'left' and 'right'" in str(caught.value)
        assert str(caught.value).endswith("set data.positive to it")
        assert read_tables(named.settings(*sets, "data.positive=left")).task.classes[1] == "left"

    @pytest.mark.parametrize("metric", ["accuracy", "mcc", "f1_macro"])
    def test_labels_under_an_even_metric_need_none(self, named: Toy, metric: str) -> None:
        named.change("train", target=["left", "right"] * 30)
        named.change("sample_submission", target="left")
        assert read_tables(named.settings(f"metric={metric}")).task.classes == ("left", "right")

    def test_a_column_for_each_label_needs_none(self, named: Toy) -> None:
        named.change("train", target=["left", "right"] * 30)
        sample = pd.read_csv(named.folder / "sample_submission.csv", dtype=str)
        sample = sample.drop(columns="target").assign(p_right="0.5", p_left="0.5")
        sample.to_csv(named.folder / "sample_submission.csv", index=False)
        assert read_tables(named.settings(*PROBABILITIES)).task.classes == ("left", "right")


class TestSampleSubmission:
    def test_a_match_that_is_not_plain_is_told_in_one_line(
        self, toy: Toy, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        toy.change("sample_submission", Usage="Public")
        read_tables(toy.settings())
        assert [line for line in caplog.messages if "sample submission" in line] == [
            "sample submission: copied: 'Usage'"
        ]

    @pytest.mark.parametrize(
        ("columns", "sets", "message"),
        [
            ({"more": "0"}, (), "has columns target, more, but labels of this task are target"),
            ({"target": "no"}, (), "holds numbers .*, the sample's holds text"),
            ({}, ("submission.columns={more: copy}",), "unknown column 'more'"),
            ({}, ("submission.columns={target: tagret}",), "unknown output or label 'tagret'"),
            ({}, ("submission.top=2",), "2 labels in a cell"),
            ({"id": [f"x{k}" for k in range(15)]}, (), "lacks 15 of the 15 ids"),
        ],
    )
    def test_a_wrong_one_is_refused_before_anything_is_trained(
        self, toy: Toy, columns: dict, sets: tuple[str, ...], message: str
    ) -> None:
        toy.change("sample_submission", **columns)
        with pytest.raises(UserError, match=message):
            toy.load(*sets)
        assert not open_store(toy.settings()).root.exists()


def settings(toy: Toy) -> dict:
    """The settings in the card of the folds."""
    path = open_store(toy.settings()).folds_path.with_suffix(".json")
    return json.loads(path.read_text())["settings"]


class TestGroups:
    def test_folds_keep_groups_whole_and_say_so(self, toy: Toy) -> None:
        found = toy.load(GROUPS)
        for prompt in "p0", "p1", "p2", "p3":
            rows = (found.tables.train["prompt"] == prompt).to_numpy()
            assert len(set(found.fold_N[rows].tolist())) == 1
        assert settings(toy) == {
            "strategy": "stratified_group",
            "seed": 42,
            "groups": "prompt",
            "keep_together": "duplicates",
            "bins": None,
        }

    @pytest.mark.parametrize("make_folds", [True, False])
    def test_a_group_that_spans_folds_is_refused_at_every_reading(
        self, toy: Toy, make_folds: bool
    ) -> None:
        toy.load(GROUPS)
        toy.load(GROUPS, make_folds=make_folds)
        toy.change("train", prompt=[f"p{k % 4}" for k in range(59)] + ["p0"])
        with pytest.raises(UserError, match=r"folds.csv: group 'p0' of column 'prompt'.*in folds "):
            toy.load(GROUPS, make_folds=make_folds)

    def test_folds_that_others_made_are_refused_when_they_split_a_group(self, toy: Toy) -> None:
        settings = toy.settings(GROUPS)
        read, store = read_tables(settings), open_store(settings)
        given_fold_N = np.arange(60) % 3
        with pytest.raises(UserError, match=r"the members' files: group 'p0' of column 'prompt'"):
            with_folds(read, settings, store, given_fold_N=given_fold_N)
        assert not store.folds_path.exists()
        whole = with_folds(read, settings, store, given_fold_N=np.arange(60) % 4 % 3)
        assert whole.n_folds == 3

    def test_other_groups_or_other_treatment_of_duplicates_need_another_run(self, toy: Toy) -> None:
        toy.change("train", author=[f"a{k % 12}" for k in range(60)])
        toy.load("folds.keep_together=none", "folds.groups=prompt")
        with pytest.raises(UserError, match=r"folds.keep_together was none, is duplicates"):
            toy.load(GROUPS)
        with pytest.raises(UserError, match=r"folds.groups was prompt, is None; folds.strategy"):
            toy.load("folds.keep_together=none")

    def test_a_gap_or_a_missing_column_is_refused(self, toy: Toy) -> None:
        with pytest.raises(UserError, match=r"unknown column 'promt' in .*did you mean 'prompt'"):
            toy.load("folds.groups=promt")
        toy.change("train", prompt=["p0", ""] * 30)
        with pytest.raises(UserError, match=r"30 empty cells in group column 'prompt', .* row 3"):
            toy.load(GROUPS)


class TestEqualTexts:
    @pytest.fixture
    def repeated(self, toy: Toy) -> Toy:
        """Of 60 texts, 20 stand there twice more: once as they are, once in capitals."""
        texts = [f"text {k}" for k in range(20)]
        toy.change(
            "train",
            text=[*texts, *texts, *(f" {text.upper()}" for text in texts)],
            target=["0"] * 10 + ["1"] * 10 + ["0"] * 10 + ["1"] * 10 + ["0"] * 11 + ["1"] * 9,
        )
        toy.change("test", text=["text 3", "TEXT 4", *["other"] * 13])
        return toy

    def test_equal_texts_share_a_fold_unless_told_otherwise(self, repeated: Toy) -> None:
        fold_N = repeated.load().fold_N
        np.testing.assert_array_equal(fold_N[:20], fold_N[20:40])
        np.testing.assert_array_equal(fold_N[:20], fold_N[40:])
        apart_N = repeated.load("run=apart", "folds.keep_together=none").fold_N
        assert (apart_N[:20] != apart_N[20:40]).any()

    def test_the_log_counts_repeats_conflicts_and_overlap_when_folds_are_made(
        self, repeated: Toy, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        repeated.load()
        assert "40 rows repeat a text, 20 of them exactly, in 20 sets" in caplog.text
        assert "sets with conflicting labels: 1, such as ids 'r010' and 'r050'" in caplog.text
        assert "test: 2 of 15 texts are in train, too, 1 of them exactly" in caplog.text
        caplog.clear()
        repeated.load()
        assert "repeat" not in caplog.text
