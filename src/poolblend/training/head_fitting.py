"""Heads fitted by scikit-learn: to a frozen encoder's pooled vectors, or to n-grams.

Shapes: N rows, F features, L logits, C classes, S support vectors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from warnings import catch_warnings, filterwarnings, simplefilter

import numpy as np
import torch
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import MultinomialNB
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from torch import Tensor

from poolblend.errors import UserError
from poolblend.modeling.heads import KernelHead, LinearHead
from poolblend.modeling.options import FrozenKind
from poolblend.training.objectives import Objective

log = logging.getLogger(__name__)

LABELS = ("binary", "multiclass", "multilabel")
VALUES = ("regression", "ordinal")
TASKS_OF: dict[FrozenKind, tuple[str, ...]] = {"ridge": VALUES, "svr": VALUES, "logistic": LABELS}
TASKS_OF_NGRAMS: dict[FrozenKind, tuple[str, ...]] = {
    "ridge": VALUES,
    "logistic": LABELS,
    "nb": LABELS,
}
MAX_ITERATIONS = 10_000
LEAST_SHARE = 1e-3  # a label's share of a row below which it is left out
CACHE = 1000  # megabytes in which libsvm keeps columns of the kernel
# libsvm needs 14 s for 10,000 rows of 384 features, 3 s for 5,000.
SLOW_ROWS = 20_000


def check_head(
    kind: FrozenKind,
    task_kind: str,
    tasks_of: Mapping[FrozenKind, tuple[str, ...]] = TASKS_OF,
) -> None:
    """Raise UserError where heads of the kind do not fit the task."""
    if task_kind not in tasks_of[kind]:
        fitting = [name for name, kinds in tasks_of.items() if task_kind in kinds]
        raise UserError(
            f"head.kind: {kind} does not fit a {task_kind} task; choose {' or '.join(fitting)}"
        )


def fit_head(
    kind: FrozenKind,
    features_NF: np.ndarray,
    targets_NL: np.ndarray,
    weights_NL: np.ndarray,
    objective: Objective,
    *,
    task_kind: str,
    C: float,
) -> LinearHead | KernelHead:
    """A head that minimises scikit-learn's objective on these rows; on the CPU.

    Features are standardised and divided by the square root of their number: rows have a mean
    squared length of 1, whatever the encoder's width, so that one `C` suits all. Targets are those
    of `objective`'s loss; weights are (N, 1) or (N, L). A ridge's alpha is 1 / (2 C).
    """
    check_head(kind, task_kind)
    scaler = StandardScaler().fit(features_NF.astype(np.float64))
    scale_F = scaler.scale_ * np.sqrt(features_NF.shape[1])
    x_NF = (features_NF - scaler.mean_) / scale_F
    weights_NL = np.broadcast_to(weights_NL, targets_NL.shape)
    head: LinearHead | KernelHead
    if kind == "svr":
        head = _support_vectors(x_NF, targets_NL, weights_NL, C)
    else:
        head = LinearHead(x_NF.shape[1], targets_NL.shape[1])
        weight_LF, bias_L = fit_linear(
            kind, x_NF, targets_NL, weights_NL, objective, task_kind=task_kind, C=C
        )
        _put(head.linear.weight, weight_LF)
        _put(head.linear.bias, bias_L)
    _put(head.standardise.mean_F, scaler.mean_)
    _put(head.standardise.scale_F, scale_F)
    return head.requires_grad_(False)


class _Linear(NamedTuple):
    """Weights and biases of the classes that rows have; of two, the log-odds of the second."""

    coef_CF: np.ndarray
    intercept_C: np.ndarray
    classes: np.ndarray


# Features, dense or sparse, classes and weights of rows that have one class each.
Fitting = Callable[[Any, np.ndarray, np.ndarray], _Linear]


def fit_linear(
    kind: FrozenKind,
    x_NF: Any,
    targets_NL: np.ndarray,
    weights_NL: np.ndarray,
    objective: Objective,
    *,
    task_kind: str,
    C: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (L, F) and biases (L,) of features, dense or sparse: ridge, logistic or nb."""
    weights_NL = np.broadcast_to(weights_NL, targets_NL.shape)
    if kind == "ridge":
        ridge = Ridge(alpha=1 / (2 * C)).fit(x_NF, targets_NL, weights_NL[:, 0])
        return np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)
    prior_L = objective.prior(targets_NL, weights_NL)
    assert prior_L is not None
    fitting: Fitting = partial(_naive_bayes if kind == "nb" else _logistic, C)
    fit_all = _multinomial if task_kind == "multiclass" else _each_label
    return fit_all(x_NF, targets_NL, weights_NL, prior_L, fitting)


