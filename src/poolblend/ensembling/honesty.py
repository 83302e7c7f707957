"""What a blend is worth on rows its weights were not fitted on, and which blend to take.

Legend: M members, N rows, K outputs, F folds, R bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from poolblend.competition.metrics import Scorer, UndefinedScoreError
from poolblend.ensembling.blenders import (
    BLENDERS,
    BlendProblem,
    Trial,
    by_simplicity,
    mix,
)
from poolblend.ensembling.matrix import OofMatrix
from poolblend.errors import UserError, unknown

RESAMPLES = 400


@dataclass(frozen=True, eq=False)
class Honest:
    """One blender's two scores; `optimism` is how much the in-sample one flatters.

    `weights_M` are fitted on all rows and are the ones to use; row f of `fold_weights_FM` was
    fitted without the f-th fold (in rising order) and made that fold's rows of `honest_pred_NK`.
    """

    in_sample: float
    honest: float
    optimism: float
    weights_M: np.ndarray
    fold_weights_FM: np.ndarray
    honest_pred_NK: np.ndarray
    history: tuple[Trial, ...]


@dataclass(frozen=True)
class Choice:
    """The blender taken, and what it gains over the best single member, with a 95 % interval.

    A positive gain is better, whatever the metric's direction. The member is picked by its score
    on all rows, which can only flatter it, so noise does not pass for a gain. `fickle` counts the
    folds without which another would be picked: where there are any, the gain is understated.
    """

    blender: str
    automatic: bool
    metric: str
    honest: float
    member: str
    member_score: float
    gain: float
    low: float
    high: float
    fickle: int
    n_members: int
    n_folds: int


def cross_fit(
    blender: str,
    matrix: OofMatrix,
    scorer: Scorer,
    *,
    seed: int = 42,
    trials: int = 200,
    progress: Callable[[], object] | None = None,
) -> Honest:
    """Fit without each fold in turn, apply the weights to it, and score all rows together.

    `progress` is called after each trial of a search: trials * (folds + 1) times in all. Raises
    UserError for a matrix of one fold.
    """
    fit = BLENDERS[blender]
    folds = np.unique(matrix.fold_N)
    if len(folds) < 2:
        raise UserError(
            f"the members cover one fold only (fold {folds[0]}), expected two or more to score "
            "a blend honestly; train the other folds"
        )

    def problem(rows: np.ndarray | slice) -> BlendProblem:
        oof_MNK, y = matrix.oof_MNK[:, rows], matrix.y[rows]
        return BlendProblem(oof_MNK, y, scorer, seed, trials, progress)

    whole = fit(problem(slice(None)))
    honest_pred_NK = np.empty(matrix.oof_MNK.shape[1:])
    fold_weights = []
    for fold in folds:
        held_N = matrix.fold_N == fold
        fold_weights.append(fit(problem(~held_N)).weights_M)
        honest_pred_NK[held_N] = mix(fold_weights[-1], matrix.oof_MNK[:, held_N])
    pred_NK = mix(whole.weights_M, matrix.oof_MNK)
    return Honest(
        in_sample=scorer.score(matrix.y, pred_NK),
        honest=scorer.score(matrix.y, honest_pred_NK),
        optimism=scorer.loss(matrix.y, honest_pred_NK) - scorer.loss(matrix.y, pred_NK),
        weights_M=whole.weights_M,
        fold_weights_FM=np.array(fold_weights),
        honest_pred_NK=honest_pred_NK,
        history=whole.history,
    )


def compare(
    matrix: OofMatrix,
    scorer: Scorer,
    *,
    blenders: Iterable[str] | None = None,
    seed: int = 42,
    trials: int = 200,
    progress: Callable[[], object] | None = None,
) -> dict[str, Honest]:
    """`cross_fit` of the named blenders (default: all), the simplest first."""
    wanted = {BLENDERS[name].name for name in (BLENDERS if blenders is None else blenders)}
    return {
        name: cross_fit(name, matrix, scorer, seed=seed, trials=trials, progress=progress)
        for name in by_simplicity()
        if name in wanted
    }


def choose(
    reports: Mapping[str, Honest],
    matrix: OofMatrix,
    scorer: Scorer,
    blender: str = "auto",
    *,
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> Choice:
    """Take the blender asked for, or the simplest within one standard error of the best honest one.

    The standard error is that of the paired difference under a bootstrap over rows (Breiman et
    al. 1984, sec. 3.4.3, for the rule); the interval is the bootstrap's middle 95 %. Raises
    UserError for a blender without a report.
    """
    if blender != "auto" and blender not in reports:
        raise unknown("blender", blender, ["auto", *reports])
    single = reports.get("best") or cross_fit("best", matrix, scorer)
    m = int(single.weights_M.argmax())
    pred = {name: reports[name].honest_pred_NK for name in reports if blender in ("auto", name)}
    loss = {name: scorer.loss(matrix.y, pred[name]) for name in pred}
    single_R, *drawn = bootstrap(
        matrix.y, [matrix.oof_MNK[m], *pred.values()], scorer, seed=seed, resamples=resamples
    )
    drawn_R = dict(zip(pred, drawn, strict=True))
    name = _simplest_within_noise(loss, drawn_R)
    low, high = np.quantile(single_R - drawn_R[name], [0.025, 0.975])
    return Choice(
        blender=name,
        automatic=blender == "auto",
        metric=scorer.name,
        honest=reports[name].honest,
        member=matrix.members[m],
        member_score=single.in_sample,
        gain=scorer.loss(matrix.y, matrix.oof_MNK[m]) - loss[name],
        low=float(low),
        high=float(high),
        fickle=int((single.fold_weights_FM.argmax(axis=1) != m).sum()),
        n_members=len(matrix.members),
        n_folds=len(single.fold_weights_FM),
    )


def bootstrap(
    y: np.ndarray,
    preds: Iterable[np.ndarray],
    scorer: Scorer,
    *,
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """Losses (P, R) of P predictions under the same R draws of rows, with replacement.

    Draws on which the metric is undefined (one class only, constant values) are left out; raises
    UserError when that leaves fewer than half.
    """
    rng = np.random.default_rng(seed)
    each = list(preds)
    losses = []
    for _ in range(resamples):
        row_N = rng.integers(len(y), size=len(y))
        try:
            losses.append([scorer.loss(y[row_N], pred_NK[row_N]) for pred_NK in each])
        except UndefinedScoreError:
            continue
    if 2 * len(losses) < resamples:
        raise UserError(
            f"{scorer.name} is undefined on {resamples - len(losses)} of {resamples} bootstrap "
            f"resamples of {len(y)} rows, so no interval can be given; add rows or take a metric "
            "that is always defined"
        )
    return np.array(losses).T


def sentence(choice: Choice) -> str:
    """What was chosen, what it gains over the best single member, and whether that is noise."""
    if choice.n_members == 1:
        return (
            f"One member, {choice.member}: nothing to blend; its honest {choice.metric} is "
            f"{choice.honest:.4f}."
        )
    how = (
        "the simplest blend within one standard error of the best honest score"
        if choice.automatic
        else "as asked"
    )
    if choice.low > 0:
        verdict = "distinguishable from zero"
    elif choice.high < 0:
        verdict = "below zero: blending buys nothing here"
    else:
        verdict = "not distinguishable from zero: blending buys nothing that these rows can show"
    understated = (
        f" (Another member would be the best without {choice.fickle} of the {choice.n_folds} "
        "folds: picking it on these rows flatters it, and understates the gain.)"
        if choice.fickle
        else ""
    )
    return (
        f"Chose {choice.blender}, {how}: honest {choice.metric} {choice.honest:.4f} against "
        f"{choice.member_score:.4f} of the best single member, {choice.member}; "
        f"a gain of {choice.gain:+.4f} (95 % interval {choice.low:+.4f} to {choice.high:+.4f}), "
        f"{verdict}.{understated}"
    )


def _simplest_within_noise(loss: Mapping[str, float], drawn_R: Mapping[str, np.ndarray]) -> str:
    leader = min(loss, key=lambda name: loss[name])
    return next(
        name
        for name in by_simplicity()
        if name in loss
        and loss[name] - loss[leader] <= np.std(drawn_R[name] - drawn_R[leader], ddof=1)
    )
