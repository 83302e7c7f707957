"""Laws of metrics, over the whole registry where they are general."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn import metrics as sk

from poolblend.competition.metrics import METRICS, Counts, UndefinedScoreError, make_scorer
from poolblend.competition.metrics.labels import count
from poolblend.competition.tasks import KINDS, Task
from poolblend.registry import declared
from rig.tables import refused

TASKS = {
    "binary": Task("binary", ("target",), (0, 1)),
    "multiclass": Task("multiclass", ("label",), ("a", "b", "c")),
    "multilabel": Task("multilabel", ("p", "q", "r")),
    "regression": Task("regression", ("u", "v")),
    "ordinal": Task("ordinal", ("grade",), (1, 2, 3, 4)),
}
PAIRS = [(name, kind) for name in METRICS for kind in METRICS[name].tasks]


def draw(kind: str, seed: int, N: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A y with every class in it, and predictions that know something about it."""
    rng = np.random.default_rng(seed)
    if kind == "binary":
        y = rng.permutation((np.arange(N) % 5 < 2).astype(np.int64))
        return y, np.clip(0.3 * y + 0.7 * rng.random(N), 0, 1)[:, None]
    if kind == "multiclass":
        y = rng.permutation(np.minimum(np.arange(N) % 5, 2))
        raw_NK = 2 * rng.random((N, 3)) + np.eye(3)[y]
        return y, raw_NK / raw_NK.sum(axis=1, keepdims=True)
    if kind == "multilabel":
        y = rng.permuted((np.arange(N)[:, None] % [3, 4, 5] == 0).astype(np.int64), axis=0)
        return y, np.clip(0.3 * y + 0.7 * rng.random((N, 3)), 0, 1)
    if kind == "ordinal":
        y = rng.permutation(np.arange(N) % 4)
        return y, 1.0 + y[:, None] + rng.normal(size=(N, 1)).round(1)
    y = rng.normal(size=(N, 2)).round(1)
    return y, y + rng.normal(size=(N, 2)).round(1)


def certain(kind: str, y: np.ndarray) -> np.ndarray:
    if kind == "multiclass":
        return np.eye(3)[y]
    return TASKS[kind].training_targets(y).reshape(len(y), -1).astype(np.float64)


def test_declared_metrics_are_the_registered_ones() -> None:
    assert list(declared("metric")) == list(METRICS)
    assert all(declared("metric").values())


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_certainty_of_the_truth_scores_best(name: str, kind: str) -> None:
    scorer = make_scorer(name, TASKS[kind])
    y, pred_NK = draw(kind, 0)
    best = scorer.score(y, certain(kind, y))
    assert best == pytest.approx(1 if scorer.better == "max" else 0, abs=1e-5)
    assert scorer.loss(y, certain(kind, y)) < scorer.loss(y, pred_NK)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_row_order_is_irrelevant_and_nothing_is_modified(name: str, kind: str, seed: int) -> None:
    scorer = make_scorer(name, TASKS[kind])
    y, pred_NK = draw(kind, seed)
    kept = y.copy(), pred_NK.copy()
    order = np.random.default_rng(seed).permutation(len(y))
    shuffled = scorer.score(y[order], pred_NK[order])
    assert scorer.score(y, pred_NK) == pytest.approx(shuffled, rel=1e-12)
    np.testing.assert_array_equal(y, kept[0])
    np.testing.assert_array_equal(pred_NK, kept[1])


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_predictions_that_are_not_finite_are_refused(name: str, kind: str) -> None:
    y, pred_NK = draw(kind, 2)
    for bad in (np.nan, np.inf):
        spoilt_NK = pred_NK.copy()
        spoilt_NK[3, -1] = bad
        output = TASKS[kind].outputs[-1]
        with refused(
            f"1 predictions are NaN or infinite, the first of '{output}' at position 3; make them"
        ):
            make_scorer(name, TASKS[kind]).score(y, spoilt_NK)


