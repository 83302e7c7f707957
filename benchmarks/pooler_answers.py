"""The statistics of the study of poolers, each with an interval over rows and seeds.

Legend: N rows, K classes, P poolers, S seeds, M members of a blend.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from pooler_grid import POOLERS, SEEDS
from pooler_matrix import Estimate, Matrix, Member, estimate, holm

FIVE = tuple(pooler for pooler in POOLERS if SEEDS[pooler] >= 6)  # those of the preset `medium`
BINS = 15
SUBSETS = 40  # of poolers for each size of a blend; all of them where there are fewer
MOST = 8

Blends = Iterator[list[np.ndarray]]  # the members' predictions (N, K), of one blend after another


# --- 1. single poolers --------------------------------------------------------------------------


def calibration_error(matrix: Matrix, pred_NK: np.ndarray) -> float:
    """The expected calibration error of the likeliest class, in 15 bins of equal size.

    Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities, 2015.
    """
    sure_N = pred_NK.max(axis=1)
    gap_N = (pred_NK.argmax(axis=1) == matrix.y_N) - sure_N
    parts = np.array_split(gap_N[np.argsort(sure_N, kind="stable")], BINS)
    return float(sum(abs(part.sum()) for part in parts) / len(gap_N))


# Of each row where a score is a mean over rows.
SCORES: dict[str, Callable[[Matrix, np.ndarray], np.ndarray | float]] = {
    "log loss": Matrix.loss_N,
    "accuracy": Matrix.right_N,
    "calibration error": calibration_error,
}


def single(matrix: Matrix, score: str) -> np.ndarray:
    """The mean score of each pooler's members (P,), or of each row (N, P)."""
    by_pooler = [
        np.mean([SCORES[score](matrix, matrix.pred(p, s)) for s in matrix.seeds_of(p)], axis=0)
        for p in POOLERS
    ]
    return np.stack(by_pooler, axis=-1)


def over_mean(matrix: Matrix) -> np.ndarray:
    """Each pooler's mean log loss of each row (N, P), minus that of `mean`."""
    loss_NP = single(matrix, "log loss")
    return loss_NP - loss_NP[:, [POOLERS.index("mean")]]


class Difference(NamedTuple):
    """Of two poolers' log losses: negative where the first is better."""

    first: str
    second: str
    value: float
    low: float
    high: float
    p: float  # corrected for the number of pairs


def differences(matrix: Matrix) -> list[Difference]:
    pairs = list(itertools.combinations(range(len(POOLERS)), 2))
    first, second = np.array(pairs).T

    def statistic(part: Matrix) -> np.ndarray:
        loss_NP = single(part, "log loss")
        return loss_NP[:, first] - loss_NP[:, second]

    found = estimate(statistic, matrix)
    corrected = holm(found.p_values())
    return [
        Difference(
            POOLERS[i],
            POOLERS[j],
            *map(float, (found.value[q], found.low[q], found.high[q], corrected[q])),
        )
        for q, (i, j) in enumerate(pairs)
    ]


# --- 2. what a prediction varies with -----------------------------------------------------------


def components(matrix: Matrix) -> np.ndarray:
    """Shares of pooler, seed, and both together in the variance of a prediction.

    Of the log odds of the true class, over poolers and seeds, by analysis of variance in each row
    (two-way, crossed, random effects), summed over rows. The last share is all that is not the sum
    of both: every training's own chance. A seed's share is what the poolers have in common under
    it: the order of the rows, above all.
    """
    odds_PSN = np.array(
        [[_log_odds(matrix, matrix.pred(p, s)) for s in matrix.seeds] for p in FIVE]
    )
    P, S, N = odds_PSN.shape
    mean_N = odds_PSN.mean(axis=(0, 1))
    of_pooler_PN, of_seed_SN = odds_PSN.mean(axis=1) - mean_N, odds_PSN.mean(axis=0) - mean_N
    rest_PSN = odds_PSN - mean_N - of_pooler_PN[:, None] - of_seed_SN
    rest = (rest_PSN**2).sum() / ((P - 1) * (S - 1) * N)
    pooler = ((of_pooler_PN**2).sum() / ((P - 1) * N) * S - rest) / S
    seed = ((of_seed_SN**2).sum() / ((S - 1) * N) * P - rest) / P
    return np.array([pooler, seed, rest]) / (pooler + seed + rest)


def _log_odds(matrix: Matrix, pred_NK: np.ndarray) -> np.ndarray:
    right_N = pred_NK[np.arange(len(matrix.y_N)), matrix.y_N].clip(1e-6, 1 - 1e-6)
    return np.log(right_N / (1 - right_N))


