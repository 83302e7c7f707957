"""Scores of blends on more rows or classes than their weights were fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from poolblend.competition.metrics import Scorer
from poolblend.ensembling.honesty import Honest, fold_masks, two_scores
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import Mixture

CHUNK = 4_000_000  # predictions at a time, so that copies stay small beside the matrix


def rescore(
    reports: Mapping[str, Honest], matrix: OofMatrix, scorer: Scorer, at_once: int = CHUNK
) -> dict[str, Honest]:
    """The reports with predictions and scores of the matrix, by the mixtures that they hold.

    The matrix is read in blocks of rows with `at_once` predictions, once for all reports.
    """
    shape = matrix.oof_MNK.shape[1:]
    whole = {name: np.empty(shape) for name in reports}
    honest = {name: np.empty(shape) for name in reports}
    for fold, row_N, oof_MNK in _blocks(matrix, at_once):
        # Changing the space is the expensive part; mixtures share it.
        shared: dict[str, np.ndarray] = {}
        for name, report in reports.items():
            whole[name][row_N] = _blend(report.mixture, oof_MNK, shared)
            honest[name][row_N] = _blend(report.fold_mixtures[fold], oof_MNK, shared)
    return {
        name: _with_scores(report, matrix, scorer, whole.pop(name), honest.pop(name))
        for name, report in reports.items()
    }


def _blocks(matrix: OofMatrix, at_once: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The place of a fold among all, some of its rows, and their predictions; every row once."""
    M, N, K = matrix.oof_MNK.shape
    size = max(1, at_once // (M * K))
    folds = fold_masks(matrix)
    for start in range(0, N, size):
        rows = slice(start, start + size)
        oof_MNK = np.asarray(matrix.oof_MNK[:, rows], dtype=np.float64)
        for fold, held_N in enumerate(folds):
            row_N = np.flatnonzero(held_N[rows])
            if len(row_N):
                yield fold, start + row_N, oof_MNK[:, row_N]


def _blend(mixture: Mixture, oof_MNK: np.ndarray, shared: dict[str, np.ndarray]) -> np.ndarray:
    """What the mixture predicts for the rows; `shared` keeps them in spaces without a fit."""
    space = mixture.space
    if space.quantiles_MKQ is not None:
        return mixture.apply(oof_MNK)
    if space.name not in shared:
        shared[space.name] = space.forward(oof_MNK)
    return mixture.mixed(shared[space.name])


def _with_scores(
    report: Honest,
    matrix: OofMatrix,
    scorer: Scorer,
    pred_NK: np.ndarray,
    honest_NK: np.ndarray,
) -> Honest:
    inputs = scorer.metric_inputs(pred_NK, report.mixture.cuts)
    honest_inputs = np.empty_like(inputs)
    for held_N, mixture in zip(fold_masks(matrix), report.fold_mixtures, strict=True):
        honest_inputs[held_N] = scorer.metric_inputs(honest_NK[held_N], mixture.cuts)
    in_sample, score, optimism = two_scores(matrix, scorer, inputs, honest_inputs)
    return replace(
        report,
        in_sample=in_sample,
        honest=score,
        optimism=optimism,
        honest_pred_NK=honest_NK,
        honest_inputs=honest_inputs,
    )