def precision_at(k: int, y: np.ndarray, pred_NK: np.ndarray) -> float:
    """MAP@k, written out: one true class a row."""
    total = 0.0
    for truth, pred_K in zip(y.tolist(), pred_NK.tolist(), strict=True):
        ranked = sorted(range(len(pred_K)), key=lambda k, pred_K=pred_K: (-pred_K[k], k))
        if truth in ranked[:k]:
            total += 1 / (1 + ranked.index(truth))
    return total / len(y)


# What scikit-learn and scipy say, from encoded targets, labels and predictions.
REFERENCES = {
    ("accuracy", "binary"): lambda y, t, p: sk.accuracy_score(y, t),
    ("accuracy", "multiclass"): lambda y, t, p: sk.accuracy_score(y, t),
    ("accuracy", "multilabel"): lambda y, t, p: sk.accuracy_score(y, t),
    ("accuracy", "ordinal"): lambda y, t, p: sk.accuracy_score(y, t),
    ("f1", "binary"): lambda y, t, p: sk.f1_score(y, t, zero_division=0),
    ("f1_macro", "binary"): lambda y, t, p: sk.f1_score(y, t, average="macro", zero_division=0),
    ("f1_macro", "multiclass"): lambda y, t, p: sk.f1_score(y, t, average="macro", zero_division=0),
    ("f1_macro", "multilabel"): lambda y, t, p: sk.f1_score(y, t, average="macro", zero_division=0),
    ("f1_micro", "multiclass"): lambda y, t, p: sk.f1_score(y, t, average="micro"),
    ("f1_micro", "multilabel"): lambda y, t, p: sk.f1_score(y, t, average="micro", zero_division=0),
    ("log_loss", "binary"): lambda y, t, p: sk.log_loss(y, p[:, 0]),
    ("log_loss", "multiclass"): lambda y, t, p: sk.log_loss(y, p),
    ("log_loss", "multilabel"): lambda y, t, p: np.mean(
        [sk.log_loss(y[:, k], p[:, k]) for k in range(3)]
    ),
    ("roc_auc", "binary"): lambda y, t, p: sk.roc_auc_score(y, p[:, 0]),
    ("roc_auc_macro", "multiclass"): lambda y, t, p: sk.roc_auc_score(y, p, multi_class="ovr"),
    ("roc_auc_macro", "multilabel"): lambda y, t, p: sk.roc_auc_score(y, p, average="macro"),
    ("mcc", "binary"): lambda y, t, p: sk.matthews_corrcoef(y, t),
    ("mcc", "multiclass"): lambda y, t, p: sk.matthews_corrcoef(y, t),
    ("map3", "multiclass"): lambda y, t, p: precision_at(3, y, p),
    ("map5", "multiclass"): lambda y, t, p: precision_at(5, y, p),
    ("map25", "multiclass"): lambda y, t, p: precision_at(25, y, p),
    ("qwk", "ordinal"): lambda y, t, p: sk.cohen_kappa_score(
        y, t, labels=range(4), weights="quadratic"
    ),
    ("rmse", "regression"): lambda y, t, p: sk.root_mean_squared_error(y.ravel(), p.ravel()),
    ("mcrmse", "regression"): lambda y, t, p: np.mean(
        [sk.root_mean_squared_error(y[:, k], p[:, k]) for k in range(2)]
    ),
    ("mae", "regression"): lambda y, t, p: sk.mean_absolute_error(y, p),
    ("pearson", "regression"): lambda y, t, p: np.mean(
        [stats.pearsonr(y[:, k], p[:, k])[0] for k in range(2)]
    ),
    ("spearman", "regression"): lambda y, t, p: np.mean(
        [stats.spearmanr(y[:, k], p[:, k])[0] for k in range(2)]
    ),
}


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_scores_are_those_of_scikit_learn_and_scipy(name: str, kind: str) -> None:
    for seed in range(5):
        y, pred_NK = draw(kind, seed)
        wanted = REFERENCES[name, kind](y, TASKS[kind].labels(pred_NK), pred_NK)
        found = make_scorer(name, TASKS[kind]).score(y, pred_NK)
        assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_map_counts_the_k_most_probable_of_many_classes_ties_included(data: st.DataObject) -> None:
    N, K = data.draw(st.integers(1, 12)), data.draw(st.integers(3, 40))
    task = Task("multiclass", ("label",), tuple(map(str, range(K))))
    pred_NK = data.draw(arrays(np.float64, (N, K), elements=st.sampled_from([0.0, 0.1, 0.2, 0.5])))
    y = data.draw(arrays(np.int64, N, elements=st.integers(0, K - 1)))
    for k in (3, 5, 25):
        found = make_scorer(f"map{k}", task).score(y, pred_NK)
        assert found == pytest.approx(precision_at(k, y, pred_NK), rel=1e-12, abs=1e-12)


