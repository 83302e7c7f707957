"""Each member's contribution: its score, the loss without it, the stability of its weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np
import pandas as pd

from poolblend.competition.metrics import Scorer, UndefinedScoreError
from poolblend.ensembling.costs import NothingAffordableError
from poolblend.ensembling.fitting import Form, choose_form, fit_blends
from poolblend.ensembling.honesty import cross_fit, fold_masks
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import fit_space
from poolblend.ensembling.options import Blend
from poolblend.ensembling.resampling import RESAMPLES, Gain, Resamples, draws
from poolblend.errors import UserError

# Each needs a fit; fewer do not give a range from 5 to 95 %.
REFITS = 30
MANY = 50  # members, of more than which a fit without each would take hours
WHOLE = ""  # in place of a member's name: the blend of all


def member_table(
    matrix: OofMatrix,
    scorer: Scorer,
    member_inputs: Sequence[np.ndarray],
    *,
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Each member's score alone with its 95 % interval: index member; score, low, high.

    NaN where the metric is undefined for a member, such as the correlation of a constant one.
    """
    sign = -1.0 if scorer.better == "max" else 1.0
    each = dict(zip(matrix.members, member_inputs, strict=True))
    losses = _resampled(matrix, each, scorer, seed, resamples)
    rows = {name: [sign * loss + 0.0, np.nan, np.nan] for name, loss in losses.loss.items()}
    for name, drawn_R in losses.drawn_R.items():
        rows[name][1:] = sorted(sign * np.quantile(drawn_R, [0.025, 0.975]) + 0.0)
    return _table(rows, ["score", "low", "high"])


def fold_scores(matrix: OofMatrix, scorer: Scorer, inputs: np.ndarray) -> list[float | None]:
    """The score of metric inputs within each fold, in rising order; None where it is undefined."""
    scores: list[float | None] = []
    for held_N in fold_masks(matrix):
        try:
            scores.append(scorer.score_inputs(matrix.y[held_N], inputs[held_N]))
        except UndefinedScoreError:
            scores.append(None)
    return scores


def leave_one_out(
    matrix: OofMatrix,
    scorer: Scorer,
    options: Blend,
    blender: str,
    honest_inputs: np.ndarray,
    *,
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """What the blend loses without each member: index member; value, low, high, verdict.

    `honest_inputs` is the blend's with all members; without each, `blender` is cross-fitted again.
    That is M times its cost: for a search or a bagged blender, give the name of a quicker one and
    its `honest_inputs`. The value is the honest loss without the member less that with it, so
    positive where the member helps, with a 95 % interval over resamples of rows that both share;
    NaN where the metric is undefined without the member, or nothing is left.
    """
    inputs: dict[str, np.ndarray | None] = {WHOLE: honest_inputs}
    many = blender == "equal" and len(matrix.members) > MANY and matrix.budget is None
    form = choose_form(matrix, scorer, options) if many else None
    if form is not None and not form.cuts:
        inputs |= zip(matrix.members, _equal_without_each(matrix, scorer, form), strict=True)
    else:
        for name in matrix.members:
            inputs[name] = _honest_without(matrix, name, scorer, options, blender, seed)
    losses = _resampled(matrix, inputs, scorer, seed, resamples)
    gains = {name: losses.gain(name, WHOLE) for name in matrix.members}
    table = _table(gains, list(Gain._fields))
    return table.assign(verdict=[_verdict(each) for each in gains.values()])


def weight_stability(
    matrix: OofMatrix,
    scorer: Scorer,
    options: Blend,
    blender: str,
    *,
    resamples: int = REFITS,
    seed: int = 42,
) -> np.ndarray:
    """Members' shares (R, M) of the blender fitted again on resamples of the rows or the groups.

    Copies of a row keep its fold, so that none is both fitted on and scored.
    Resamples on which the metric is undefined are left out; raises UserError where that leaves
    fewer than half.
    """
    weights_RM = []
    for row_N in draws(len(matrix.y), matrix.group_N, seed=seed, resamples=resamples):
        with suppress(UndefinedScoreError):
            fitted = fit_blends([blender], matrix.rows(row_N), scorer, options, seed=seed)
            weights_RM.append(fitted[blender].mixture.share_M)
    if 2 * len(weights_RM) < resamples:
        raise UserError(
            f"{scorer.name} is undefined on {resamples - len(weights_RM)} of {resamples} resamples "
            f"of {len(matrix.y)} rows, so the weights' stability cannot be estimated; add rows or "
            "use a metric that is always defined"
        )
    return np.array(weights_RM)


def stability_table(members: Sequence[str], weights_RM: np.ndarray) -> pd.DataFrame:
    """Resampled shares in short: index member; mean, low and high (5 and 95 %), zero (share)."""
    low_M, high_M = np.quantile(weights_RM, [0.05, 0.95], axis=0)
    columns = {"mean": weights_RM.mean(axis=0), "low": low_M, "high": high_M}
    columns["zero"] = (weights_RM == 0).mean(axis=0)
    return pd.DataFrame(columns, index=pd.Index(members, name="member"))


def _honest_without(
    matrix: OofMatrix, member: str, scorer: Scorer, options: Blend, blender: str, seed: int
) -> np.ndarray | None:
    """Metric inputs of the cross-fitted blend of the others; None without such a blend."""
    others = [name for name in matrix.members if name != member]
    with suppress(UndefinedScoreError, NothingAffordableError):
        if others:
            rest = matrix.subset(others)
            return cross_fit(blender, rest, scorer, options, seed=seed).honest_inputs
    return None


def _equal_without_each(matrix: OofMatrix, scorer: Scorer, form: Form) -> Iterator[np.ndarray]:
    """Metric inputs of the plain mean of the others, cross-fitted, without each member in turn.

    Of very many members: their sum less one of them, rather than a fit without it.
    """
    kind = scorer.task.kind
    z_MNK = np.empty(matrix.oof_MNK.shape)
    for held_N in fold_masks(matrix):
        space = fit_space(form.space, kind, matrix.oof_MNK[:, ~held_N])
        z_MNK[:, held_N] = space.forward(matrix.oof_MNK[:, held_N])
    total_NK = z_MNK.sum(axis=0)
    for z_NK in z_MNK:
        yield scorer.metric_inputs(space.inverse((total_NK - z_NK) / (len(z_MNK) - 1)))


def _resampled(
    matrix: OofMatrix,
    metric_inputs: Mapping[str, np.ndarray | None],
    scorer: Scorer,
    seed: int,
    resamples: int,
) -> Resamples:
    return Resamples(
        matrix.y,
        metric_inputs,
        scorer,
        fold_N=matrix.fold_N,
        group_N=matrix.group_N,
        seed=seed,
        resamples=resamples,
    )


def _table(rows: Mapping[str, Sequence[float]], columns: list[str]) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(dict(rows), orient="index", columns=columns)
    return table.rename_axis("member")


def _verdict(gained: Gain) -> str:
    if np.isnan(gained.low):
        return "unknown"
    if gained.low > 0:
        return "adds"
    return "harms" if gained.high < 0 else "adds nothing that these rows can show"
