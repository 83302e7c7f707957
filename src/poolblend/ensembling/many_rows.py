"""Blends of very many rows: weights are fitted on a sample of them, and scored on all.

1,000 members and 1,000,000 rows are 8 GB of predictions, more than many machines hold. They stay on
the disk; a sample of some ten thousand rows gives nearly the weights of all (docs/scale.md).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from poolblend.competition.metrics import Scorer
from poolblend.ensembling.choice import Choice, choose
from poolblend.ensembling.honesty import Comparison
from poolblend.ensembling.matrix import OofMatrix, in_memory
from poolblend.ensembling.rescoring import rescore

IN_MEMORY = 100_000_000  # predictions, 8 bytes each; the blenders copy them a few times
SAMPLE = 50_000_000  # predictions of the rows that weights are fitted on
LOOKED_AT = 20_000_000  # predictions of those that members are compared on, many times
READ_AT_ONCE = 32_000_000  # predictions: of 1,000 members 128 kB each, which disks read quickly
SEED = 0  # of the draw: all commands see the same rows


def fits_in_memory(n_members: int, n_rows: int, n_outputs: int) -> bool:
    """Whether all rows are used for fitting. The rule depends on the size, not on the machine."""
    return n_members * n_rows * n_outputs <= IN_MEMORY


def sample_rows(matrix: OofMatrix) -> OofMatrix:
    """The matrix where it fits in memory; else some of its rows, of each fold its share."""
    if fits_in_memory(*matrix.oof_MNK.shape):
        return matrix
    M, _, K = matrix.oof_MNK.shape
    row_N = _drawn(matrix, SAMPLE)
    # Member by member, as they lie on the disk: row by row would read all of it again and again.
    oof_MNK = in_memory((pred_NK[row_N] for pred_NK in matrix.oof_MNK), (M, len(row_N), K))
    without = replace(matrix, oof_MNK=matrix.oof_MNK[:0])
    return replace(without.rows(row_N), oof_MNK=oof_MNK)


def rows_to_look_at(comparison: Comparison) -> Comparison:
    """The comparison with few enough rows for the many fits and scores of each member."""
    if comparison.matrix.oof_MNK.size <= LOOKED_AT:
        return comparison
    return comparison.rows(_drawn(comparison.matrix, LOOKED_AT))


def _drawn(matrix: OofMatrix, predictions: int) -> np.ndarray:
    """Rows with about so many predictions, in rising order."""
    M, N, K = matrix.oof_MNK.shape
    rng = np.random.default_rng(SEED)
    share = min(1.0, max(1, predictions // (M * K)) / N)
    drawn = []
    for fold in np.unique(matrix.fold_N):
        row_N = np.flatnonzero(matrix.fold_N == fold)
        drawn.append(rng.choice(row_N, max(1, round(share * len(row_N))), replace=False))
    return np.sort(np.concatenate(drawn))


def score_on_all(
    comparison: Comparison, choice: Choice, matrix: OofMatrix, scorer: Scorer, resamples: int
) -> tuple[Comparison, Choice]:
    """The comparison and the choice of a sample, with the scores and gains on the whole `matrix`.

    The predictions in the comparison stay those of the sample. The blender is chosen again, among
    scores on all rows, unless it was asked for.
    """
    reports = rescore(comparison.reports, matrix, scorer, READ_AT_ONCE)
    whole = replace(comparison, matrix=matrix, reports=reports)
    asked = "auto" if choice.automatic else choice.blender
    best = choice.member, choice.member_overall
    chosen = choose(whole, asked, resamples=resamples, member=best)
    scores = {
        name: replace(
            report,
            in_sample=reports[name].in_sample,
            honest=reports[name].honest,
            optimism=reports[name].optimism,
        )
        for name, report in comparison.reports.items()
    }
    return replace(comparison, reports=scores), chosen