class TestMeanOverGroups:
    """With `by`, the score is the mean of the scores of the groups' rows."""

    @pytest.fixture
    def frame(self) -> pd.DataFrame:
        y, _ = draw("binary", 3, 90)
        rule = np.random.default_rng(3).choice(["no ads", "be kind", "on topic"], 90)
        return pd.DataFrame({"target": y, "rule": rule})

    def test_it_is_the_plain_mean_of_the_groups_own_scores(self, frame: pd.DataFrame) -> None:
        pred_NK = draw("binary", 3, 90)[1]
        for name, reference in (("roc_auc", sk.roc_auc_score), ("log_loss", sk.log_loss)):
            scorer = make_scorer(name, TASKS["binary"], "rule")
            scorer.check_groups(frame)
            parts = [
                reference(part["target"], pred_NK[part.index, 0])
                for _, part in frame.groupby("rule")
            ]
            found = scorer.score(scorer.truth(frame), pred_NK)
            assert found == pytest.approx(np.mean(parts), rel=1e-12)

    def test_within_a_group_rows_of_one_fold_are_compared(self, frame: pd.DataFrame) -> None:
        y, pred_NK = draw("binary", 3, 90)
        fold_N = np.arange(90) % 3
        scorer = make_scorer("roc_auc", TASKS["binary"], "rule")
        alone = make_scorer("roc_auc", TASKS["binary"])
        parts = [
            alone.score_inputs(y[rows], pred_NK[rows, 0], fold_N[rows])
            for rows in frame.groupby("rule").indices.values()
        ]
        found = scorer.score_inputs(scorer.truth(frame), pred_NK[:, 0], fold_N)
        assert found == pytest.approx(np.mean(parts), rel=1e-12)

    def test_a_group_of_one_class_is_refused_but_left_out_where_it_is_part_of_one(
        self, frame: pd.DataFrame
    ) -> None:
        scorer = make_scorer("roc_auc", TASKS["binary"], "rule")
        y_N2, pred_NK = scorer.truth(frame), draw("binary", 3, 90)[1]
        kept_N = (y_N2[:, 1] > 0) | (y_N2[:, 0] == 1)
        with refused("metric_by: within rule 'be kind' roc_auc of 'target' is undefined on these"):
            scorer.check_groups(frame[kept_N])
        others_N = y_N2[:, 1] > 0
        wanted = scorer.score(y_N2[others_N], pred_NK[others_N])
        assert scorer.score(y_N2[kept_N], pred_NK[kept_N]) == wanted
        with refused("all rows are of one class"):
            scorer.score(y_N2[~others_N & kept_N], pred_NK[~others_N & kept_N])

    def test_what_has_no_such_mean_is_refused(self, frame: pd.DataFrame) -> None:
        with refused("metric_by=rule is for a binary task's log_loss, roc_auc, this is f1"):
            make_scorer("f1", TASKS["binary"], "rule")
        with refused("this is rmse of a regression task"):
            make_scorer("rmse", TASKS["regression"], "rule")
        with refused("unknown column 'rul' in metric_by; did you mean 'rule'?"):
            make_scorer("roc_auc", TASKS["binary"], "rul").truth(frame)
        with refused("metric_by: column 'rule' has 1 empty cells"):
            make_scorer("roc_auc", TASKS["binary"], "rule").truth(
                frame.assign(rule=frame["rule"].where(frame.index > 0))
            )


