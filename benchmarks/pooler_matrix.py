"""The stored matrix of the study of poolers, and intervals of what is computed from it.

A competition's folder in docs/pooler-study holds

    oof.parquet       id, fold, the target, and each member's out-of-fold prediction, one column
                      <member> or one for each class, <member>:<class>
    test.parquet      id and the same columns for test rows, the mean over the folds' models
    members.csv       seconds, parameters above the encoder, threads and machine of each member

A member is called <pooler>-s<seed>, or <pooler>-<variant>-s<seed>.

Legend: N rows, K classes, Q statistics, G groups of rows, S seeds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "docs" / "pooler-study"
GROUPS = 40  # of rows, for the jackknife
SMALLEST = 1e-7  # of a float32 probability, for its logarithm


class Member(NamedTuple):
    pooler: str
    variant: str  # "" for the plain member
    seed: int

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.pooler, self.variant, f"s{self.seed}")))


def name_of(spec: dict[str, Any]) -> str:
    """The name of a member that a config describes."""
    if "model" in spec:
        return Member(spec["model"], "logistic", 42).name
    return Member(spec["pooler"], spec.get("tag", ""), spec["seed"]).name


def member_of(name: str) -> Member:
    """The member of this name, as `Member.name` makes it."""
    pooler, variant, seed = re.fullmatch(r"([a-z_]+)-(?:([a-z]+)-)?s(\d+)", name).groups()
    return Member(pooler, variant or "", int(seed))


@dataclass(frozen=True, eq=False)
class Matrix:
    """Some rows of all members; members of the seeds in `seeds` count, and those without a seed.

    `y_N` has class numbers, `pred_NK` of a member the probabilities of all classes.
    """

    y_N: np.ndarray
    fold_N: np.ndarray
    group_N: np.ndarray  # which jackknife group a row is in
    predictions: dict[Member, np.ndarray]
    seeds: tuple[int, ...]

    def seeds_of(self, pooler: str, variant: str = "") -> list[int]:
        """The seeds under which the pooler was trained, of those that count."""
        return [s for s in self.seeds if Member(pooler, variant, s) in self.predictions]

    def pred(self, pooler: str, seed: int, variant: str = "") -> np.ndarray:
        return self.predictions[Member(pooler, variant, seed)]

    def rows(self, mask_N: np.ndarray) -> Matrix:
        predictions = {member: pred_NK[mask_N] for member, pred_NK in self.predictions.items()}
        kept = {name: getattr(self, name)[mask_N] for name in ("y_N", "fold_N", "group_N")}
        return replace(self, predictions=predictions, **kept)

    def of_seeds(self, n: int) -> Matrix:
        """The matrix in which the seeds from 1 to n alone count."""
        return replace(self, seeds=tuple(range(1, n + 1)))

    def without_seed(self, seed: int) -> Matrix:
        return replace(self, seeds=tuple(s for s in self.seeds if s != seed))

    @cached_property
    def truth_NK(self) -> np.ndarray:
        K = next(iter(self.predictions.values())).shape[1]
        return np.eye(K)[self.y_N]

    def loss_N(self, pred_NK: np.ndarray) -> np.ndarray:
        """The log loss of each row."""
        right_N = pred_NK[np.arange(len(self.y_N)), self.y_N]
        return -np.log(np.clip(right_N, SMALLEST, 1))

    def right_N(self, pred_NK: np.ndarray) -> np.ndarray:
        """1 where the likeliest class is the row's own, else 0."""
        return (pred_NK.argmax(axis=1) == self.y_N).astype(float)


