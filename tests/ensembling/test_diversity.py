"""What members bring equals the defining formulas, and undefined values are said, never a crash."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster
from sklearn.metrics import f1_score, log_loss, mean_absolute_error

from poolblend.competition.metrics import Scorer, make_scorer
from poolblend.competition.tasks import Task
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
    undefined,
)
from poolblend.ensembling.fitting import BlendOptions
from poolblend.ensembling.honesty import cross_fit
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.resampling import fitted_widening
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
REGRESSION = Task("regression", ("t",))
PLAIN = BlendOptions(fitters=("equal",), space="plain", thresholds="default")


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


def matrix(y: np.ndarray, oof_MNK: np.ndarray, group_N: np.ndarray | None = None) -> OofMatrix:
    n_members, n_rows, n_outputs = oof_MNK.shape
    members = tuple(f"m{m}" for m in range(n_members))
    outputs = ("t",) if n_outputs == 1 else tuple("abcdef"[:n_outputs])
    ids_N, fold_N = np.arange(n_rows).astype(str), np.arange(n_rows) % 4
    return OofMatrix(ids_N, fold_N, y, oof_MNK, members, outputs, group_N)


def regression(noise: list[float], n_rows: int = 200, seed: int = 0) -> OofMatrix:
    """One target, and members that see it through noise of their own."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n_rows, 1))
    return matrix(y, y + np.array(noise)[:, None, None] * rng.normal(size=(len(noise), n_rows, 1)))