class TestShares:
    """Rows may be shared among classes: log loss is then the cross-entropy."""

    TASK = Task("multiclass", ("a", "b", "c"), ("a", "b", "c"))

    def test_the_shares_themselves_are_the_best_prediction(self) -> None:
        rng = np.random.default_rng(0)
        share_NK, other_NK = rng.dirichlet([1, 1, 1], (2, 50))
        scorer = make_scorer("log_loss", self.TASK)
        entropy = stats.entropy(share_NK, axis=1)
        assert scorer.score(share_NK, share_NK) == pytest.approx(entropy.mean(), rel=1e-6)
        distance = stats.entropy(share_NK, other_NK, axis=1)
        found = scorer.score(share_NK, other_NK)
        assert found == pytest.approx((entropy + distance).mean(), rel=1e-5)

    def test_a_scorer_takes_shares_where_its_metric_does_and_some_row_is_shared(self) -> None:
        shared = pd.DataFrame({"a": [0.5, 0.0], "b": [0.25, 0.0], "c": [0.25, 1.0]})
        whole = pd.DataFrame({"a": [1, 0], "b": [0, 0], "c": [0, 1]})
        scorer = make_scorer("log_loss", self.TASK)
        assert scorer.truth(shared).tolist() == [[0.5, 0.25, 0.25], [0, 0, 1]]
        assert scorer.truth(whole).tolist() == [0, 2]
        assert make_scorer("accuracy", self.TASK).truth(shared).tolist() == [0, 2]


class TestKappaOfValues:
    """Quadratic weighted kappa takes distances between the classes' values, gaps included."""

    @staticmethod
    def task(*classes: float) -> Task:
        return Task("ordinal", ("grade",), classes)

    @staticmethod
    def wanted(y: np.ndarray, inputs: np.ndarray, classes: tuple[int, ...]) -> float:
        values, whole = np.array(classes), range(min(classes), max(classes) + 1)
        return sk.cohen_kappa_score(values[y], values[inputs], labels=whole, weights="quadratic")

    @settings(deadline=None, max_examples=60)
    @given(
        classes=st.lists(st.integers(-40, 60), min_size=2, max_size=6, unique=True),
        seed=st.integers(0, 10**6),
    )
    def test_is_that_of_scikit_learn_over_the_whole_range(
        self, classes: list[int], seed: int
    ) -> None:
        ordered = tuple(sorted(classes))
        y, inputs = np.random.default_rng(seed).integers(0, len(ordered), (2, 30))
        y[:2] = 0, 1  # of one class alone, kappa may have no value
        found = make_scorer("qwk", self.task(*ordered)).score_inputs(y, inputs)
        assert found == pytest.approx(self.wanted(y, inputs, ordered), rel=1e-12, abs=1e-12)

    def test_values_of_any_size_do_not_overflow(self) -> None:
        y, inputs = np.random.default_rng(0).integers(0, 3, (2, 100_000))
        small = make_scorer("qwk", self.task(0, 1, 3)).score_inputs(y, inputs)
        for size in (10**6, 10**18):
            large = make_scorer("qwk", self.task(7, 7 + size, 7 + 3 * size))
            assert large.score_inputs(y, inputs) == small
        odd = make_scorer("qwk", self.task(0.1234567, 10**9, 3 * 10**9))
        assert odd.score_inputs(y, inputs) == pytest.approx(small, abs=1e-5)


