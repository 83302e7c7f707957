"""Members that know nothing, over folds that differ as folds of whole prompts or authors do.

Legend: M members, N rows, K outputs, F folds.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax

from poolblend.competition.tasks import Task
from poolblend.ensembling.matrix import OofMatrix

TASKS = {
    "binary": Task("binary", ("t",), (0, 1)),
    "multiclass": Task("multiclass", ("t",), ("x", "y", "z")),
    "multilabel": Task("multilabel", ("p", "q", "r")),
    "regression": Task("regression", ("p", "q")),
    "ordinal": Task("ordinal", ("t",), (1, 2, 3, 4)),
}
F, M, IN_A_FOLD = 4, 3, 120
# Positives by fold, of which there are IN_A_FOLD rows each.
POSITIVES = {
    "alike": (30, 30, 30, 30),
    "unequal": (59, 7, 48, 6),
    "in two folds": (20, 20, 0, 0),
    "rare": (1, 0, 1, 0),
}
SHIFTS = {"alike": (0, 0, 0, 0), "unequal": (0, 1, -1, 0.5)}
SPREADS = {"alike": (1, 1, 1, 1), "unequal": (1, 2, 0.5, 1)}


def kinds_of_folds(kind: str) -> list[str]:
    return list(POSITIVES) if kind in ("binary", "multilabel") else list(SHIFTS)


def draw(kind: str, folds: str, seed: int) -> OofMatrix:
    """Labels of folds that differ, and members that know nothing but the other folds' rates."""
    rng = np.random.default_rng(seed)
    fold_N = np.repeat(np.arange(F), IN_A_FOLD)
    K = len(TASKS[kind].outputs)
    noise_MNK = 0.5 * rng.normal(size=(M, F * IN_A_FOLD, K))
    if kind in ("binary", "multilabel"):
        y_NK = np.zeros((len(fold_N), K), dtype=np.int64)
        for k in range(K):
            for fold, positives in enumerate(np.roll(POSITIVES[folds], k)):
                rows = np.flatnonzero(fold_N == fold)
                y_NK[rng.choice(rows, positives, replace=False), k] = 1
        base_FK = np.array([y_NK[fold_N != fold].mean(axis=0) for fold in range(F)])
        logit_FK = np.log((base_FK + 1e-3) / (1 - base_FK + 1e-3))
        oof_MNK = expit(logit_FK[fold_N] + noise_MNK)
        y = y_NK[:, 0] if kind == "binary" else y_NK
    elif kind == "multiclass":
        power_FK = np.array(SHIFTS[folds])[:, None] * np.array([1.0, -1.0, 0.5])
        y = (power_FK[fold_N] + rng.gumbel(size=(len(fold_N), K))).argmax(axis=1)
        base_FK = np.array([np.bincount(y[fold_N != fold], minlength=K) + 1.0 for fold in range(F)])
        oof_MNK = softmax(np.log(base_FK)[fold_N] + noise_MNK, axis=2)
    else:
        shift_F, spread_F = np.array(SHIFTS[folds]), np.array(SPREADS[folds])
        y_NK = shift_F[fold_N, None] + spread_F[fold_N, None] * rng.normal(size=(len(fold_N), K))
        if kind == "ordinal":
            y = np.digitize(y_NK[:, 0], [-1, 0, 1])
            y_NK = 1.0 + y[:, None]
        else:
            y = y_NK
        mean_FK = np.array([y_NK[fold_N != fold].mean(axis=0) for fold in range(F)])
        oof_MNK = mean_FK[fold_N] + noise_MNK
    ids_N = np.arange(len(fold_N)).astype(str)
    names = tuple(f"noise-{m}" for m in range(M))
    return OofMatrix(ids_N, fold_N, y, oof_MNK, names, TASKS[kind].outputs)
