"""Slices are readable and hold every row once, and their table is the metric on each of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import AUC, MAE, TASKS, drawn

from poolblend.competition.metrics import METRICS, make_scorer
from poolblend.ensembling.slices import (
    EMPTY,
    LONGEST,
    length_bins,
    slice_sentence,
    slice_table,
    slices,
)
from poolblend.errors import UserError


class TestSlices:
    def test_few_values_stand_for_themselves_the_most_frequent_first(self) -> None:
        found = slices(["b", "a", "b", "c", "a", "b"])
        assert list(found) == ["b", "a", "b", "c", "a", "b"]
        assert list(found.categories) == ["b", "a", "c"]
        assert list(slices("abc", levels=3)) == ["a", "b", "c"]

    def test_rare_values_of_many_are_put_together_and_counted(self) -> None:
        found = slices([*"aaabbbccd", "e", "f"], levels=3)
        assert list(found) == [*"aaabbb", *["other (4 levels)"] * 5]

    @pytest.mark.parametrize("missing", ["", "  ", None, np.nan, pd.NA])
    def test_an_empty_cell_is_a_slice_of_its_own_and_the_last(self, missing: object) -> None:
        for other in ("word", 3.5):
            found = slices([missing, other, missing])
            assert list(found) == [EMPTY, str(other), EMPTY]
            assert list(found.categories) == [str(other), EMPTY]

    def test_the_word_nan_is_a_word_among_words_and_empty_among_numbers(self) -> None:
        assert list(slices(["nan", "null", ""])) == ["nan", "null", EMPTY]
        assert list(slices(["NaN", "2", "1.0"])) == [EMPTY, "2", "1"]
        assert list(slices(["nan", "nan"])) == ["nan", "nan"]

    def test_long_values_are_cut_short_and_yet_kept_apart(self) -> None:
        long = "why do cats " * 20
        found = slices([f"{long}purr", f"{long}sleep", "a\n b"])
        assert len(found.categories) == 3
        assert max(map(len, found.categories)) <= LONGEST + len(" (2)")
        assert found[2] == "a b"

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([-5, -4, -1, 3], ["-5 to -4", "-1 to 3"]),
            ([0.001, 0.002, 0.25, 0.5], ["0.001–0.002", "0.25–0.5"]),
            ([1.0001, 1.0002, 1.0003, 1.0004], ["1.0001–1.0002", "1.0003–1.0004"]),
            ([100000, 123456, 1234567, 2000000], ["100000–123456", "1234567–2000000"]),
            (["-inf", "1", "2", "inf"], ["-inf to 1", "2 to inf"]),
            ([1e300, 2e300, 1e-300, 1], ["1e-300–1", "1e+300–2e+300"]),
        ],
    )
    def test_labels_have_the_digits_that_tell_bins_apart_and_no_more(
        self, values: list[object], expected: list[str]
    ) -> None:
        assert list(slices(values, levels=2).categories) == expected

    @settings(deadline=None)
    @given(
        st.lists(st.integers(-50, 50) | st.floats() | st.just(""), max_size=60),
        st.integers(1, 10),
    )
    def test_every_row_has_a_slice_and_equal_numbers_share_it(
        self, values: list[object], levels: int
    ) -> None:
        found = slices(values, levels)
        assert len(found) == len(values)
        assert (found.codes >= 0).all()
        assert len(set(found.categories) - {EMPTY}) <= levels
        assert set(found.categories) == set(found)
        coded = zip(values, found.codes, strict=True)
        filled = [(value, code) for value, code in coded if value != "" and not np.isnan(value)]
        ordered = [code for _, code in sorted(filled)]
        assert ordered == sorted(ordered)
        assert len(dict(filled)) == len(set(filled))

    def test_bins_are_of_about_equal_size_where_values_allow_it(self) -> None:
        values = np.random.default_rng(0).normal(size=1000)
        assert set(Counter(slices(values, levels=8)).values()) == {125}

    def test_text_lengths_are_counted_in_words(self) -> None:
        assert list(length_bins(["one", " two  words\n", "", None])) == [
            "1 word",
            "2 words",
            "0 words",
            "0 words",
        ]
        many = length_bins(["w " * n for n in range(1, 101)], levels=2)
        assert list(many.categories) == ["1–50 words", "51–100 words"]


class TestTable:
    def test_equals_a_table_made_by_hand(self) -> None:
        y = np.array([[0.0], [0.0], [1.0], [1.0]])
        off = {"best": [0.1, 0.3, 0.2, 0.2], "blend": [0, 0.2, 0.4, 0]}
        metric_inputs = {name: y + np.array(errors)[:, None] for name, errors in off.items()}
        table = slice_table(y, metric_inputs, MAE, np.array(["v", "v", "u", "u"]), reference="best")
        assert table.index.name == "slice"
        assert list(table.columns) == ["rows", "best", "blend", "gain", "low", "high"]
        np.testing.assert_allclose(
            table.loc["v", ["rows", "best", "blend", "gain"]], [2, 0.2, 0.1, 0.1]
        )
        np.testing.assert_allclose(
            table.loc["u", ["rows", "best", "blend", "gain"]], [2, 0.2, 0.2, 0]
        )

    @pytest.mark.parametrize(
        ("kind", "metric"),
        [(kind, name) for kind in TASKS for name in METRICS if kind in METRICS[name].tasks],
    )
    def test_every_metric_survives_slices_of_one_row(self, kind: str, metric: str) -> None:
        scorer = make_scorer(metric, TASKS[kind])
        y, oof_MNK = drawn(kind, 0, 2, 61)
        metric_inputs = dict(
            zip(("equal", "chosen"), map(scorer.metric_inputs, oof_MNK), strict=True)
        )
        which = np.array([*["big"] * 60, "one"])
        table = slice_table(y, metric_inputs, scorer, which, reference="equal", resamples=20)
        at = which == "big"
        assert table.loc["big", "chosen"] == scorer.score_inputs(y[at], metric_inputs["chosen"][at])
        assert np.isfinite(table.loc["big", ["gain", "low", "high"]].astype(float)).all()
        assert np.isnan(table.loc["one", ["low", "high"]].astype(float)).all()

    def test_a_slice_of_one_class_has_no_score_and_no_interval(self) -> None:
        y = np.array([0] * 40 + [0, 1] * 20)
        metric_inputs = {"a": np.linspace(0, 1, 80), "b": np.linspace(1, 0, 80)}
        table = slice_table(y, metric_inputs, AUC, ["zero"] * 40 + ["both"] * 40, reference="a")
        assert table.loc["zero", "rows"] == 40
        assert table.loc["zero"].drop("rows").isna().all()
        assert table.loc["both"].notna().all()

    @pytest.mark.parametrize(("n_rows", "told"), [(29, False), (30, True)])
    def test_no_interval_below_thirty_rows(self, n_rows: int, told: bool) -> None:
        y = np.zeros((n_rows, 1))
        metric_inputs = {"a": y + 1, "b": y + 2}
        table = slice_table(y, metric_inputs, MAE, ["x"] * n_rows, reference="a")
        assert table.loc["x", "gain"] == -1
        assert table.loc["x", ["low", "high"]].notna().all() == told

    def test_groups_are_what_is_counted_and_drawn(self) -> None:
        rng = np.random.default_rng(0)
        group_N = np.repeat(np.arange(40), 25)
        y = np.zeros((1000, 1))
        metric_inputs = {"a": y, "b": rng.normal(size=40)[group_N][:, None]}
        by_rows = slice_table(y, metric_inputs, MAE, ["x"] * 1000, reference="a")
        by_groups = slice_table(y, metric_inputs, MAE, ["x"] * 1000, reference="a", group_N=group_N)
        width = [float(t["high"].iloc[0] - t["low"].iloc[0]) for t in (by_rows, by_groups)]
        assert width[1] > 3 * width[0]
        few = slice_table(y, metric_inputs, MAE, ["x"] * 1000, reference="a", group_N=group_N % 29)
        assert few["low"].isna().all()

    def test_slices_stand_in_their_order_and_rows_without_one_are_left_out(self) -> None:
        y = np.zeros((4, 1))
        which = pd.Categorical(["10–20", "2–9", None, "2–9"], ["2–9", "10–20", "unused"])
        table = slice_table(y, {"a": y}, MAE, which, reference="a")
        assert table["rows"].to_dict() == {"2–9": 2, "10–20": 1}
        assert list(table.index) == ["2–9", "10–20"]

    def test_what_does_not_fit_is_refused_in_one_line(self) -> None:
        y = np.zeros((2, 1))
        with pytest.raises(UserError, match="unknown prediction 'equals'; did you mean 'equal'"):
            slice_table(y, {"equal": y}, MAE, ["x", "x"], reference="equals")
        with pytest.raises(UserError, match="slices of 3 rows were given for 2"):
            slice_table(y, {"equal": y}, MAE, ["x", "x", "y"], reference="equal")


class TestSentence:
    def table(self, *rows: tuple[str, float, float, float]) -> pd.DataFrame:
        columns = ["slice", "gain", "low", "high"]
        return pd.DataFrame(rows, columns=columns).set_index("slice").assign(rows=100)

    def test_names_the_slices_where_the_blend_loses_the_worst_first(self) -> None:
        table = self.table(("u", -0.1, -0.2, -0.01), ("v", 0.1, 0, 0.2), ("w", -0.3, -0.4, -0.2))
        assert slice_sentence(table, "greedy", "equal", "keyword") == (
            "greedy scores significantly below equal in 2 of 3 slices of keyword: "
            "'w' -0.3000 (95 % interval -0.4000 to -0.2000) on 100 rows, "
            "'u' -0.1000 (95 % interval -0.2000 to -0.0100) on 100 rows; "
            "by chance alone, this is expected in one slice of 40."
        )

    def test_says_that_it_nowhere_loses_and_how_many_slices_cannot_tell(self) -> None:
        table = self.table(("u", -0.1, -0.2, 0.0), ("v", np.nan, np.nan, np.nan))
        assert slice_sentence(table, "greedy", "equal") == (
            "greedy scores significantly below equal in 0 of 1 slice "
            "(1 more not compared: too few rows, or metric undefined)."
        )

    def test_says_so_where_no_slice_can_tell(self) -> None:
        said = slice_sentence(self.table(("u", -0.1, np.nan, np.nan)), "greedy", "equal")
        assert said.startswith("greedy and equal cannot be compared in any slice")
