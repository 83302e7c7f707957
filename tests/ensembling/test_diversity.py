"""What members bring equals the defining formulas, and undefined values are said, never a crash."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import fcluster
from simulated import MAE, PEARSON, RMSE, matrix

from poolblend.competition.metrics import Scorer, make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling import contributions
from poolblend.ensembling.contributions import (
    leave_one_out,
    member_table,
    stability_table,
    weight_stability,
)
from poolblend.ensembling.diversity import (
    ambiguity,
    collapsed,
    dendrogram_order,
    disagreement,
    error_correlation,
    prediction_correlation,
    q_statistic,
)
from poolblend.ensembling.honesty import cross_fit
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.options import Blend
from poolblend.errors import UserError

RNG = np.random.default_rng(0)
OOF_MNK = RNG.random((4, 50, 3))
TASKS = {
    "binary": Task("binary", ("t",), (0, 1)),
    "multiclass": Task("multiclass", ("t",), ("a", "b", "c")),
    "multilabel": Task("multilabel", ("a", "b", "c")),
    "regression": Task("regression", ("a", "b", "c")),
    "ordinal": Task("ordinal", ("t",), (1, 1.5, 4)),
}
LABELLED = [kind for kind in TASKS if kind != "regression"]
PLAIN = Blend(fitters=["equal"], space="plain", thresholds="default")


def sample(kind: str, n_rows: int = 50) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, their values (N, K) written out cell by cell, and four members' predictions."""
    task = TASKS[kind]
    rng = np.random.default_rng(1)
    size = (n_rows, 3) if kind in ("multilabel", "regression") else n_rows
    y = rng.integers(0, 2 if kind in ("binary", "multilabel") else 3, size)
    if kind == "multiclass":
        truth_NK = np.array([[float(label == k) for k in range(3)] for label in y])
        return y, truth_NK, rng.dirichlet(np.ones(3), (4, n_rows))
    truth_NK = y.reshape(n_rows, -1).astype(float)
    if kind == "ordinal":
        truth_NK = np.array([[float(task.classes[label])] for label in y])
    return y, truth_NK, np.clip(truth_NK + rng.normal(0, 0.5, (4, *truth_NK.shape)), 0, 4)


def labels_of(kind: str, oof_MNK: np.ndarray) -> list[np.ndarray]:
    return [TASKS[kind].labels(pred_NK) for pred_NK in oof_MNK]