def load(name: str, folder: Path = STORED) -> Matrix:
    """The competition's out-of-fold predictions."""
    table = pd.read_parquet(folder / name / "oof.parquet")
    target = table.columns[2]
    classes = sorted(table[target].unique())
    columns: dict[str, list[str]] = {}
    for column in table.columns[3:]:
        columns.setdefault(column.partition(":")[0], []).append(column)
    predictions = {}
    for member, those in columns.items():
        pred_NK = table[those].to_numpy(np.float64)
        if len(those) == 1:
            pred_NK = np.column_stack([1 - pred_NK, pred_NK])
        else:
            assert [c.partition(":")[2] for c in those] == [str(c) for c in classes]
        predictions[member_of(member)] = pred_NK
    fold_N = table["fold"].to_numpy()
    # Each group has its share of every fold.
    order = np.lexsort((np.random.default_rng(0).permutation(len(table)), fold_N))
    group_N = np.empty(len(table), dtype=int)
    group_N[order] = np.arange(len(table)) % GROUPS
    seeds = tuple(sorted({member.seed for member in predictions if not member.variant}))
    y_N = np.searchsorted(classes, table[target].to_numpy())
    return Matrix(y_N, fold_N, group_N, predictions, seeds)


# --- intervals ----------------------------------------------------------------------------------


class Estimate(NamedTuple):
    """Statistics with 95 % intervals over rows and seeds; all of shape (Q,)."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: np.ndarray  # standard error
    freedom: np.ndarray  # degrees of freedom of the t distribution

    def p_values(self) -> np.ndarray:
        """Two-sided, of the value being zero."""
        return 2 * stats.t.sf(np.abs(self.value) / self.error, self.freedom)


def estimate(
    statistic: Callable[[Matrix], Sequence[float] | np.ndarray], matrix: Matrix
) -> Estimate:
    """The statistic, a function of a matrix, with intervals by a jackknife over rows and seeds.

    It returns Q values, or (N, Q) of which they are the means over rows: then it need not be
    computed again without each group of rows.

    Leaving out each of 40 groups of rows in turn, and then each seed (of all poolers at once, which
    share the order of the rows under it), gives two variances, which are added: chance that rows
    and seeds have in common is counted twice, so that intervals are somewhat wide. The degrees of
    freedom are Satterthwaite's. Efron and Stein, The jackknife estimate of variance, 1981.

    A bootstrap would draw the same seed twice, and a model blended with itself gains nothing.
    """
    found = np.asarray(statistic(matrix), dtype=float)
    others = [matrix.group_N != group for group in np.unique(matrix.group_N)]
    if found.ndim == 2:
        value_Q = found.mean(axis=0)
        by_row_GQ = np.array([found[kept_N].mean(axis=0) for kept_N in others])
    else:
        value_Q = found
        by_row_GQ = np.array([statistic(matrix.rows(kept_N)) for kept_N in others])
    by_seed = [np.asarray(statistic(matrix.without_seed(seed))) for seed in matrix.seeds]
    by_seed_SQ = np.array([each.mean(axis=0) if each.ndim == 2 else each for each in by_seed])
    variance_2Q = np.array([_variance(by_row_GQ), _variance(by_seed_SQ)])
    freedom_2 = np.array([len(others) - 1, len(matrix.seeds) - 1])
    error_Q = np.sqrt(variance_2Q.sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        below_Q = (variance_2Q**2 / freedom_2[:, None]).sum(axis=0)
        freedom_Q = np.where(below_Q > 0, error_Q**4 / below_Q, freedom_2[0])
    width_Q = stats.t.ppf(0.975, freedom_Q) * error_Q
    return Estimate(value_Q, value_Q - width_Q, value_Q + width_Q, error_Q, freedom_Q)


def _variance(left_out_GQ: np.ndarray) -> np.ndarray:
    G = len(left_out_GQ)
    return (G - 1) / G * ((left_out_GQ - left_out_GQ.mean(axis=0)) ** 2).sum(axis=0)


def holm(p_values: Iterable[float]) -> np.ndarray:
    """P values corrected for their number.

    Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    p_Q = np.asarray(list(p_values))
    order = np.argsort(p_Q)
    corrected = np.maximum.accumulate(p_Q[order] * np.arange(len(p_Q), 0, -1))
    result = np.empty(len(p_Q))
    result[order] = np.minimum(corrected, 1)
    return result