def _multinomial(
    x_NF: Any, share_NC: np.ndarray, weights_NL: np.ndarray, bias_L: np.ndarray, fitting: Fitting
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (C, F) and biases (C,); a class that no row has keeps its base rate."""
    weight_CF, bias_C = np.zeros((share_NC.shape[1], x_NF.shape[1])), bias_L.copy()
    model = _fit_shares(x_NF, share_NC, weights_NL[:, 0], fitting)
    if model is None:
        return weight_CF, bias_C
    # All together sum to 0.
    sides = np.array([[-0.5], [0.5]]) if len(model.coef_CF) == 1 else np.eye(len(model.coef_CF))
    seen = model.classes
    weight_CF[seen] = sides @ model.coef_CF
    bias_C[seen] = sides @ model.intercept_C
    if len(seen) < len(bias_C):
        # Base rates are logarithms of shares: they are shifted to the level of these logits.
        scale = logsumexp(x_NF @ weight_CF[seen].T + bias_C[seen], axis=1).mean()
        bias_C[np.setdiff1d(np.arange(len(bias_C)), seen)] += scale
    return weight_CF, bias_C


def _each_label(
    x_NF: Any, share_NL: np.ndarray, weights_NL: np.ndarray, bias_L: np.ndarray, fitting: Fitting
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (L, F) and biases (L,); a label that all rows have, or none, keeps its base rate."""
    weight_LF, bias_L = np.zeros((share_NL.shape[1], x_NF.shape[1])), bias_L.copy()
    for label, share_N in enumerate(share_NL.T):
        sides_N2 = np.stack([1 - share_N, share_N], axis=1)
        model = _fit_shares(x_NF, sides_N2, weights_NL[:, label], fitting)
        if model is not None:
            weight_LF[label], bias_L[label] = model.coef_CF[0], model.intercept_C[0]
    return weight_LF, bias_L


def _fit_shares(
    x_NF: Any, share_NC: np.ndarray, weight_N: np.ndarray, fitting: Fitting
) -> _Linear | None:
    """None where all rows are of one class; a soft label becomes one weighted row per class."""
    rows, classes = np.nonzero(share_NC > LEAST_SHARE)
    if len(np.unique(classes)) < 2:
        return None
    return fitting(x_NF[rows], classes, share_NC[rows, classes] * weight_N[rows])


def _logistic(C: float, x_NF: Any, class_N: np.ndarray, weight_N: np.ndarray) -> _Linear:
    model = LogisticRegression(C=C, max_iter=MAX_ITERATIONS)
    with catch_warnings():
        simplefilter("ignore", ConvergenceWarning)
        filterwarnings("ignore", "The number of unique classes")  # there may be many rare ones
        model.fit(x_NF, class_N, weight_N)
    if model.n_iter_.max() >= MAX_ITERATIONS:
        log.warning(
            "logistic regression did not converge in %d iterations; lower head.C", MAX_ITERATIONS
        )
    return _Linear(model.coef_, model.intercept_, model.classes_)


def _naive_bayes(C: float, x_NF: Any, class_N: np.ndarray, weight_N: np.ndarray) -> _Linear:
    model = MultinomialNB(alpha=1 / (2 * C)).fit(x_NF, class_N, weight_N)
    coef_CF, intercept_C = model.feature_log_prob_, model.class_log_prior_
    if len(coef_CF) == 2:
        coef_CF, intercept_C = np.diff(coef_CF, axis=0), np.diff(intercept_C)
    return _Linear(coef_CF, intercept_C, model.classes_)


def _support_vectors(
    x_NF: np.ndarray, targets_NL: np.ndarray, weights_NL: np.ndarray, C: float
) -> KernelHead:
    if len(x_NF) > SLOW_ROWS:
        log.warning(
            "svr on %d rows: its time grows with their square, to minutes per output and fold; "
            "head.kind=ridge takes seconds",
            len(x_NF),
        )
    gamma = 1 / (x_NF.shape[1] * x_NF.var() or 1.0)  # as scikit-learn's "scale"
    models = [
        SVR(C=C, gamma=gamma, cache_size=CACHE).fit(x_NF, y_N, weight_N)
        for y_N, weight_N in zip(targets_NL.T, weights_NL.T, strict=True)
    ]
    support_S = np.unique(np.concatenate([model.support_ for model in models]))
    dual_LS = np.zeros((len(models), len(support_S)))
    for dual_S, model in zip(dual_LS, models, strict=True):
        dual_S[np.searchsorted(support_S, model.support_)] = model.dual_coef_[0]
    intercept_L = np.array([model.intercept_[0] for model in models])
    head = KernelHead(x_NF.shape[1], len(models), len(support_S))
    _put(head.support_SF, x_NF[support_S])
    _put(head.dual_LS, dual_LS)
    _put(head.intercept_L, intercept_L)
    _put(head.gamma, np.asarray(gamma))
    return head


def _put(tensor: Tensor, values: np.ndarray) -> None:
    with torch.no_grad():
        tensor.copy_(torch.from_numpy(values))
