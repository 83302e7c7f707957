"""Simulated members for every kind of task."""

import numpy as np
from scipy.special import expit

from poolblend.competition.metrics import make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling.matrix import OofMatrix

TASKS = {
    "binary": Task("binary", ("t",), (0, 1)),
    "multiclass": Task("multiclass", ("t",), ("x", "y", "z")),
    "multilabel": Task("multilabel", ("p", "q")),
    "regression": Task("regression", ("p", "q")),
    "ordinal": Task("ordinal", ("t",), (1, 2, 4)),
}

BINARY, REGRESSION = Task("binary", ("t",), (0, 1)), Task("regression", ("t",))
AUC, F1, LOG_LOSS = (make_scorer(name, BINARY) for name in ("roc_auc", "f1", "log_loss"))
RMSE, PEARSON, MAE = (make_scorer(name, REGRESSION) for name in ("rmse", "pearson", "mae"))


def drawn(
    kind: str, seed: int, n_members: int = 5, n_rows: int = 120, most_noise: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Encoded labels, and members that see one signal through noise of their own, ever more."""
    rng = np.random.default_rng(seed)
    K = len(TASKS[kind].outputs)
    signal_NK = rng.normal(size=(n_rows, K))
    noise = np.linspace(0.5, most_noise, n_members)[:, None, None]
    seen_MNK = signal_NK + noise * rng.normal(size=(n_members, n_rows, K))
    if kind == "regression":
        return signal_NK + rng.normal(size=(n_rows, K)), seen_MNK
    if kind == "ordinal":
        return np.digitize(signal_NK[:, 0], [-0.5, 0.8]), 2 + seen_MNK
    if kind == "multiclass":
        powers_MNK = np.exp(seen_MNK)
        y = (signal_NK + rng.gumbel(size=(n_rows, K))).argmax(axis=1)
        return y, powers_MNK / powers_MNK.sum(axis=2, keepdims=True)
    y_NK = (signal_NK + rng.logistic(size=(n_rows, K)) > 0).astype(np.int64)
    return (y_NK[:, 0] if kind == "binary" else y_NK), 1 / (1 + np.exp(-seen_MNK))


def matrix(
    y: np.ndarray,
    oof_MNK: np.ndarray,
    outputs: tuple[str, ...] = ("t",),
    group_N: np.ndarray | None = None,
    first_fold: int = 0,
) -> OofMatrix:
    """The members m0, m1, …, over four folds."""
    n_members, n_rows = oof_MNK.shape[:2]
    oof_MNK = oof_MNK.reshape(n_members, n_rows, -1)
    members = tuple(f"m{m}" for m in range(n_members))
    ids_N, fold_N = np.arange(n_rows).astype(str), np.arange(n_rows) % 4 + first_fold
    return OofMatrix(ids_N, fold_N, y, oof_MNK, members, outputs, group_N)


def binary_matrix(
    seed: int, noise: list[float], n_rows: int = 240, first_fold: int = 0
) -> OofMatrix:
    """Binary labels, and members that see their signal through noise of their own."""
    rng = np.random.default_rng(seed)
    signal_N = rng.normal(size=n_rows)
    y = (signal_N + 0.5 * rng.normal(size=n_rows) > 0).astype(np.int64)
    logits_MN = signal_N + np.array(noise)[:, None] * rng.normal(size=(len(noise), n_rows))
    return matrix(y, expit(2 * logits_MN), first_fold=first_fold)