# --- 3. how alike errors are --------------------------------------------------------------------

KINDS = ("same pooler, other seed", "other pooler, same seed", "other pooler, other seed")


def error_correlations(matrix: Matrix) -> np.ndarray:
    """The mean correlation of two members' errors, for each of `KINDS`.

    Errors are probability minus truth, correlated for each class, of which the mean is taken.
    """
    members = [(p, s) for p in POOLERS for s in matrix.seeds_of(p)]
    error_KMN = np.array([(matrix.pred(*m) - matrix.truth_NK).T for m in members]).swapaxes(0, 1)
    correlation_MM = np.mean([np.corrcoef(error_MN) for error_MN in error_KMN], axis=0)
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for (i, one), (j, other) in itertools.combinations(enumerate(members), 2):
        apart = KINDS[1] if one[1] == other[1] else KINDS[2]
        found[KINDS[0] if one[0] == other[0] else apart].append(correlation_MM[i, j])
    return np.array([np.mean(found[kind]) for kind in KINDS])


# --- 4. equal blends ----------------------------------------------------------------------------


@cache
def subsets(poolers: Sequence[str], m: int) -> tuple[tuple[str, ...], ...]:
    every = list(itertools.combinations(poolers, m))
    if len(every) <= SUBSETS:
        return tuple(every)
    chosen = np.random.default_rng(0).choice(len(every), SUBSETS, replace=False)
    return tuple(every[i] for i in sorted(chosen))


def one_pooler(matrix: Matrix, poolers: Sequence[str], m: int) -> Blends:
    """Of one pooler under m seeds."""
    for pooler in poolers:
        for seeds in itertools.combinations(matrix.seeds_of(pooler), m):
            yield [matrix.pred(pooler, seed) for seed in seeds]


def one_seed(matrix: Matrix, poolers: Sequence[str], m: int) -> Blends:
    """Of m poolers under one seed."""
    for chosen in subsets(tuple(poolers), m):
        for seed in matrix.seeds:
            yield [matrix.pred(pooler, seed) for pooler in chosen]


def both(matrix: Matrix, poolers: Sequence[str], m: int) -> Blends:
    """Of m poolers, each under a seed of its own as long as the seeds suffice, else they repeat."""
    S = len(matrix.seeds)
    for chosen in subsets(tuple(poolers), m):
        for start in range(S):
            seeds = [matrix.seeds[(start + i) % S] for i in range(m)]
            yield [matrix.pred(*each) for each in zip(chosen, seeds, strict=True)]


SCHEMES = {
    "one pooler, m seeds": one_pooler,
    "m poolers, one seed": one_seed,
    "m poolers, m seeds": both,
}


def blend_losses(matrix: Matrix, blends: Blends) -> np.ndarray:
    """Equal blends' mean log loss of each row, and their gain over their own members: (N, 2)."""
    losses = []
    for blend in blends:
        alone_N = np.mean([matrix.loss_N(pred_NK) for pred_NK in blend], axis=0)
        loss_N = matrix.loss_N(np.mean(blend, axis=0))
        losses.append((loss_N, alone_N - loss_N))
    return np.mean(losses, axis=0).T


def curve(matrix: Matrix, scheme: str, poolers: Sequence[str], sizes: Sequence[int]) -> Estimate:
    """The gain of equal blends of the scheme over their members, for each size.

    The last value is what each further member adds, on average from the least to the largest size.
    """

    def statistic(part: Matrix) -> np.ndarray:
        gains = [blend_losses(part, SCHEMES[scheme](part, poolers, m))[:, 1] for m in sizes]
        slope_N = (gains[-1] - gains[0]) / (sizes[-1] - sizes[0])
        return np.column_stack([*gains, slope_N])

    return estimate(statistic, matrix)


def scheme_differences(matrix: Matrix, m: int) -> Estimate:
    """What m poolers with m seeds gain over m seeds of one pooler, and over m poolers of one seed.

    Each pooler is as frequent in all three, so that only their mixture differs.
    """

    def statistic(part: Matrix) -> np.ndarray:
        one, same, both_N = (
            blend_losses(part, make(part, FIVE, m))[:, 1] for make in SCHEMES.values()
        )
        return np.column_stack([both_N - one, both_N - same, one - same])

    return estimate(statistic, matrix)