class TestCorrelation:
    def test_one_output_gives_numpys_correlation(self) -> None:
        np.testing.assert_allclose(
            prediction_correlation(OOF_MNK[:, :, :1]), np.corrcoef(OOF_MNK[:, :, 0]), atol=1e-12
        )

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

    def test_copies_and_opposites_reach_the_bounds(self) -> None:
        first_NK = OOF_MNK[0]
        corr_MM = prediction_correlation(np.stack([first_NK, 2 * first_NK + 1, -first_NK]))
        np.testing.assert_allclose(corr_MM, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
        assert np.abs(corr_MM).max() <= 1

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

    def test_q_of_a_table_made_by_hand(self) -> None:
        y = np.zeros(10, dtype=int)
        one, other = np.array([0] * 6 + [1] * 4), np.array([0, 0, 0, 0, 1, 1, 0, 1, 1, 1])
        # 4 both right, 3 both wrong, 2 only one, 1 only the other: (12 - 2) / (12 + 2)
        assert q_statistic([one, other], y)[0, 1] == pytest.approx(10 / 14)
        assert disagreement([one, other])[0, 1] == pytest.approx(0.3)

    def test_cuts_decide(self) -> None:
        task, pred_NK = TASKS["binary"], np.array([[0.2], [0.4], [0.6]])
        labels = [task.labels(pred_NK, np.array([cut])) for cut in (0.5, 0.3)]
        assert disagreement(labels)[0, 1] == pytest.approx(1 / 3)

    @pytest.mark.parametrize("throughout", [0, 1])
    def test_a_member_right_or_wrong_throughout_has_no_q_and_costs_the_others_none(
        self, throughout: int
    ) -> None:
        y, _, oof_MNK = sample("binary")
        labels = labels_of("binary", oof_MNK)
        whole_MM = q_statistic(labels, y)
        labels[1] = y if throughout else 1 - y
        q_MM = q_statistic(labels, y)
        assert np.isnan(q_MM[1]).all()
        assert np.isnan(q_MM[:, 1]).all()
        others = np.ix_([0, 2, 3], [0, 2, 3])
        np.testing.assert_array_equal(q_MM[others], whole_MM[others])

    def test_one_member_agrees_with_itself(self) -> None:
        y = np.array([0, 1, 1])
        labels = [np.array([0, 1, 0])]
        assert disagreement(labels).tolist() == [[0.0]]
        assert q_statistic(labels, y).tolist() == [[1.0]]

    def test_what_is_not_decided_is_refused(self) -> None:
        with pytest.raises(UserError, match="float64 values, expected decided ones"):
            disagreement(OOF_MNK)
        with pytest.raises(UserError, match="leave regression out"):
            q_statistic(OOF_MNK, OOF_MNK[0])


class TestUndefined:
    def test_names_member_output_and_what_is_lost(self) -> None:
        y, truth_NK, oof_MNK = sample("multilabel")
        oof_MNK[1, :, [0, 2]] = 0.5
        oof_MNK[2] = truth_NK
        oof_MNK[3] = 0.6 * (1 - truth_NK)
        found = undefined(matrix(y, oof_MNK), TASKS["multilabel"], labels_of("multilabel", oof_MNK))
        assert found == [
            "m1 predicts one value for a, c on all rows: no correlation there",
            "m2 errs by one value for a, b, c on all rows: no correlation of errors there",
            "m2 is right on all rows: no Q",
            "m3 is wrong on all rows: no Q",
        ]

    @pytest.mark.parametrize("kind", TASKS)
    def test_says_nothing_where_everything_is_defined(self, kind: str) -> None:
        y, _, oof_MNK = sample(kind)
        labels = None if kind == "regression" else labels_of(kind, oof_MNK)
        assert undefined(matrix(y, oof_MNK), TASKS[kind], labels) == []

    @pytest.mark.parametrize("kind", LABELLED)
    def test_names_exactly_the_members_with_nan(self, kind: str) -> None:
        y, truth_NK, oof_MNK = sample(kind)
        oof_MNK[0], oof_MNK[3] = oof_MNK[0, 0], truth_NK
        labels = labels_of(kind, oof_MNK)
        lost = undefined(matrix(y, oof_MNK), TASKS[kind], labels)
        for table_MM, what in (
            (prediction_correlation(oof_MNK), "correlation there"),
            (error_correlation(oof_MNK, y, TASKS[kind]), "correlation of errors there"),
            (q_statistic(labels, y), "Q"),
        ):
            nan = {f"m{m}" for m in range(4) if np.isnan(table_MM[m, m])}
            assert {said.split()[0] for said in lost if said.endswith(f"no {what}")} == nan


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

    @settings(deadline=None)
    @given(
        st.integers(1, 5),
        st.integers(1, 20),
        st.integers(1, 3),
        st.integers(0, 2**32 - 1),
        st.booleans(),
    )
    def test_member_error_less_ambiguity_is_the_ensembles_error(
        self, n_members: int, n_rows: int, n_outputs: int, seed: int, per_output: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        y = rng.normal(size=(n_rows, n_outputs))
        oof_MNK = rng.normal(size=(n_members, n_rows, n_outputs))
        weights = rng.random((n_members, n_outputs) if per_output else n_members) + 1e-3
        parts = ambiguity(oof_MNK, weights, y, Task("regression", tuple("abc"[:n_outputs])))
        assert abs(parts.member_error - parts.ambiguity - parts.ensemble_error) <= 1e-12
        assert parts.ambiguity >= 0

    def test_only_shares_count_and_none_at_all_is_undefined(self) -> None:
        y, _, oof_MNK = sample("regression")
        weights_M = np.array([1.0, 2.0, 0.0, 1.0])
        task = TASKS["regression"]
        np.testing.assert_allclose(
            ambiguity(oof_MNK, 3 * weights_M, y, task), ambiguity(oof_MNK, weights_M, y, task)
        )
        assert np.isnan(ambiguity(oof_MNK, 0 * weights_M, y, task)).all()

    def test_copies_have_none(self) -> None:
        y, _, oof_MNK = sample("binary")
        copies = np.repeat(oof_MNK[:1], 3, axis=0)
        parts = ambiguity(copies, np.full(3, 1 / 3), y, TASKS["binary"])
        assert parts.ambiguity == pytest.approx(0, abs=1e-12)
        assert parts.ensemble_error == pytest.approx(parts.member_error)


class TestDendrogram:
    CORR_MM = np.array(
        [[1, 0.1, 0.9, 0.2], [0.1, 1, 0.3, 0.8], [0.9, 0.3, 1, 0.1], [0.2, 0.8, 0.1, 1]]
    )

    def test_puts_like_beside_like_and_their_tree_joins_them_first(self) -> None:
        order, tree = dendrogram_order(self.CORR_MM)
        assert order == (0, 2, 1, 3)  # 2 is nearer to 1 (.3) than to 3 (.1), and 0 than both
        np.testing.assert_allclose(tree[:, 2], [0.1, 0.2, 1 - (0.1 + 0.2 + 0.3 + 0.1) / 4])
        assert len(set(fcluster(tree, 2, "maxclust")[[0, 2]])) == 1

    @settings(deadline=None)
    @given(st.permutations(range(4)))
    def test_members_in_another_order_give_the_same_neighbours(self, places: list[int]) -> None:
        order = dendrogram_order(self.CORR_MM[np.ix_(places, places)]).order
        assert order[0] < order[-1]
        named = [places[m] for m in order]
        assert named in ([0, 2, 1, 3], [3, 1, 2, 0])

    def test_the_tree_drawn_by_scipy_has_the_same_order(self) -> None:
        from scipy.cluster.hierarchy import dendrogram, is_valid_linkage

        for seed in range(10):
            corr_MM = prediction_correlation(np.random.default_rng(seed).random((7, 9, 1)))
            order, tree = dendrogram_order(corr_MM)
            assert is_valid_linkage(tree)
            assert tuple(dendrogram(tree, no_plot=True)["leaves"]) == order

    def test_nan_counts_as_no_correlation(self) -> None:
        corr_MM = self.CORR_MM.copy()
        corr_MM[3], corr_MM[:, 3] = np.nan, np.nan
        zero_MM = np.nan_to_num(corr_MM)
        given, expected = dendrogram_order(corr_MM), dendrogram_order(zero_MM)
        assert given.order == expected.order
        np.testing.assert_array_equal(given.linkage, expected.linkage)

    def test_one_and_two_members_have_an_order(self) -> None:
        one, two = dendrogram_order(np.eye(1)), dendrogram_order(np.full((2, 2), np.nan))
        assert (one.order, one.linkage.shape) == ((0,), (0, 4))
        assert (two.order, two.linkage.shape) == ((0, 1), (1, 4))

    def test_copies_stay_in_the_order_given(self) -> None:
        assert dendrogram_order(np.ones((3, 3))).order[0] == 0
        assert sorted(dendrogram_order(np.ones((5, 5))).order) == [0, 1, 2, 3, 4]


class TestMembers:
    @pytest.mark.parametrize(
        ("kind", "metric", "reference"),
        [
            ("binary", "log_loss", log_loss),
            ("binary", "f1", lambda y, pred: f1_score(y, pred >= 0.5)),
            ("regression", "mae", mean_absolute_error),
        ],
    )
    def test_scores_are_scikit_learns_inside_their_intervals(
        self, kind: str, metric: str, reference: object
    ) -> None:
        y, _, oof_MNK = sample(kind, 200)
        oof_MNK = np.clip(oof_MNK, 0.01, 0.99) if kind == "binary" else oof_MNK
        scorer = make_scorer(metric, TASKS[kind])
        taken = [scorer.take(pred_NK) for pred_NK in oof_MNK]
        table = member_table(matrix(y, oof_MNK), scorer, taken, resamples=100)
        for m, pred_NK in enumerate(oof_MNK):
            pred = pred_NK[:, 0] if kind == "binary" else pred_NK
            assert table.loc[f"m{m}", "score"] == pytest.approx(reference(y, pred))  # type: ignore[operator]
        assert (table["low"] < table["score"]).all()
        assert (table["score"] < table["high"]).all()

    def test_intervals_are_as_wide_as_theory_says(self) -> None:
        given = regression([1.0, 1.0], n_rows=400)
        scorer = make_scorer("mae", REGRESSION)
        table = member_table(given, scorer, list(given.oof_MNK), resamples=1000)
        error_N = np.abs(given.oof_MNK[0] - given.y)
        width = table.loc["m0", "high"] - table.loc["m0", "low"]
        assert width == pytest.approx(2 * 1.96 * error_N.std() / np.sqrt(400), rel=0.1)

    def test_groups_are_drawn_whole(self) -> None:
        rng = np.random.default_rng(0)
        group_N = np.repeat(np.arange(20), 20)
        oof_MNK = rng.normal(size=20)[group_N][None, :, None]
        alone = matrix(np.zeros((400, 1)), oof_MNK)
        grouped = replace(alone, group_N=group_N)
        scorer = make_scorer("mae", REGRESSION)
        width = [
            float(table["high"].iloc[0] - table["low"].iloc[0])
            for table in (member_table(each, scorer, list(oof_MNK)) for each in (alone, grouped))
        ]
        assert width[1] > 2 * width[0]

    @pytest.mark.parametrize("constant", [[1], [0, 1, 2]])
    def test_a_constant_member_has_no_score_and_the_others_keep_theirs(
        self, constant: list[int]
    ) -> None:
        given = regression([0.5, 1.0, 2.0])
        scorer = make_scorer("pearson", REGRESSION)
        whole = member_table(given, scorer, list(given.oof_MNK), resamples=20)
        given.oof_MNK[constant] = 0.5
        table = member_table(given, scorer, list(given.oof_MNK), resamples=20)
        assert table.iloc[constant].isna().all(axis=None)
        others = [m for m in range(3) if m not in constant]
        np.testing.assert_allclose(table.iloc[others], whole.iloc[others])


class TestLeaveOneOut:
    def left_out(self, given: OofMatrix, scorer: Scorer, **keys: int) -> pd.DataFrame:
        taken = cross_fit("equal", given, scorer, PLAIN).honest_taken
        return leave_one_out(given, scorer, PLAIN, "equal", taken, **keys)

    def test_a_value_is_the_loss_without_less_the_loss_with(self) -> None:
        given = regression([0.5, 0.7, 2.0])
        table = self.left_out(given, make_scorer("mae", REGRESSION))
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
        table = self.left_out(given, make_scorer("mae", REGRESSION))
        assert table["verdict"].tolist()[3] == "adds nothing that these rows can show"
        oof_MNK[3] = given.y + 6
        assert self.left_out(given, make_scorer("mae", REGRESSION)).loc["m3", "verdict"] == "harms"

    def test_a_verdict_is_what_its_interval_says(self) -> None:
        scorer = make_scorer("mae", REGRESSION)
        tables = [
            self.left_out(regression([1.0] * 5 + [1.4] * 5, seed=seed), scorer) for seed in range(3)
        ]
        for row in pd.concat(tables).itertuples():
            sure = "adds" if row.low > 0 else "harms" if row.high < 0 else None
            assert row.verdict == (sure or "adds nothing that these rows can show")
        unsure = pd.concat(tables).query("low < 0 < high")["value"]
        assert unsure.min() < 0 < unsure.max()

    def test_more_is_better_and_less_is_better_alike(self) -> None:
        given = regression([0.5, 0.5, 4.0])
        for metric in ("mae", "pearson"):
            table = self.left_out(given, make_scorer(metric, REGRESSION))
            assert table["verdict"].tolist() == ["adds", "adds", "harms"]

    def test_differences_are_paired(self) -> None:
        given = regression([1.0, 1.0, 1.0])
        scorer = make_scorer("mae", REGRESSION)
        table = self.left_out(given, scorer)
        alone = member_table(given, scorer, list(given.oof_MNK))
        widening = fitted_widening(given.y, given.oof_MNK[0], given.oof_MNK[1], scorer)
        width = (table["high"] - table["low"]) / widening
        assert (width < 0.8 * (alone["high"] - alone["low"])).all()

    def test_what_cannot_be_told_is_said(self) -> None:
        only = self.left_out(regression([0.5]), make_scorer("mae", REGRESSION))
        assert only["verdict"].tolist() == ["cannot be told"]
        assert only[["value", "low", "high"]].isna().all(axis=None)
        given = regression([0.5, 1.0])
        given.oof_MNK[1] = 3.0
        pair = self.left_out(given, make_scorer("pearson", REGRESSION))
        assert pair["verdict"].tolist() == [
            "cannot be told",
            "adds nothing that these rows can show",
        ]

    @pytest.mark.parametrize("kind", TASKS)
    def test_every_kind_of_task_has_a_table(self, kind: str) -> None:
        y, _, oof_MNK = sample(kind, 80)
        metric = {"ordinal": "qwk", "regression": "mcrmse", "binary": "f1"}.get(kind, "f1_macro")
        oof_MNK = oof_MNK if kind in ("regression", "ordinal") else np.clip(oof_MNK, 0, 1)
        table = self.left_out(matrix(y, oof_MNK), make_scorer(metric, TASKS[kind]), resamples=20)
        assert table.drop(columns="verdict").notna().all(axis=None)


class TestStability:
    def test_equal_weights_do_not_move(self) -> None:
        weights_RM = weight_stability(
            regression([0.5, 1.0]), make_scorer("rmse", REGRESSION), PLAIN, "equal", resamples=5
        )
        np.testing.assert_array_equal(weights_RM, np.full((5, 2), 0.5))

    def test_fitted_weights_move_around_those_of_all_rows(self) -> None:
        given, scorer = regression([0.5, 0.7, 3.0]), make_scorer("rmse", REGRESSION)
        weights_RM = weight_stability(given, scorer, PLAIN, "convex", resamples=20)
        whole_M = cross_fit("convex", given, scorer, PLAIN).weights_M
        np.testing.assert_allclose(weights_RM.sum(axis=1), 1)
        np.testing.assert_allclose(weights_RM.mean(axis=0), whole_M, atol=0.05)
        assert 0.01 < weights_RM[:, 0].std() < 0.1

    def test_groups_are_drawn_whole(self) -> None:
        given, scorer = regression([0.5, 0.6, 0.6], n_rows=100), make_scorer("rmse", REGRESSION)
        group_N = np.arange(100) // 50
        grouped = replace(given, group_N=group_N)
        weights_RM = weight_stability(grouped, scorer, PLAIN, "convex", resamples=12)
        assert 1 < len(np.unique(weights_RM.round(9), axis=0)) <= 3

    def test_the_same_seed_gives_the_same_weights(self) -> None:
        given, scorer = regression([0.5, 0.6]), make_scorer("rmse", REGRESSION)
        once, again, other = (
            weight_stability(given, scorer, PLAIN, "convex", resamples=3, seed=seed)
            for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(once, again)
        assert (once != other).any()

    def test_resamples_without_a_score_are_left_out_or_refused_if_many(self) -> None:
        given = regression([0.5, 0.6], n_rows=40)
        given.oof_MNK[:, 12:] = 0.5  # three rows of each fold differ
        scorer = make_scorer("pearson", REGRESSION)
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

    def test_one_output_that_differs_is_no_collapse(self) -> None:
        given = self.matrix("multilabel")
        given.oof_MNK[0, :, 1:] = 0.5
        assert collapsed(given, TASKS["multilabel"]) == {}

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
