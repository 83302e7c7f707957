"""Bootstrap intervals of losses, and of the difference between two blends on the same rows.

Legend: N rows, P predictions, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from poolblend.competition.metrics import Scorer, UndefinedScoreError
from poolblend.errors import UserError

RESAMPLES = 400


class Gain(NamedTuple):
    """How much better one blend is than another, with a 95 % interval; positive is better."""

    value: float
    low: float
    high: float


def bootstrap(
    y: np.ndarray,
    takens: Iterable[np.ndarray],
    scorer: Scorer,
    *,
    fold_N: np.ndarray | None = None,
    group_N: np.ndarray | None = None,
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """Losses (P, R) of P predictions, as `Scorer.take` gives them, under the same R draws of rows.

    Rows are drawn with replacement; with `group_N`, whole groups are, since rows of one group are
    not independent. A row takes its fold along (`fold_N`; None: one model predicted all rows).
    Draws on which the metric is undefined (one class only, constant values) are left out; raises
    UserError when that leaves fewer than half.
    """
    each = list(takens)
    losses = []
    for row_N in draws(len(y), group_N, seed=seed, resamples=resamples):
        try:
            drawn_N = None if fold_N is None else fold_N[row_N]
            losses.append([scorer.loss_taken(y[row_N], taken[row_N], drawn_N) for taken in each])
        except UndefinedScoreError:
            continue
    if 2 * len(losses) < resamples:
        raise UserError(
            f"{scorer.name} is undefined on {resamples - len(losses)} of {resamples} bootstrap "
            f"resamples of {len(y)} rows, so no interval can be given; add rows or take a metric "
            "that is always defined"
        )
    return np.array(losses).T


def draws(
    n_rows: int, group_N: np.ndarray | None = None, *, seed: int = 42, resamples: int = RESAMPLES
) -> Iterator[np.ndarray]:
    """Row numbers of each resample: n rows, or as many groups as there are, with replacement."""
    rng = np.random.default_rng(seed)
    if group_N is None:
        for _ in range(resamples):
            yield rng.integers(n_rows, size=n_rows)
        return
    _, code_N = np.unique(group_N, return_inverse=True)
    rows_of = np.split(np.argsort(code_N, kind="stable"), np.cumsum(np.bincount(code_N))[:-1])
    for _ in range(resamples):
        drawn = rng.integers(len(rows_of), size=len(rows_of))
        yield np.concatenate([rows_of[group] for group in drawn])


def gain(
    losses_before_R: np.ndarray, losses_after_R: np.ndarray, value: float, widening: float = 1.0
) -> Gain:
    """The gain `value` with the interval that paired resampled losses give it.

    `widening` stretches the interval about the value, for what the resamples do not show.
    """
    low, high = np.quantile(losses_before_R - losses_after_R, [0.025, 0.975])
    return Gain(
        value, float(value + widening * (low - value)), float(value + widening * (high - value))
    )


def fitted_widening(
    y: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    scorer: Scorer,
    group_N: np.ndarray | None = None,
) -> float:
    """How much wider than its bootstrap interval a gain between two fitted blends is uncertain.

    The bootstrap holds the weights as they are. But each row that scores one fold's blend also
    helped to fit the others', and chance in it counts twice: where there is nothing to learn, the
    variance is up to doubled (measured by benchmarks/noise.py). With few independent units
    quantiles of resamples are too narrow as well, and Student's t is not. Units are the groups, the
    rows of the rarer label, and for decided labels only those that the two decide differently,
    whichever are fewest. `before` and `after` are what the metric takes.
    """
    decided = scorer.metric.takes == "labels"
    counted = before != after if decided else np.ones(y.shape, dtype=bool)
    if scorer.task.kind in ("binary", "multilabel"):
        positives = np.count_nonzero(counted & (y == 1), axis=0)
        negatives = np.count_nonzero(counted & (y == 0), axis=0)
        units = float(np.minimum(positives, negatives).mean())
    else:
        units = float(np.count_nonzero(counted.reshape(len(y), -1).any(axis=1)))
    if group_N is not None:
        units = min(units, len(np.unique(group_N)))
    return float(np.sqrt(2) * stdtrit(max(units - 1, 1), 0.975) / ndtri(0.975))
