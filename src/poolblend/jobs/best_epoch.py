"""Early stopping: the best epoch on a fold's own rows is kept, and what that flatters is said.

Legend: N rows, K outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from poolblend.competition.metrics import Scorer, UndefinedScoreError
from poolblend.training.fit import Fit

log = logging.getLogger(__name__)

WEIGHTS, PREDICTIONS = "best.", "predicted."
SPLITS = 20  # into halves, to estimate the optimism


class BestEpoch:
    """The best of a fit's epochs so far, kept among its notes, so that a resumed fit knows it.

    Scores are those of the predictions `pred_NK` of the fold's own rows, whose truth is `y`.
    """

    def __init__(self, fit: Fit, scorer: Scorer, y: np.ndarray, patience: int) -> None:
        self.fit, self.scorer, self.y, self.patience = fit, scorer, y, patience

    def take(self, pred_NK: np.ndarray, scores: Sequence[float | None]) -> bool:
        """Note the last epoch's predictions; whether training ends, of the scores of all so far."""
        best = self._best(scores)
        self.fit.notes[f"{PREDICTIONS}{len(scores)}"] = torch.from_numpy(pred_NK)
        if best == len(scores) - 1:
            for name in [name for name in self.fit.notes if name.startswith(WEIGHTS)]:
                del self.fit.notes[name]
            self.fit.notes |= {f"{WEIGHTS}{k}": v for k, v in self.fit.snapshot().items()}
        return len(scores) - 1 - best >= self.patience

    def kept(self, scores: Sequence[float | None]) -> tuple[np.ndarray, Mapping[str, Tensor], int]:
        """Predictions (N, K), weights, and number of the best epoch."""
        number = self._best(scores) + 1
        notes = self.fit.notes
        weights = {k.removeprefix(WEIGHTS): v for k, v in notes.items() if k.startswith(WEIGHTS)}
        return notes[f"{PREDICTIONS}{number}"].numpy(), weights, number

    def optimism(self, seed: int) -> float | None:
        """About how much better the best epoch looks on the rows that chose it than on others.

        The mean over random halves of the rows: an epoch chosen on one half, its score there less
        that on the other. Of half the rows each, it is rather too large. None where undefined.
        """
        predictions = [v.numpy() for k, v in self.fit.notes.items() if k.startswith(PREDICTIONS)]
        sign = 1.0 if self.scorer.better == "max" else -1.0
        generator = np.random.default_rng(seed)
        gaps = []
        for _ in range(SPLITS if len(self.y) > 1 else 0):
            halves = np.array_split(generator.permutation(len(self.y)), 2)
            try:
                scores = [
                    [sign * self.scorer.score(self.y[half], pred[half]) for pred in predictions]
                    for half in halves
                ]
            except UndefinedScoreError:
                continue
            for own, other in (scores, scores[::-1]):
                chosen = int(np.argmax(own))
                gaps.append(own[chosen] - other[chosen])
        return float(np.mean(gaps)) if gaps else None

    def _best(self, scores: Sequence[float | None]) -> int:
        """The first of the best; where no score is defined, the last epoch."""
        sign = 1.0 if self.scorer.better == "max" else -1.0
        merits = [-np.inf if score is None else sign * score for score in scores]
        return int(np.argmax(merits)) if np.isfinite(merits).any() else len(scores) - 1
