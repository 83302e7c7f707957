"""What each member brings: its own score, what is lost without it, how firm its weight is.

Legend: M members, N rows, R bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pandas as pd

from poolblend.competition.metrics import Scorer, UndefinedScoreError
from poolblend.ensembling.fitting import BlendOptions, fit_blends
from poolblend.ensembling.honesty import cross_fit
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.resampling import (
    RESAMPLES,
    Gain,
    bootstrap,
    draws,
    fitted_widening,
    gain,
)
from poolblend.errors import UserError

# Each costs a fit; fewer leave nothing of a 5 to 95 % range.
REFITS = 30


def member_table(
    matrix: OofMatrix,
    scorer: Scorer,
    member_taken: Sequence[np.ndarray],
    *,
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Each member's score alone with its 95 % interval: index member; score, low, high.

    NaN where the metric is undefined for a member, such as the correlation of a constant one.
    """
    sign = -1.0 if scorer.better == "max" else 1.0
    loss_M, losses_MR = _losses(matrix, scorer, member_taken, seed, resamples)
    low_M, high_M = np.sort(sign * np.quantile(losses_MR, [0.025, 0.975], axis=1), axis=0)
    return pd.DataFrame(
        {"score": sign * loss_M, "low": low_M, "high": high_M}, index=_index(matrix.members)
    )


def leave_one_out(
    matrix: OofMatrix,
    scorer: Scorer,
    options: BlendOptions,
    blender: str,
    honest_taken: np.ndarray,
    *,
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """What the blend loses without each member: index member; value, low, high, verdict.

    `honest_taken` is the blend's with all members; without each, `blender` is cross-fitted anew.
    That is M times its cost: for a search or a bagged blender, give the name of a quicker one and
    what that one takes. The value is the honest loss without the member less that with it, so
    positive where the member helps, with a 95 % interval over resamples of rows that both share;
    NaN where the metric is undefined without the member, or nothing is left.
    """
    without_M = [_honest_without(matrix, name, scorer, options, blender) for name in matrix.members]
    taken = [honest_taken, *without_M]
    (loss, *loss_M), (drawn_R, *drawn_MR) = _losses(matrix, scorer, taken, seed, resamples)
    gains = [
        Gain(np.nan, np.nan, np.nan)
        if left is None
        else gain(
            without_R,
            drawn_R,
            without - loss,
            fitted_widening(matrix.y, left, honest_taken, scorer, matrix.group_N),
        )
        for left, without, without_R in zip(without_M, loss_M, drawn_MR, strict=True)
    ]
    table = pd.DataFrame(gains, columns=Gain._fields, index=_index(matrix.members))
    return table.assign(verdict=[_verdict(each) for each in gains])


def weight_stability(
    matrix: OofMatrix,
    scorer: Scorer,
    options: BlendOptions,
    blender: str,
    *,
    resamples: int = REFITS,
    seed: int = 42,
) -> np.ndarray:
    """Members' shares (R, M) of the blender fitted anew on resamples of the rows, or of the groups.

    A row takes its fold along, so that copies of it stay on one side of any fitting over folds.
    Resamples on which the metric is undefined are left out; raises UserError where that leaves
    fewer than half.
    """
    weights_RM = []
    for row_N in draws(len(matrix.y), matrix.group_N, seed=seed, resamples=resamples):
        with suppress(UndefinedScoreError):
            fitted = fit_blends([blender], matrix.rows(row_N), scorer, options)[blender]
            weights_RM.append(fitted.mixture.share_M)
    if 2 * len(weights_RM) < resamples:
        raise UserError(
            f"{scorer.name} is undefined on {resamples - len(weights_RM)} of {resamples} resamples "
            f"of {len(matrix.y)} rows, so the weights' stability cannot be told; add rows or take "
            "a metric that is always defined"
        )
    return np.array(weights_RM)


def stability_table(members: Sequence[str], weights_RM: np.ndarray) -> pd.DataFrame:
    """Resampled shares in short: index member; mean, low and high (5 and 95 %), zero (share)."""
    low_M, high_M = np.quantile(weights_RM, [0.05, 0.95], axis=0)
    columns = {"mean": weights_RM.mean(axis=0), "low": low_M, "high": high_M}
    columns["zero"] = (weights_RM == 0).mean(axis=0)
    return pd.DataFrame(columns, index=_index(members))


def _index(members: Sequence[str]) -> pd.Index:
    return pd.Index(members, name="member")


def _honest_without(
    matrix: OofMatrix, member: str, scorer: Scorer, options: BlendOptions, blender: str
) -> np.ndarray | None:
    """What the cross-fitted blend of the others takes; None where there is no such blend."""
    others = [name for name in matrix.members if name != member]
    with suppress(UndefinedScoreError):
        if others:
            return cross_fit(blender, matrix.subset(others), scorer, options).honest_taken
    return None


def _losses(
    matrix: OofMatrix,
    scorer: Scorer,
    takens: Sequence[np.ndarray | None],
    seed: int,
    resamples: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Losses (P,) on the rows and (P, R) on their resamples, NaN where undefined on the rows."""
    loss_P = np.full(len(takens), np.nan)
    told = {}
    for p, taken in enumerate(takens):
        with suppress(UndefinedScoreError):
            if taken is not None:
                loss_P[p] = scorer.loss_taken(matrix.y, taken, matrix.fold_N)
                told[p] = taken
    if not told:
        return loss_P, loss_P[:, None]
    drawn_PR = bootstrap(
        matrix.y,
        told.values(),
        scorer,
        fold_N=matrix.fold_N,
        group_N=matrix.group_N,
        seed=seed,
        resamples=resamples,
    )
    losses_PR = np.full((len(takens), drawn_PR.shape[1]), np.nan)
    losses_PR[list(told)] = drawn_PR
    return loss_P, losses_PR


def _verdict(gained: Gain) -> str:
    if np.isnan(gained.low):
        return "cannot be told"
    if gained.low > 0:
        return "adds"
    return "harms" if gained.high < 0 else "adds nothing that these rows can show"
