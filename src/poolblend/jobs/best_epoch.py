"""How much early stopping flatters: the best epoch was chosen on the rows that score it.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poolblend.competition.metrics import Scorer, UndefinedScoreError

SPLITS = 20  # into halves, to estimate the optimism


def merit(scorer: Scorer, score: float | None) -> float | None:
    """The score with its sign changed if lower is better; None if undefined."""
    return score if score is None or scorer.better == "max" else -score


def optimism(
    scorer: Scorer, y: np.ndarray, predictions: Sequence[np.ndarray], seed: int
) -> float | None:
    """About how much better the best epoch looks on the rows that chose it than on others.

    `predictions` (N, K) are those of each epoch. The mean over random halves of the rows: an epoch
    chosen on one half, its score there less that on the other. Of half the rows each, it is rather
    too large. None where undefined.
    """
    sign = 1.0 if scorer.better == "max" else -1.0
    generator = np.random.default_rng(seed)
    gaps = []
    for _ in range(SPLITS if len(y) > 1 else 0):
        halves = np.array_split(generator.permutation(len(y)), 2)
        try:
            scores = [
                [sign * scorer.score(y[half], pred_NK[half]) for pred_NK in predictions]
                for half in halves
            ]
        except UndefinedScoreError:
            continue
        for own, other in (scores, scores[::-1]):
            chosen = int(np.argmax(own))
            gaps.append(own[chosen] - other[chosen])
    return float(np.mean(gaps)) if gaps else None
