"""How different the members are in predictions, errors and decisions.

Shapes: X decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from poolblend.competition.tasks import Task
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.smooth import truth
from poolblend.errors import UserError

# Predictions that differ by less count as equal: relative to the truth's spread, and to their own
# size, since a float32 keeps seven digits.
SAME, FLOAT32 = 1e-4, 1e-6
FEWEST = 8  # rows of a fold; fewer may be predicted the same by chance


def prediction_correlation(oof_MNK: np.ndarray) -> np.ndarray:
    """Pearson correlation of every two members' predictions (M, M), averaged over the outputs.

    An output on which either member is constant is left out of their average; NaN where that
    leaves none, which includes a constant member's correlation with itself.
    """
    per_output_KMM = np.array(
        [_correlation(oof_MNK[:, :, k]) for k in range(oof_MNK.shape[2])], dtype=float
    )
    defined_KMM = np.isfinite(per_output_KMM)
    counts_MM = defined_KMM.sum(axis=0)
    sums_MM = np.where(defined_KMM, per_output_KMM, 0).sum(axis=0)
    return np.where(counts_MM > 0, sums_MM / np.maximum(counts_MM, 1), np.nan)


def error_correlation(oof_MNK: np.ndarray, y: np.ndarray, task: Task) -> np.ndarray:
    """Pearson correlation of every two members' errors, prediction minus truth (M, M).

    `y` is as `task` encodes it. Averaged over outputs as in `prediction_correlation`.
    """
    return prediction_correlation(oof_MNK - truth(task, y))


def disagreement(labels: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """The share of decisions on which every two members differ (M, M).

    `labels` holds each member's decisions, int and shaped like y, as `Task.labels` gives them; with
    several labels, each counts. Raises UserError for values that are not integers.
    """
    decided_MX = _decided(labels)
    return np.array([(decided_MX != one_X).mean(axis=1) for one_X in decided_MX])


def q_statistic(labels: Sequence[np.ndarray] | np.ndarray, y: np.ndarray) -> np.ndarray:
    """Yule's Q of every two members being right (M, M): 1 on the same decisions, 0 independently.

    Q = (N11 N00 - N01 N10) / (N11 N00 + N01 N10) over the counts of both right, both wrong, and
    one of them right; NaN where one of the two is right, or wrong, on all rows. Labels as for
    `disagreement`. Kuncheva & Whitaker, Measures of diversity in classifier ensembles, 2003.
    """
    right_MX = (_decided(labels) == np.ravel(y)).astype(np.float64)
    both_MM = right_MX @ right_MX.T
    alone_MM = np.diag(both_MM)[:, None] - both_MM
    neither_MM = right_MX.shape[1] - both_MM - alone_MM - alone_MM.T
    alike_MM, unlike_MM = both_MM * neither_MM, alone_MM * alone_MM.T
    total_MM = alike_MM + unlike_MM
    return np.where(total_MM > 0, (alike_MM - unlike_MM) / np.maximum(total_MM, 1), np.nan)


def collapsed(matrix: OofMatrix, task: Task) -> dict[str, list[int]]:
    """The folds on which a member predicts the same for all rows, for each member with any.

    Predictions are the same if they differ by at most a ten-thousandth of the truth's spread in
    every output. Folds of fewer than `FEWEST` rows are left out. Whole numbers are labels, which
    can be equal within a fold; they are checked over all rows.
    """
    spread_K = truth(task, matrix.y).std(axis=0)
    folds = np.unique(matrix.fold_N)
    found = {}
    for name, pred_NK in zip(matrix.members, matrix.oof_MNK, strict=True):
        if _is_one_value(pred_NK, spread_K):
            found[name] = folds.tolist()
        elif not (pred_NK == np.round(pred_NK)).all():
            held = {int(fold): pred_NK[matrix.fold_N == fold] for fold in folds}
            found[name] = [
                fold
                for fold, held_NK in held.items()
                if len(held_NK) >= FEWEST and _is_one_value(held_NK, spread_K)
            ]
    return {name: folds for name, folds in found.items() if folds}


def _is_one_value(pred_NK: np.ndarray, spread_K: np.ndarray) -> bool:
    noise_K = SAME * spread_K + FLOAT32 * np.abs(pred_NK).max(axis=0)
    return len(pred_NK) > 1 and bool((np.ptp(pred_NK, axis=0) <= noise_K).all())


class Ambiguity(NamedTuple):
    """Squared errors, means over rows and outputs: member_error - ambiguity == ensemble_error."""

    member_error: float
    ambiguity: float
    ensemble_error: float


def ambiguity(oof_MNK: np.ndarray, weights: np.ndarray, y: np.ndarray, task: Task) -> Ambiguity:
    """What a weighted mean gains from its members' spread (Krogh & Vedelsby 1995).

    The members' weighted mean squared error, less the weighted mean of their squared distances to
    the ensemble, is the ensemble's squared error; of probabilities that is the Brier score. The
    mean is of predictions as they are, in whatever space a blend was fitted. Weights are (M,) or
    (M, K) and count by their shares; NaN where an output has none at all.
    """
    weights_MK = np.broadcast_to(weights.reshape(len(oof_MNK), -1), oof_MNK[:, 0].shape)
    total_K = weights_MK.sum(axis=0)
    weights_MK = weights_MK / np.where(total_K > 0, total_K, np.nan)
    truth_NK = truth(task, y)
    mean_NK = np.einsum("mk,mnk->nk", weights_MK, oof_MNK)
    error_MK = np.array([((pred_NK - truth_NK) ** 2).mean(axis=0) for pred_NK in oof_MNK])
    spread_MK = np.array([((pred_NK - mean_NK) ** 2).mean(axis=0) for pred_NK in oof_MNK])
    return Ambiguity(
        float((weights_MK * error_MK).sum(axis=0).mean()),
        float((weights_MK * spread_MK).sum(axis=0).mean()),
        float(((mean_NK - truth_NK) ** 2).mean()),
    )


class Dendrogram(NamedTuple):
    """Members in an order that puts similar ones side by side, and SciPy's linkage (M-1, 4)."""

    order: tuple[int, ...]
    linkage: np.ndarray