class TestDegenerateInputs:
    """What scikit-learn says where classes are absent, scores are tied, or nothing is decided."""

    @pytest.mark.parametrize(
        ("name", "kind"), [pair for pair in PAIRS if METRICS[pair[0]].inputs == "labels"]
    )
    @settings(deadline=None, max_examples=60)
    @given(data=st.data())
    def test_labels_of_any_kind(self, name: str, kind: str, data: st.DataObject) -> None:
        shape = (data.draw(st.integers(1, 12)), *([3] if kind == "multilabel" else []))
        top = {"multiclass": 2, "ordinal": 3}.get(kind, 1)
        labels = arrays(np.int64, shape, elements=st.integers(0, top))
        y, inputs = data.draw(labels), data.draw(labels)
        scorer = make_scorer(name, TASKS[kind])
        if name == "qwk" and (np.append(y, inputs) == y[0]).all():
            with refused("all labels and predictions are one class"):
                scorer.score_inputs(y, inputs)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn's, about absent classes
            wanted = REFERENCES[name, kind](y, inputs, inputs)
        assert scorer.score_inputs(y, inputs) == pytest.approx(wanted, rel=1e-12, abs=1e-12)

    @settings(deadline=None, max_examples=200)
    @given(data=st.data())
    def test_the_auc_of_scores_tied_negative_or_apart_in_their_last_bit(
        self, data: st.DataObject
    ) -> None:
        near = np.nextafter(0.3, [0, 1])
        odd = st.sampled_from([0.0, -0.0, 5e-324, 0.3, *near, 1.0, np.nextafter(1, 0)])
        low = data.draw(st.sampled_from([0.0, -2.0]))
        score_N = data.draw(
            arrays(np.float64, st.integers(2, 15), elements=odd | st.floats(low, 1))
        )
        y = data.draw(arrays(np.int64, len(score_N), elements=st.integers(0, 1)))
        y[:2] = 0, 1
        # Scikit-learn takes scores that are closer than its tolerance for tied; ranks do not.
        wanted = sk.roc_auc_score(y, stats.rankdata(score_N))
        assert auc(y, score_N) == pytest.approx(wanted, rel=1e-12, abs=1e-12)


def auc(y: np.ndarray, score_N: np.ndarray) -> float:
    return make_scorer("roc_auc", TASKS["binary"]).score(y, score_N[:, None])


@pytest.mark.parametrize("n_rows", [120_000, 400_000])
def test_scores_of_many_rows_do_not_overflow(n_rows: int) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n_rows)
    inputs = np.where(rng.random(n_rows) < 0.8, y, 1 - y)
    for name, kind in [("mcc", "binary"), ("mcc", "multiclass"), ("qwk", "ordinal")]:
        wanted = REFERENCES[name, kind](y, inputs, inputs)
        found = make_scorer(name, TASKS[kind]).score_inputs(y, inputs)
        assert found == pytest.approx(wanted, rel=1e-12)
    score_N = (inputs + rng.random(n_rows)).round(5)
    assert auc(y, score_N) == pytest.approx(sk.roc_auc_score(y, score_N), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "kind"), [pair for pair in PAIRS if METRICS[pair[0]].count_function is not None]
)
@settings(deadline=None, max_examples=60)
@given(y=arrays(np.int64, 8, elements=st.integers(0, 1)), seed=st.integers(0, 10**6))
def test_a_metric_of_counts_is_the_metric_of_binary_decisions(
    name: str, kind: str, y: np.ndarray, seed: int
) -> None:
    inputs = np.random.default_rng(seed).integers(0, 2, (3, 8))
    metric = METRICS[name]
    count_function = [metric.count_function(count(y, each)) for each in inputs]
    together = metric.count_function(Counts(*np.transpose([count(y, each) for each in inputs])))
    np.testing.assert_allclose(together, count_function, rtol=1e-14)
    if kind == "binary":
        assert count_function == pytest.approx(
            [metric.function(y, each) for each in inputs], rel=1e-12
        )


