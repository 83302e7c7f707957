"""Frozen heads: what scikit-learn predicts, as tensors; each law for every kind and task."""

import itertools
import logging
import re
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVR

from poolblend.errors import UserError
from poolblend.modeling.heads import KernelHead, empty_head
from poolblend.training import head_fitting
from poolblend.training.head_fitting import check_head, fit_head
from poolblend.training.objectives import choose_objective

N, WIDTH, C = 90, 7, 2.5
CLASSES = {"multiclass": ("a", "b", "c"), "ordinal": (1, 2, 4)}
N_OUTPUTS = {"binary": 1, "multiclass": 3, "multilabel": 2, "regression": 2, "ordinal": 1}
CASES = [
    *itertools.product(("ridge", "svr"), ("regression", "ordinal")),
    *itertools.product(("logistic",), ("binary", "multiclass", "multilabel")),
]


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.fixture
def features(generator):
    """Vectors far from zero, of scales far apart, one of them constant."""
    x = generator.normal(size=(N, WIDTH)) * np.geomspace(0.01, 100, WIDTH) + np.arange(WIDTH)
    x[:, 2] = 3
    return x.astype(np.float32)


def labels(task, generator):
    """As `Task.encode` writes them; some noise, so that no class is told from the others whole."""
    if task == "regression":
        return generator.normal(size=(N, 2)) * [1, 30] + [0, 500]
    if task == "multilabel":
        return generator.integers(0, 2, (N, 2))
    return generator.integers(0, 2 if task == "binary" else 3, N)


def objective_of(task):
    return choose_objective(task, n_outputs=N_OUTPUTS[task], classes=CLASSES.get(task, ()))


class Learned(NamedTuple):
    head: Any
    objective: Any


def fitted(kind, task, features, y, weights=None, strength=C):
    objective = objective_of(task)
    weights = np.ones((len(y), 1)) if weights is None else weights
    objective = objective.fitted(objective.targets(y), weights)
    targets = objective.scale(objective.targets(y))
    head = fit_head(kind, features, targets, weights, objective, task_kind=task, C=strength)
    return Learned(head, objective)


def predicted(learned, features):
    logits = learned.head(torch.from_numpy(features))
    return learned.objective.unscale(learned.objective.activation(logits).double().numpy())


def reference(kind, features, y, weights, strength=C):
    """scikit-learn's own predictions of one output."""
    mean = np.average(y, weights=weights)
    spread = np.sqrt(np.average((y - mean) ** 2, weights=weights))
    standardise = FunctionTransformer(
        lambda y: (y - mean) / spread, inverse_func=lambda y: y * spread + mean
    )
    model = {
        "ridge": Ridge(alpha=1 / (2 * strength)),
        "logistic": LogisticRegression(C=strength, max_iter=10_000),
        "svr": TransformedTargetRegressor(SVR(C=strength), transformer=standardise),
    }[kind]
    shorten = FunctionTransformer(lambda x: x / np.sqrt(WIDTH))
    pipeline = make_pipeline(StandardScaler(), shorten, model)
    pipeline.fit(features.astype(float), y, **{f"{pipeline.steps[-1][0]}__sample_weight": weights})
    if kind == "logistic":
        return pipeline.predict_proba(features)
    return pipeline.predict(features.astype(float))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("kind", "task"), CASES)
def test_a_head_predicts_what_scikit_learn_predicts(kind, task, weighted, features, generator):
    y = labels(task, generator)
    weights = generator.uniform(0.1, 3, (N, 1)) if weighted else np.ones((N, 1))
    if task == "multilabel":  # labels that are weighted apart
        weights = np.hstack([weights, weights[::-1]])
    pred = predicted(fitted(kind, task, features, y, weights), features)
    if task == "multiclass":
        expected = reference(kind, features, y, weights[:, 0])
    else:
        columns = np.array(CLASSES[task])[y][:, None] if task == "ordinal" else y.reshape(N, -1)
        expected = np.stack(
            [
                reference(kind, features, column, weight)
                for column, weight in zip(
                    columns.T, np.broadcast_to(weights, columns.shape).T, strict=True
                )
            ],
            axis=1,
        )
        expected = expected[..., 1] if kind == "logistic" else expected
    scale = np.maximum(expected.std(axis=0), 1)
    np.testing.assert_allclose(pred / scale, expected / scale, rtol=0, atol=1e-5)
    assert (expected.std(axis=0) > 0.05).all()  # there is something to agree on


@pytest.mark.parametrize(("kind", "task"), CASES)
def test_a_head_is_the_same_again_from_its_tensors(kind, task, features, generator):
    head = fitted(kind, task, features, labels(task, generator)).head
    tensors = head.state_dict()
    n_support = len(head.support_SF) if isinstance(head, KernelHead) else 0
    again = empty_head(kind, WIDTH, objective_of(task).n_logits, n_support)
    again.load_state_dict(tensors)
    x = torch.from_numpy(features)
    assert torch.equal(again(x), head(x))
    assert not any(parameter.requires_grad for parameter in head.parameters())


