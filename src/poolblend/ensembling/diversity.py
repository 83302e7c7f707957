"""How different the members really are: correlations of their predictions and of their errors.

Legend: M members, N rows, K outputs.
"""

from __future__ import annotations

import numpy as np


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


def error_correlation(oof_MNK: np.ndarray, y: np.ndarray, kind: str) -> np.ndarray:
    """Pearson correlation of every two members' errors, prediction minus truth (M, M).

    `y` is shaped as the task of `kind` encodes it; a multiclass truth is 1 for the class and 0 for
    the others. Averaged over outputs as in `prediction_correlation`.
    """
    _, n_rows, n_outputs = oof_MNK.shape
    truth_NK = np.eye(n_outputs)[y] if kind == "multiclass" else y.reshape(n_rows, n_outputs)
    return prediction_correlation(oof_MNK - truth_NK)


def _correlation(values_MN: np.ndarray) -> np.ndarray:
    """Pearson correlations (M, M), NaN for a constant row, silently."""
    constant_M = np.ptp(values_MN, axis=1) == 0
    centred_MN = values_MN - values_MN.mean(axis=1, keepdims=True)
    norm_M = np.where(constant_M, 1, np.linalg.norm(centred_MN, axis=1))
    unit_MN = centred_MN / norm_M[:, None]
    correlation_MM = np.clip(unit_MN @ unit_MN.T, -1, 1)
    correlation_MM[constant_M, :] = np.nan
    correlation_MM[:, constant_M] = np.nan
    return correlation_MM
