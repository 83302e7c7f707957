"""Decision thresholds and ordinal cut points that score best, found exactly where possible.

Scores on the rows that the thresholds were fitted on are too good, often by as much as an ensemble
gains. So a blend fits them without the fold to which they are applied.

Shapes: C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import add

import numpy as np

from poolblend.competition.metrics.scorer import Counts, Scorer

SWEEPS = 20  # of the coordinate ascent; it settles after three to six
CANDIDATES = 99  # thresholds tried where a metric has no formula of counts


def has_cuts(scorer: Scorer) -> bool:
    """Whether there are cuts to fit: for label metrics, except of several classes.

    Of an ordinal task, those of quadratic weighted kappa alone can be fitted.
    """
    fitted = scorer.task.kind != "ordinal" or scorer.name == "qwk"
    return scorer.metric.inputs == "labels" and scorer.task.default_cuts is not None and fitted


def fit_cuts(scorer: Scorer, y: np.ndarray, pred_NK: np.ndarray) -> np.ndarray | None:
    """The cuts under which these predictions score best; None where nothing is cut.

    (K,) thresholds, one per output where the metric is a mean over outputs and one for all
    elsewhere, or (C-1,) cut points of an ordinal task in rising order. They lie midway between two
    predictions; of equally good ones, the nearest to the task's default is chosen.
    """
    default = scorer.task.default_cuts
    if not has_cuts(scorer) or default is None:
        return None
    if scorer.task.kind == "ordinal":
        return _ordinal_cuts(y, pred_NK[:, 0], default, scorer.task.steps_C)
    if scorer.task.kind == "multilabel" and scorer.metric.mean_of:
        columns = range(pred_NK.shape[1])
        each = [fit_cuts(scorer.of_output(k), y[:, k], pred_NK[:, [k]]) for k in columns]
        return np.concatenate([np.asarray(cuts) for cuts in each])
    count_function = scorer.metric.count_function
    if count_function is None or (scorer.task.kind == "multilabel" and scorer.name == "accuracy"):
        return _tried(scorer, y, pred_NK, default)
    sign = 1.0 if scorer.better == "max" else -1.0
    cut = _best_threshold(
        y.ravel(), pred_NK.ravel(), lambda c: sign * count_function(c), default[0]
    )
    return np.full(len(default), cut)


def _best_threshold(
    y_N: np.ndarray, pred_N: np.ndarray, merit: Callable[[Counts], np.ndarray], default: float
) -> float:
    """The threshold of greatest merit among all that decide these rows differently."""
    order = np.argsort(-pred_N)  # the order of equal predictions does not matter
    falling_N = pred_N[order]
    ends = np.flatnonzero(np.append(falling_N[1:] != falling_N[:-1], True)) + 1
    predicted = np.concatenate([[0], ends])  # how many rows are positive, from none to all
    tp = np.concatenate([[0], np.cumsum(y_N[order])])[predicted]
    positive = int(y_N.sum())
    fp, fn = predicted - tp, positive - tp
    merits = np.asarray(merit(Counts(tp, fp, fn, len(y_N) - positive - fp)))
    upper = falling_N[predicted[1:] - 1]
    lower = np.append(falling_N[predicted[1:-1]], -np.inf)
    between = (upper + lower) / 2
    # The middle of two neighbouring floats is one of them; the upper gives the same decisions.
    cuts = np.where((between > lower) & np.isfinite(between), between, upper)
    cuts = np.append(np.nextafter(upper[0], np.inf), cuts)
    lowest, highest = np.append(np.inf, upper) >= default, np.append(upper[:1], lower) < default
    cuts = np.where(lowest & highest, default, cuts)  # the default where it decides in the same way
    best = np.flatnonzero(merits >= merits.max() - 1e-15)
    return float(cuts[best[np.abs(cuts[best] - default).argmin()]])


def _tried(scorer: Scorer, y: np.ndarray, pred_NK: np.ndarray, default: np.ndarray) -> np.ndarray:
    """One threshold for all outputs, the best of some quantiles of the predictions."""
    levels = np.quantile(pred_NK, np.linspace(0.01, 0.99, CANDIDATES))
    cuts = [default, *(np.full(len(default), level) for level in levels)]
    losses = [scorer.loss(y, pred_NK, cut) for cut in cuts]
    return cuts[int(np.argmin(losses))]


def _ordinal_cuts(
    y_N: np.ndarray, pred_N: np.ndarray, default: np.ndarray, steps_C: np.ndarray
) -> np.ndarray:
    """Cut points for quadratic weighted kappa, by coordinate ascent from two starting points.

    Every sweep moves one cut after another to its best place between its neighbours, all places
    scored at once. It starts at the default cuts, and at those that give each class its true share.
    """
    order = np.argsort(pred_N, kind="stable")
    rising_N, y_N = pred_N[order], y_N[order]
    places = np.concatenate(
        [[0], np.flatnonzero(rising_N[1:] != rising_N[:-1]) + 1, [len(rising_N)]]
    )
    shares = np.searchsorted(np.sort(y_N), np.arange(1, len(default) + 1))
    kappa = _Kappa(y_N, steps_C)
    nearest = np.minimum(np.searchsorted(places, shares), len(places) - 1)
    starts = [np.searchsorted(rising_N, default), places[nearest]]
    below, score = max((_ascend(kappa, places, below) for below in starts), key=lambda r: r[1])
    if score <= kappa(np.searchsorted(rising_N, default)):
        return default
    padded_N = np.concatenate([[-np.inf], rising_N, [np.inf]])
    lower, upper = padded_N[below], padded_N[below + 1]
    middle = np.where(np.isfinite(lower) & np.isfinite(upper), (lower + upper) / 2, upper)
    middle = np.where(np.isinf(upper), np.nextafter(lower, np.inf), middle)
    return np.where(middle > lower, middle, upper)


class _Kappa:
    """Quadratic weighted kappa of sorted rows, from how many rows lie below each cut.

    Crossing a cut raises a row's label by `rise`, the distance between the classes beside the cut,
    and the square of its label by `square_rise`.
    """

    def __init__(self, y_N: np.ndarray, steps_C: np.ndarray) -> None:
        # As floats: with many rows and a long scale, products of the moments overflow 64 bits.
        value_C = steps_C.astype(np.float64)
        value_N = value_C[y_N]
        self.n = len(y_N)
        self.total = float(value_N.sum())
        self.squares = float(np.square(value_N).sum())
        self.value_above = self.total - np.concatenate([[0.0], np.cumsum(value_N)])
        self.rise, self.square_rise = np.diff(value_C), np.diff(value_C**2)

    def __call__(self, below: np.ndarray) -> float:
        return float(self.of_moments(*self.moments(np.arange(len(below)), below)))

    def parts(self, cut: np.ndarray | int, below: np.ndarray) -> tuple[np.ndarray, ...]:
        """What cuts with so many rows below them add to the three moments."""
        rise, above = self.rise[cut], self.n - below
        return rise * above, self.square_rise[cut] * above, rise * self.value_above[below]

    def moments(self, cuts: np.ndarray, below: np.ndarray) -> list[float]:
        """What all these cuts add together."""
        return [float(part.sum()) for part in self.parts(cuts, below)]

    def of_moments(
        self, p: np.ndarray | float, pp: np.ndarray | float, yp: np.ndarray | float
    ) -> np.ndarray:
        """Kappa from the sums of labels, of their squares, and of their products with the truth."""
        spread = self.n * (self.squares + pp) - self.total**2 - np.square(p)
        chance = spread + np.square(self.total - p)
        gaps = self.n * (self.squares - 2 * yp + pp)
        return 1 - np.divide(gaps, chance, out=np.ones_like(chance), where=chance != 0)


def _ascend(kappa: _Kappa, places: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, float]:
    below = np.array(below)
    score = kappa(below)
    for _ in range(SWEEPS):
        before = score
        for j in range(len(below)):
            low = below[j - 1] if j else 0
            high = below[j + 1] if j + 1 < len(below) else kappa.n
            tried = places[np.searchsorted(places, low) : np.searchsorted(places, high, "right")]
            others = np.delete(np.arange(len(below)), j)
            rest = kappa.moments(others, below[others])
            found = kappa.of_moments(*map(add, rest, kappa.parts(j, tried)))
            if found.max(initial=-np.inf) > score:
                below[j], score = tried[int(found.argmax())], float(found.max())
        if score <= before:
            break
    return below, score