def test_half_precision_around_a_head_does_not_reach_into_it(features, generator):
    head = fitted("svr", "regression", features, labels("regression", generator)).head
    x = torch.from_numpy(features)
    expected = head(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(x), expected)


@pytest.mark.parametrize("kind", ["ridge", "svr"])
def test_C_means_the_same_on_every_scale_of_targets(kind, features, generator):
    y = labels("regression", generator)
    small = predicted(fitted(kind, "regression", features, y), features)
    large = predicted(fitted(kind, "regression", features, 1000 * y + 1e9), features)
    np.testing.assert_allclose(large - 1e9, 1000 * small, rtol=1e-4)


def test_slow_and_unfinished_fits_are_warned_of(features, generator, monkeypatch, caplog):
    y, classes = labels("regression", generator), labels("multiclass", generator)
    monkeypatch.setattr(head_fitting, "SLOW_ROWS", N - 1)
    with caplog.at_level(logging.WARNING, logger="poolblend"):
        fitted("ridge", "regression", features, y)
        fitted("logistic", "multiclass", features, classes)
        assert not caplog.messages
        fitted("svr", "regression", features, y)
        monkeypatch.setattr(head_fitting, "MAX_ITERATIONS", 2)
        fitted("logistic", "multiclass", features, classes, strength=1e4)
    slow, unfinished = caplog.messages
    assert re.match(r"svr on 90 rows.*head\.kind=ridge", slow)
    assert re.search(r"did not converge in 2 iterations; lower head\.C", unfinished)


def test_of_two_outputs_each_has_its_own_support_vectors(features, generator):
    """What a row is to one output, it need not be to the other."""
    y = labels("regression", generator)
    y[:, 1] = y[:, 1].mean()  # within the tube: no support vector
    learned = fitted("svr", "regression", features, y)
    assert (learned.head.dual_LS[0] != 0).all()
    assert (learned.head.dual_LS[1] == 0).all()
    np.testing.assert_allclose(predicted(learned, features)[:, 1], y[:, 1], rtol=1e-6)


def test_a_soft_label_counts_as_a_row_for_each_of_its_shares(features, generator):
    objective = objective_of("multiclass")
    y = labels("multiclass", generator)
    soft = objective.targets(y)
    soft[:5] = [0.5, 0.3, 0.2]
    head = fit_head(
        "logistic", features, soft, np.ones((N, 1)), objective, task_kind="multiclass", C=C
    )
    # Every row ten times, so that shares of tenths are whole rows.
    rows = np.concatenate([np.repeat(np.arange(5), 10), np.repeat(np.arange(5, N), 10)])
    hard = np.concatenate([np.tile([0] * 5 + [1] * 3 + [2] * 2, 5), np.repeat(y[5:], 10)])
    scaler = StandardScaler().fit(features.astype(float))
    x = scaler.transform(features.astype(float)) / np.sqrt(WIDTH)
    model = LogisticRegression(C=C / 10, max_iter=10_000).fit(x[rows], hard)
    np.testing.assert_allclose(
        predicted(Learned(head, objective), features), model.predict_proba(x), atol=2e-3
    )
    without = predicted(fitted("logistic", "multiclass", features, y), features)
    assert np.abs(without - model.predict_proba(x)).max() > 0.02


@pytest.mark.parametrize("seen", [[0, 2], [1]])
def test_a_class_that_no_row_has_keeps_its_base_rate(seen, features, generator):
    y = np.array(seen)[generator.integers(0, len(seen), N)]
    pred = predicted(fitted("logistic", "multiclass", features, y), features)
    unseen = np.setdiff1d(range(3), seen)
    assert (pred[:, unseen] > 0).all()
    assert (pred[:, unseen] < 0.05).all()
    rates = np.exp(np.log(pred[:, unseen]).mean(axis=0))
    np.testing.assert_allclose(rates, 1 / (N + 3), rtol=0.1)
    if len(seen) > 1:
        expected = reference("logistic", features, y, np.ones(N))
        ratio = pred[:, 2] / (pred[:, 0] + pred[:, 2])
        np.testing.assert_allclose(ratio, expected[:, 1], atol=1e-5)


def test_a_label_that_no_row_has_keeps_its_base_rate(features, generator):
    y = labels("multilabel", generator)
    y[:, 1] = 0
    pred = predicted(fitted("logistic", "multilabel", features, y), features)
    np.testing.assert_allclose(pred[:, 1], 1 / (N + 2), rtol=1e-5)
    assert pred[:, 0].std() > 0.01


@pytest.mark.parametrize(
    ("kind", "task", "fitting"),
    [
        ("svr", "binary", "choose logistic"),
        ("ridge", "multilabel", "choose logistic"),
        ("logistic", "ordinal", "choose ridge or svr"),
    ],
)
def test_a_head_that_does_not_fit_the_task_is_refused(kind, task, fitting):
    with pytest.raises(
        UserError, match=rf"head.kind: {kind} does not fit a {task} task.*{fitting}"
    ):
        check_head(kind, task)