def five_of_each(matrix: Matrix) -> Estimate:
    """Log loss of five seeds of each pooler of `FIVE`, minus that of the five with a seed each."""

    def statistic(part: Matrix) -> np.ndarray:
        mixed_N = blend_losses(part, both(part, FIVE, 5))[:, 0]
        same = [blend_losses(part, one_pooler(part, [pooler], 5))[:, 0] for pooler in FIVE]
        return np.column_stack([each_N - mixed_N for each_N in same])

    return estimate(statistic, matrix)


# --- 6. and 7. settings that differ in one thing ------------------------------------------------


def variant_differences(matrix: Matrix, variants: Sequence[tuple[str, str]]) -> Estimate:
    """The log loss of each (pooler, variant) minus the plain pooler's under the same seeds."""

    def difference_N(part: Matrix, pooler: str, variant: str) -> np.ndarray:
        seeds = part.seeds_of(pooler, variant)
        varied = [part.loss_N(part.pred(pooler, seed, variant)) for seed in seeds]
        plain = [part.loss_N(part.pred(pooler, seed)) for seed in seeds]
        return np.mean(varied, axis=0) - np.mean(plain, axis=0)

    def statistic(part: Matrix) -> np.ndarray:
        return np.column_stack([difference_N(part, *each) for each in variants])

    return estimate(statistic, matrix)


PARTNERS = (
    "another seed",
    "another pooler",
    "another learning rate",
    "another max_length",
    "TF-IDF",
)


def partners(matrix: Matrix) -> Estimate:
    """Log loss of an equal blend of `mean` and each of `PARTNERS`, minus that of `mean` alone."""

    def statistic(part: Matrix) -> np.ndarray:
        seeds = part.seeds_of("mean")
        pairs = [(s, t) for s in seeds for t in seeds if s != t]
        tfidf = part.predictions[Member("tfidf", "logistic", 42)]
        others: list[list[np.ndarray]] = [
            [part.pred("mean", t) for _, t in pairs],
            [np.array([part.pred(p, t) for p in FIVE if p != "mean"]) for _, t in pairs],
            [part.pred("mean", t, "slow") for _, t in pairs],
            [part.pred("mean", t, "short") for _, t in pairs],
            [tfidf for _ in pairs],
        ]
        found = []
        for partner in others:
            gains = []
            for (s, _), other in zip(pairs, partner, strict=True):
                own = part.pred("mean", s)
                for each in other if other.ndim == 3 else [other]:
                    gains.append(part.loss_N((own + each) / 2) - part.loss_N(own))
            found.append(np.mean(gains, axis=0))
        return np.column_stack(found)

    return estimate(statistic, matrix)


# --- 5. fitted weights --------------------------------------------------------------------------

FITTERS = ("convex", "greedy", "optuna")


def fitted(
    matrix: Matrix, sizes: Sequence[int], draws: int, trials: int
) -> Iterator[tuple[int, str, float, float, float]]:
    """What fitted weights gain honestly over equal ones: size, blender, gain in log loss, interval.

    Each fold is blended with weights that are fitted on the other folds' rows. The mean is over
    `draws` blends of m poolers with m seeds; intervals are over rows alone.
    """
    from poolblend.competition.metrics import make_scorer
    from poolblend.competition.tasks import Task
    from poolblend.ensembling.honesty import compare
    from poolblend.ensembling.matrix import OofMatrix
    from poolblend.ensembling.options import Blend

    N, K = matrix.truth_NK.shape
    classes = tuple(map(str, range(K)))
    scorer = make_scorer("log_loss", Task("multiclass", ("target",), classes))
    options = Blend(fitters=list(FITTERS), space="plain", trials=trials)
    ids_N = np.arange(N).astype(str)
    for m in sizes:
        blends = list(both(matrix, POOLERS, m))
        chosen = np.random.default_rng(m).choice(
            len(blends), min(draws, len(blends)), replace=False
        )
        gain_N = {name: np.zeros(N) for name in FITTERS}
        for i in chosen:
            members = tuple(map(str, range(m)))
            given = OofMatrix(
                ids_N, matrix.fold_N, matrix.y_N, np.array(blends[i]), members, classes
            )
            reports = compare(given, scorer, options).reports
            equal_N = matrix.loss_N(reports["equal"].honest_pred_NK)
            for name in FITTERS:
                gain_N[name] += (equal_N - matrix.loss_N(reports[name].honest_pred_NK)) / len(
                    chosen
                )
        for name, gains in gain_N.items():
            low, high = _over_rows(matrix, gains)
            yield m, name, float(gains.mean()), low, high


def _over_rows(matrix: Matrix, values_N: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean, rows drawn at random."""
    width = 1.96 * values_N.std(ddof=1) / np.sqrt(len(values_N))
    return float(values_N.mean() - width), float(values_N.mean() + width)