@pytest.mark.parametrize(
    ("name", "kind"),
    [(n, k) for n, k in PAIRS if METRICS[n].mean_of and k in ("multilabel", "regression")],
)
def test_a_mean_over_outputs_is_the_mean_of_its_outputs(name: str, kind: str) -> None:
    scorer = make_scorer(name, TASKS[kind])
    y, pred_NK = draw(kind, 3)
    each = []
    for k, output in enumerate(TASKS[kind].outputs):
        single = scorer.of_output(k)
        assert single.task.outputs == (output,)
        assert single.better == scorer.better
        y_k = y[:, k] if kind == "multilabel" else y[:, [k]]
        each.append(single.score(y_k, pred_NK[:, [k]]))
    if name == "rmse":  # grows with its outputs' own, rather than being their mean
        each = [np.sqrt(np.mean(np.square(each)))]
    assert scorer.score(y, pred_NK) == pytest.approx(np.mean(each), rel=1e-12)


def test_cuts_decide_labels_and_leave_scores_alone() -> None:
    y, pred_NK = draw("binary", 0)
    cuts = np.array([0.8])
    f1 = make_scorer("f1", TASKS["binary"])
    np.testing.assert_array_equal(f1.metric_inputs(pred_NK, cuts), pred_NK[:, 0] >= 0.8)
    assert f1.score(y, pred_NK, cuts) == sk.f1_score(y, pred_NK[:, 0] >= 0.8)
    assert f1.score(y, pred_NK, cuts) != f1.score(y, pred_NK)
    log_loss = make_scorer("log_loss", TASKS["binary"])
    assert log_loss.score(y, pred_NK, cuts) == log_loss.score(y, pred_NK)


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    wanted = -np.log(1e-7)
    y = np.array([0, 1])
    binary = make_scorer("log_loss", TASKS["binary"])
    assert binary.score(y, np.array([[1.0], [0.0]])) == pytest.approx(wanted)
    multiclass = make_scorer("log_loss", TASKS["multiclass"])
    assert multiclass.score(y, np.eye(3)[[1, 2]]) == pytest.approx(wanted)


def test_the_auc_of_one_class_is_undefined_and_names_the_output() -> None:
    y = np.ones(5, dtype=np.int64)
    with refused("roc_auc of 'target' is undefined on these 5 rows: all rows are of one class"):
        make_scorer("roc_auc", TASKS["binary"]).score(y, np.linspace(0, 1, 5)[:, None])
    y, pred_NK = draw("multilabel", 0)
    y[:, 1] = 0
    with refused("roc_auc_macro of 'q' is undefined on these 60 rows: all rows are of one class"):
        make_scorer("roc_auc_macro", TASKS["multilabel"]).score(y, pred_NK)
    y, pred_NK = draw("multiclass", 0)
    with refused("roc_auc_macro of 'c' is undefined on these 24 rows"):
        make_scorer("roc_auc_macro", TASKS["multiclass"]).score(y[y < 2], pred_NK[y < 2])


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_the_correlation_of_a_constant_is_undefined_and_names_the_output(name: str) -> None:
    y, pred_NK = draw("regression", 0)
    scorer = make_scorer(name, TASKS["regression"])
    constant_NK = pred_NK.copy()
    constant_NK[:, 1] = 0.1
    with refused(f"{name} of 'v' is undefined on these 60 rows: all predictions are equal"):
        scorer.score(y, constant_NK)
    y[:, 0] = 3.0
    with refused(f"{name} of 'u' is undefined on these 60 rows: all targets are equal"):
        scorer.score(y, pred_NK)
    with pytest.raises(UndefinedScoreError):
        scorer.loss(y, pred_NK)


@pytest.mark.parametrize("kind", KINDS)
def test_a_metric_that_does_not_fit_the_task_is_refused_with_those_that_do(kind: str) -> None:
    fitting = [name for name in METRICS if kind in METRICS[name].tasks]
    for name in set(METRICS) - set(fitting):
        with refused(
            f"metric '{name}' does not fit a {kind} task; choose one of: {', '.join(fitting)}"
        ):
            make_scorer(name, TASKS[kind])
