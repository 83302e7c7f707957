"""Bootstrap intervals of losses, and of the difference between two blends on the same rows.

Shapes: P predictions, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
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
    metric_inputs: Iterable[np.ndarray],
    scorer: Scorer,
    *,
    fold_N: np.ndarray | None = None,
    group_N: np.ndarray | None = None,
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """Losses (P, R) of P predictions' `Scorer.metric_inputs` under the same R draws of rows.

    Rows are drawn with replacement; with `group_N`, whole groups are, since rows of one group are
    not independent. `fold_N` are the folds of the rows; None: one model predicted all rows. Draws
    on which the metric is undefined (one class only, constant values) are left out; raises
    UserError when that leaves fewer than half.
    """
    all_inputs = list(metric_inputs)
    losses = []
    for row_N in draws(len(y), group_N, seed=seed, resamples=resamples):
        try:
            drawn_N = None if fold_N is None else fold_N[row_N]
            losses.append(
                [scorer.loss_inputs(y[row_N], inputs[row_N], drawn_N) for inputs in all_inputs]
            )
        except UndefinedScoreError:
            continue
    if 2 * len(losses) < resamples:
        raise UserError(
            f"{scorer.name} is undefined on {resamples - len(losses)} of {resamples} bootstrap "
            f"resamples of {len(y)} rows, so no interval can be given; add rows or use a metric "
            "that is always defined"
        )
    return np.array(losses).T


def draws(
    n_rows: int, group_N: np.ndarray | None = None, *, seed: int = 42, resamples: int = RESAMPLES
) -> Iterator[np.ndarray]:
    """Row numbers of each resample: n rows, or the number of groups, with replacement."""
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
    """The factor by which a gain's interval must be wider than the bootstrap's.

    The bootstrap keeps the weights fixed. But each row that scores one fold's blend also helped to
    fit the other folds' blends, so its noise counts twice: where there is nothing to learn, the
    variance is up to doubled (measured by benchmarks/noise.py). With few independent units,
    quantiles of resamples are also too narrow; Student's t corrects this. Units are the groups or
    the rows of the rarer label, whichever are fewer; for labels, only rows that the two blends
    decide differently count. `before` and `after` are metric inputs.
    """
    decided = scorer.metric.inputs == "labels"
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


class Resamples:
    """Losses of several predictions, on the rows and on the same resamples of them.

    `loss` is NaN for a prediction that is None or leaves the metric undefined, and `drawn_R` lacks
    it. The arguments are those of `bootstrap`.
    """

    def __init__(
        self,
        y: np.ndarray,
        metric_inputs: Mapping[str, np.ndarray | None],
        scorer: Scorer,
        *,
        fold_N: np.ndarray | None = None,
        group_N: np.ndarray | None = None,
        seed: int = 42,
        resamples: int = RESAMPLES,
    ) -> None:
        self._y, self._scorer, self._group_N = y, scorer, group_N
        self._inputs: dict[str, np.ndarray] = {}
        self.loss = dict.fromkeys(metric_inputs, np.nan)
        for name, inputs in metric_inputs.items():
            with suppress(UndefinedScoreError):
                if inputs is not None:
                    self.loss[name] = scorer.loss_inputs(y, inputs, fold_N)
                    self._inputs[name] = inputs
        drawn = bootstrap(
            y,
            self._inputs.values(),
            scorer,
            fold_N=fold_N,
            group_N=group_N,
            seed=seed,
            resamples=resamples,
        )
        self.drawn_R = dict(zip(self._inputs, drawn, strict=True))

    def gain(self, before: str, after: str) -> Gain:
        """What the second prediction gains over the first; NaN where one has no loss."""
        if not {before, after} <= self._inputs.keys():
            return Gain(np.nan, np.nan, np.nan)
        value, widening = self.loss[before] - self.loss[after], self._widening(before, after)
        return gain(self.drawn_R[before], self.drawn_R[after], value, widening)

    def standard_error(self, before: str, after: str) -> float:
        """That of the difference between two losses, widened as the gain's interval is."""
        difference_R = self.drawn_R[before] - self.drawn_R[after]
        return self._widening(before, after) * float(np.std(difference_R, ddof=1))

    def simplest(self, names: Iterable[str]) -> str | None:
        """The first of `names` within one standard error of the best; None if none has a loss.

        The simplest stand first. Breiman et al., Classification and Regression Trees, 1984, 3.4.3.
        """
        known = [name for name in names if name in self._inputs]
        if not known:
            return None
        leader = min(known, key=self.loss.__getitem__)
        return next(
            name
            for name in known
            if self.loss[name] - self.loss[leader] <= self.standard_error(name, leader)
        )

    def _widening(self, before: str, after: str) -> float:
        pair = self._inputs[before], self._inputs[after]
        return fitted_widening(self._y, *pair, self._scorer, self._group_N)