def regression(noise: list[float], n_rows: int = 200, seed: int = 0) -> OofMatrix:
    """One target, and members that see it through noise of their own."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n_rows, 1))
    return matrix(y, y + np.array(noise)[:, None, None] * rng.normal(size=(len(noise), n_rows, 1)))


class TestCorrelation:
    def test_several_outputs_are_averaged_so_their_levels_and_scales_do_not_count(self) -> None:
        each = [np.corrcoef(OOF_MNK[:, :, k]) for k in range(3)]
        np.testing.assert_allclose(
            prediction_correlation(OOF_MNK * [1, 10, 1e-3] + [5, 0, -1]),
            np.mean(each, axis=0),
            atol=1e-9,
        )

    @pytest.mark.parametrize("kind", TASKS)
    def test_errors_are_prediction_minus_truth_on_every_kind_of_task(self, kind: str) -> None:
        y, truth_NK, oof_MNK = sample(kind)
        each = [np.corrcoef((oof_MNK - truth_NK)[:, :, k]) for k in range(oof_MNK.shape[2])]
        np.testing.assert_allclose(
            error_correlation(oof_MNK, y, TASKS[kind]), np.mean(each, axis=0), atol=1e-12
        )

    @pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
    def test_a_constant_member_has_no_correlation_and_costs_the_others_nothing(
        self, value: float
    ) -> None:
        oof_MNK = OOF_MNK.copy()
        oof_MNK[2] = value
        corr_MM = prediction_correlation(oof_MNK)
        others = np.ix_([0, 1, 3], [0, 1, 3])
        assert np.isnan(corr_MM[2]).all()
        assert np.isnan(corr_MM[:, 2]).all()
        np.testing.assert_allclose(corr_MM[others], prediction_correlation(OOF_MNK)[others])

    def test_differences_too_small_to_square_count_as_none(self) -> None:
        oof_MNK = np.array([[1e-200, 2e-200], [0.0, 1.0]])[:, :, None]
        np.testing.assert_allclose(prediction_correlation(oof_MNK), [[np.nan] * 2, [np.nan, 1]])

    def test_an_output_on_which_a_member_is_constant_is_left_out_of_its_average(self) -> None:
        oof_MNK = OOF_MNK.copy()
        oof_MNK[1, :, 0] = 0.5
        corr_MM = prediction_correlation(oof_MNK)
        assert corr_MM[0, 1] == pytest.approx(prediction_correlation(OOF_MNK[:, :, 1:])[0, 1])
        assert corr_MM[0, 2] == pytest.approx(prediction_correlation(OOF_MNK)[0, 2])


class TestDecisions:
    @pytest.mark.parametrize("kind", LABELLED)
    def test_disagreement_is_the_share_of_decisions_that_differ(self, kind: str) -> None:
        _, _, oof_MNK = sample(kind)
        labels = labels_of(kind, oof_MNK)
        share_MM = disagreement(labels)
        for i, j in np.ndindex(4, 4):
            pairs = list(zip(labels[i].ravel(), labels[j].ravel(), strict=True))
            assert share_MM[i, j] == pytest.approx(sum(a != b for a, b in pairs) / len(pairs))
        assert 0 < share_MM[0, 1] < 1

    @pytest.mark.parametrize("kind", LABELLED)
    def test_q_counts_who_is_right_when(self, kind: str) -> None:
        y, _, oof_MNK = sample(kind)
        labels = labels_of(kind, oof_MNK)
        q_MM = q_statistic(labels, y)
        for i, j in np.ndindex(4, 4):
            a, b = (labels[i] == y).ravel(), (labels[j] == y).ravel()
            alike = sum(a & b) * sum(~a & ~b)
            unlike = sum(a & ~b) * sum(~a & b)
            assert q_MM[i, j] == pytest.approx((alike - unlike) / (alike + unlike))

    def test_what_is_not_decided_is_refused(self) -> None:
        with pytest.raises(UserError, match="float64 values, expected integers"):
            disagreement(OOF_MNK)
        with pytest.raises(UserError, match="leave regression out"):
            q_statistic(OOF_MNK, OOF_MNK[0])


class TestAmbiguity:
    @pytest.mark.parametrize("per_output", [False, True])
    @pytest.mark.parametrize("kind", TASKS)
    def test_equals_its_definition(self, kind: str, per_output: bool) -> None:
        y, truth_NK, oof_MNK = sample(kind)
        K = truth_NK.shape[1]
        weights_MK = RNG.dirichlet(np.ones(4), K).T if per_output else np.full((4, K), 0.25)
        mean_NK = sum(weights_MK[m] * oof_MNK[m] for m in range(4))
        expected = (
            np.mean(sum(weights_MK[m] * (oof_MNK[m] - truth_NK) ** 2 for m in range(4))),
            np.mean(sum(weights_MK[m] * (oof_MNK[m] - mean_NK) ** 2 for m in range(4))),
            np.mean((mean_NK - truth_NK) ** 2),
        )
        given = weights_MK if per_output else weights_MK[:, 0]
        np.testing.assert_allclose(ambiguity(oof_MNK, given, y, TASKS[kind]), expected)


class TestDendrogram:
    CORR_MM = np.array(
        [[1, 0.1, 0.9, 0.2], [0.1, 1, 0.3, 0.8], [0.9, 0.3, 1, 0.1], [0.2, 0.8, 0.1, 1]]
    )

    def test_puts_like_beside_like_and_their_tree_joins_them_first(self) -> None:
        order, tree = dendrogram_order(self.CORR_MM)
        assert order == (0, 2, 1, 3)  # 2 is nearer to 1 (.3) than to 3 (.1), and 0 than both
        np.testing.assert_allclose(tree[:, 2], [0.1, 0.2, 1 - (0.1 + 0.2 + 0.3 + 0.1) / 4])
        assert len(set(fcluster(tree, 2, "maxclust")[[0, 2]])) == 1

    def test_one_and_two_members_have_an_order(self) -> None:
        one, two = dendrogram_order(np.eye(1)), dendrogram_order(np.full((2, 2), np.nan))
        assert (one.order, one.linkage.shape) == ((0,), (0, 4))
        assert (two.order, two.linkage.shape) == ((0, 1), (1, 4))


class TestMembers:
    @pytest.mark.parametrize("constant", [[1], [0, 1, 2]])
    def test_a_constant_member_has_no_score_and_the_others_keep_theirs(
        self, constant: list[int]
    ) -> None:
        given = regression([0.5, 1.0, 2.0])
        scorer = PEARSON
        whole = member_table(given, scorer, list(given.oof_MNK), resamples=20)
        given.oof_MNK[constant] = 0.5
        table = member_table(given, scorer, list(given.oof_MNK), resamples=20)
        assert table.iloc[constant].isna().all(axis=None)
        others = [m for m in range(3) if m not in constant]
        np.testing.assert_allclose(table.iloc[others], whole.iloc[others])


class TestLeaveOneOut:
    def left_out(self, given: OofMatrix, scorer: Scorer, **keys: int) -> pd.DataFrame:
        inputs = cross_fit("equal", given, scorer, PLAIN).honest_inputs
        return leave_one_out(given, scorer, PLAIN, "equal", inputs, **keys)

    def test_a_value_is_the_loss_without_less_the_loss_with(self) -> None:
        given = regression([0.5, 0.7, 2.0])
        table = self.left_out(given, MAE)
        with_all = np.abs(given.oof_MNK.mean(axis=0) - given.y).mean()
        assert list(table.columns) == ["value", "low", "high", "verdict"]
        for m in range(3):
            without = np.abs(np.delete(given.oof_MNK, m, axis=0).mean(axis=0) - given.y).mean()
            assert table.loc[f"m{m}", "value"] == pytest.approx(without - with_all)
        assert (table["low"] < table["value"]).all()
        assert (table["value"] < table["high"]).all()

    def test_says_who_helps_who_harms_and_who_cannot_be_told_from_nobody(self) -> None:
        given = regression([0.5, 0.5, 0.5, 6.0])
        oof_MNK = given.oof_MNK
        middle_NK = oof_MNK[:3].mean(axis=0)
        oof_MNK[3] = middle_NK + 1e-3 * RNG.normal(size=middle_NK.shape)
        table = self.left_out(given, MAE)
        assert table["verdict"].tolist()[3] == "adds nothing that these rows can show"
        oof_MNK[3] = given.y + 6
        assert self.left_out(given, MAE).loc["m3", "verdict"] == "harms"

    @pytest.mark.parametrize("space", ["plain", "rank"])
    def test_of_many_members_it_is_the_same(
        self, space: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given, options = regression([0.5, 0.7, 1.0, 2.0]), Blend(space=space)
        scorer = make_scorer("spearman", PEARSON.task)
        inputs = cross_fit("equal", given, scorer, options).honest_inputs
        few = leave_one_out(given, scorer, options, "equal", inputs, resamples=50)
        monkeypatch.setattr(contributions, "MANY", 3)
        monkeypatch.setattr(contributions, "cross_fit", None)  # no fit without each of them
        many = leave_one_out(given, scorer, options, "equal", inputs, resamples=50)
        numbers = ["value", "low", "high"]
        np.testing.assert_allclose(many[numbers], few[numbers], atol=1e-12)

    def test_what_cannot_be_told_is_said(self) -> None:
        only = self.left_out(regression([0.5]), MAE)
        assert only["verdict"].tolist() == ["unknown"]
        assert only[["value", "low", "high"]].isna().all(axis=None)
        given = regression([0.5, 1.0])
        given.oof_MNK[1] = 3.0
        pair = self.left_out(given, PEARSON)
        assert pair["verdict"].tolist() == [
            "unknown",
            "adds nothing that these rows can show",
        ]


class TestStability:
    def test_fitted_weights_move_around_those_of_all_rows(self) -> None:
        given, scorer = regression([0.5, 0.7, 3.0]), RMSE
        weights_RM = weight_stability(given, scorer, PLAIN, "convex", resamples=20)
        whole_M = cross_fit("convex", given, scorer, PLAIN).weights_M
        np.testing.assert_allclose(weights_RM.sum(axis=1), 1)
        np.testing.assert_allclose(weights_RM.mean(axis=0), whole_M, atol=0.05)
        assert 0.01 < weights_RM[:, 0].std() < 0.1

    def test_resamples_without_a_score_are_left_out_or_refused_if_many(self) -> None:
        given = regression([0.5, 0.6], n_rows=40)
        given.oof_MNK[:, 12:] = 0.5  # three rows of each fold differ
        scorer = PEARSON
        kept = weight_stability(given, scorer, PLAIN, "best", resamples=40)
        assert 20 <= len(kept) < 40
        given.oof_MNK[:] = 0.5
        with pytest.raises(UserError, match="pearson is undefined on 4 of 4 resamples of 40 rows"):
            weight_stability(given, scorer, PLAIN, "best", resamples=4)

    def test_its_table_has_quantiles_and_the_share_of_zeros(self) -> None:
        first_R = np.linspace(0, 1, 101)
        table = stability_table(["a", "b"], np.stack([first_R, 1 - np.round(first_R)], axis=1))
        assert table.index.name == "member"
        np.testing.assert_allclose(table.loc["a"], [0.5, 0.05, 0.95, 1 / 101])
        np.testing.assert_allclose(table.loc["b"], [51 / 101, 0, 1, 50 / 101])


class TestCollapsed:
    def matrix(self, kind: str) -> OofMatrix:
        task = TASKS[kind]
        rng = np.random.default_rng(3)
        y, _, _ = sample(kind, 60)
        oof_MNK = rng.random((3, 60, len(task.outputs)))
        if kind == "multiclass":
            oof_MNK /= oof_MNK.sum(axis=2, keepdims=True)
        names = ("a", "b", "c")
        ids = np.arange(60).astype(str)
        return OofMatrix(ids, np.arange(60) % 3, y, oof_MNK, names, task.outputs)

    @pytest.mark.parametrize("kind", TASKS)
    def test_one_value_on_all_rows_of_a_fold_is_found_up_to_float_noise(self, kind: str) -> None:
        given = self.matrix(kind)
        assert collapsed(given, TASKS[kind]) == {}
        noise_NK = np.random.default_rng(0).normal(0, 1e-7, given.oof_MNK.shape[1:])
        held_N = given.fold_N == 2
        given.oof_MNK[1, held_N] = (given.oof_MNK[1, 0] + noise_NK)[held_N]
        given.oof_MNK[2] = given.oof_MNK[2, 0] + noise_NK
        assert collapsed(given, TASKS[kind]) == {"b": [2], "c": [0, 1, 2]}

    def test_another_value_in_each_fold_is_a_collapse_of_each(self) -> None:
        given = self.matrix("binary")
        given.oof_MNK[0] = (0.2 + 0.1 * given.fold_N)[:, None]
        assert collapsed(given, TASKS["binary"]) == {"a": [0, 1, 2]}

    def test_small_differences_on_the_scale_of_the_target_are_none(self) -> None:
        given = self.matrix("regression")
        given.oof_MNK[0] = given.oof_MNK[0] * 0.01 + 5
        assert collapsed(given, TASKS["regression"]) == {}
        tiny = replace(given, oof_MNK=given.oof_MNK * 1e-9, y=given.y * 1e-9)
        assert collapsed(tiny, TASKS["regression"]) == {}

    def test_decided_labels_may_be_alike_within_a_fold(self) -> None:
        given = self.matrix("binary")
        given.oof_MNK[0] = np.where(given.fold_N == 0, 0, np.arange(60) % 2)[:, None]
        given.oof_MNK[1] = 0
        assert collapsed(given, TASKS["binary"]) == {"b": [0, 1, 2]}

    def test_folds_of_few_rows_are_not_judged(self) -> None:
        given = self.matrix("binary")
        given.oof_MNK[0, :5] = 0.3
        few = replace(given, fold_N=np.where(np.arange(60) < 5, 0, 1))
        assert collapsed(few, TASKS["binary"]) == {}
