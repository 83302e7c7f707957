"""What a screening of poolers shows: scores, differences that can be told, and a short list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from poolblend.ensembling.resampling import Gain
from poolblend.printing import aligned, wrapped

SHORT_LIST = 5


class Screened(NamedTuple):
    """One pooler's short training: its score, its gain over the best one (0 for that one)."""

    pooler: str
    score: float
    gain: Gain
    seconds: float

    @property
    def strong(self) -> bool:
        """Whether the rows cannot tell it from the best."""
        return self.gain.high >= 0


def short_list(screened: Sequence[Screened], products_MM: np.ndarray) -> list[int]:
    """Positions of the suggested poolers: the best, then those whose errors cancel most.

    `screened` has the best first; `products_MM` are mean products of two poolers' errors, so that
    their mean over chosen ones is the squared error of the plain mean of their predictions. Only
    strong poolers are suggested.
    """
    chosen = [0]
    left = [i for i, each in enumerate(screened) if each.strong and i]

    def squared_error(added: int) -> float:
        some = [*chosen, added]
        return float(products_MM[np.ix_(some, some)].mean())

    while left and len(chosen) < SHORT_LIST:
        chosen.append(min(left, key=squared_error))
        left.remove(chosen[-1])
    return chosen


def describe_screening(
    screened: Sequence[Screened], errors_MX: np.ndarray, again: int, metric: str, fold: int
) -> Iterator[str]:
    """Lines for the terminal, from the errors of each pooler on the fold's rows and outputs (X).

    `again` is the position of the mean pooler under another seed. That one shows what chance alone
    changes; it is not suggested.
    """
    rest = [each for i, each in enumerate(screened) if i != again]
    others_MX = np.delete(errors_MX, again, axis=0)
    chosen = short_list(rest, others_MX @ others_MX.T / errors_MX.shape[1])
    correlation_MM = np.corrcoef(errors_MX)
    rows = [
        [metric, f"fold {fold}", "behind the best (95 % interval)", "errors like its", "seconds"]
    ]
    for i, each in enumerate(screened):
        name = f"{each.pooler}, another seed" if i == again else each.pooler
        behind = ""
        if i:
            low, value, high = (-x for x in (each.gain.high, each.gain.value, each.gain.low))
            behind = f"{value:.4f} ({low:+.4f} to {high:+.4f})"
        alike = f"{correlation_MM[0, i]:.3f}" if i else ""
        rows.append([name, f"{each.score:.4f}", behind, alike, f"{each.seconds:.0f}"])
    yield from aligned(rows, right=[1, 2, 3, 4])
    yield ""
    mean = next(i for i, each in enumerate(screened) if each.pooler == "mean" and i != again)
    change = abs(screened[mean].score - screened[again].score)
    yield from wrapped(
        f"Another seed alone changes the score of mean by {change:.4f}, and correlates its errors "
        f"by {correlation_MM[mean, again]:.3f}. These rows cannot tell "
        f"{sum(each.strong for each in rest) - 1} of the other {len(rest) - 1} poolers from the "
        "best. Only the last layer was trained, on one fold: with all layers trained, the order "
        "may be another."
    )
    yield ""
    names = ",".join(rest[i].pooler for i in chosen)
    yield from wrapped(
        "To train in full: the best, then of those that cannot be told from it the ones whose "
        f"errors cancel most in a plain mean: --pooler {names}"
    )