def dendrogram_order(corr_MM: np.ndarray) -> Dendrogram:
    """Average linkage on 1 - correlation, the leaves ordered so that neighbours are similar.

    NaN counts as a correlation of 0. Of a tree's two directions, the one that starts with the
    earlier member. Bar-Joseph et al., Fast optimal leaf ordering, 2001.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(corr_MM) == 1:
        return Dendrogram((0,), np.empty((0, 4)))
    near = squareform(1 - np.nan_to_num(corr_MM), checks=False)
    tree = linkage(near, method="average", optimal_ordering=True)
    order_M = leaves_list(tree)
    if order_M[0] > order_M[-1]:
        tree[:, [0, 1]] = tree[:, [1, 0]]
        order_M = order_M[::-1]
    return Dendrogram(tuple(order_M.tolist()), tree)


def _correlation(values_MN: np.ndarray) -> np.ndarray:
    """Pearson correlations (M, M), NaN for a constant row."""
    centred_MN = values_MN - values_MN.mean(axis=1, keepdims=True)
    norm_M = np.linalg.norm(centred_MN, axis=1)
    # A constant's distances to its mean are rounding errors; squares of tiny ones underflow.
    constant_M = (np.ptp(values_MN, axis=1) == 0) | (norm_M == 0)
    unit_MN = centred_MN / np.where(constant_M, 1, norm_M)[:, None]
    correlation_MM = np.clip(unit_MN @ unit_MN.T, -1, 1)
    correlation_MM[constant_M, :] = np.nan
    correlation_MM[:, constant_M] = np.nan
    return correlation_MM


def _decided(labels: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """All decisions of each member in a row (M, X)."""
    decided = np.asarray(labels)
    if decided.dtype.kind not in "biu":
        raise UserError(
            f"the members' labels are {decided.dtype} values, expected integers; make them with "
            "Task.labels, and leave regression out"
        )
    return decided.reshape(len(decided), -1)
