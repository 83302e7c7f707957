"""What a blend is worth on rows that nothing about it was fitted on.

Legend: M members, N rows, K outputs, F folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poolblend.competition.metrics import Scorer, UndefinedScoreError
from poolblend.ensembling.blenders import BLENDERS, by_simplicity
from poolblend.ensembling.fitting import (
    BlendOptions,
    Fitted,
    Form,
    choose_form,
    cross_fitted,
    fit_blends,
)
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import Mixture
from poolblend.ensembling.problem import StudyFile, Trial
from poolblend.errors import UserError


@dataclass(frozen=True, eq=False)
class Honest:
    """One blender's two scores; `optimism` is how much the in-sample one flatters.

    `mixture` is fitted on all rows and is the one to use; the f-th of `fold_mixtures` was fitted
    without the f-th fold (in rising order), weights, space, cuts and all, and made that fold's rows
    of `honest_pred_NK` and `honest_taken`, which is what the metric takes of them. Both scores are
    taken within folds where the metric compares rows with each other, since the folds' mixtures
    have no scale in common. `searches` are the trials on all rows by the output searched for (""
    for all).
    """

    in_sample: float
    honest: float
    optimism: float
    mixture: Mixture
    fold_mixtures: tuple[Mixture, ...]
    honest_pred_NK: np.ndarray
    honest_taken: np.ndarray
    searches: dict[str, tuple[Trial, ...]]

    @property
    def weights_M(self) -> np.ndarray:
        """Each member's share of the blend, averaged over outputs."""
        return self.mixture.share_M

    @property
    def fold_weights_FM(self) -> np.ndarray:
        """The members' shares when each fold in turn is left out."""
        return np.array([mixture.share_M for mixture in self.fold_mixtures])


@dataclass(frozen=True, eq=False)
class Comparison:
    """All blenders' reports on one matrix, the simplest first, and each member alone.

    `member_taken` holds what the metric takes of each member alone, in the matrix's order, its cuts
    cross-fitted where `form` has the blends' cuts fitted, so that a blend is not credited with what
    cuts alone would have gained.
    """

    matrix: OofMatrix
    scorer: Scorer
    options: BlendOptions
    form: Form
    reports: dict[str, Honest]
    member_taken: tuple[np.ndarray, ...]

    @property
    def member_losses(self) -> np.ndarray:
        """Each member's loss alone, (M,), infinite where the metric is undefined."""
        y, fold_N = self.matrix.y, self.matrix.fold_N
        return np.array([self.scorer.loss_or_inf(y, taken, fold_N) for taken in self.member_taken])


def compare(
    matrix: OofMatrix,
    scorer: Scorer,
    options: BlendOptions | None = None,
    *,
    studies: Path | None = None,
    progress: Callable[[], object] | None = None,
) -> Comparison:
    """Fit every blender on all rows and without each fold in turn, and score both.

    `equal` and `best` are always among them, as what the others are measured against; one member
    alone is only taken as it is. `progress` is called after each trial of a search, whose trials
    are kept in the folder `studies`. Raises UserError for a matrix of one fold.
    """
    options = options or BlendOptions()
    asked = options.fitters or tuple(BLENDERS)
    names = [name for name in by_simplicity() if name in {*asked, "equal", "best"}]
    for name in asked:
        BLENDERS[name]  # an unknown name is refused before anything is fitted
    if len(matrix.members) == 1:
        names = ["equal"]
    form = choose_form(matrix, scorer, options)
    folds = list(fold_masks(matrix))

    def fitted(part: OofMatrix, label: str, form: Form | None = None) -> dict[str, Fitted]:
        study = StudyFile(studies, label) if studies else None
        return fit_blends(names, part, scorer, options, form=form, study=study, progress=progress)

    whole = fitted(matrix, "all rows", form)
    without = []
    for fold, held_N in zip(np.unique(matrix.fold_N), folds, strict=True):
        try:
            without.append(fitted(matrix.rows(~held_N), f"without fold {fold}"))
        except UndefinedScoreError as error:
            raise UserError(f"no blend can be fitted without fold {fold}: {error}") from None
    reports = {
        name: _report(whole[name], [each[name] for each in without], matrix, scorer, folds)
        for name in names
    }
    plain = Form("plain", form.cuts)
    member_taken = tuple(
        cross_fitted(pred_NK[None], matrix.y, folds, scorer, plain) for pred_NK in matrix.oof_MNK
    )
    return Comparison(matrix, scorer, options, form, reports, member_taken)


def cross_fit(blender: str, matrix: OofMatrix, scorer: Scorer, options: BlendOptions) -> Honest:
    """One blender's report; nothing of its search is kept."""
    whole = fit_blends([blender], matrix, scorer, options)
    folds = list(fold_masks(matrix))
    without = [fit_blends([blender], matrix.rows(~held), scorer, options) for held in folds]
    return _report(whole[blender], [each[blender] for each in without], matrix, scorer, folds)


def fold_masks(matrix: OofMatrix) -> Iterator[np.ndarray]:
    """The rows of each fold, in rising order; UserError where there is only one."""
    folds = np.unique(matrix.fold_N)
    if len(folds) < 2:
        raise UserError(
            f"the members cover one fold only (fold {folds[0]}), expected two or more to score "
            "a blend honestly; train the other folds"
        )
    yield from (matrix.fold_N == fold for fold in folds)


def _report(
    whole: Fitted,
    without: list[Fitted],
    matrix: OofMatrix,
    scorer: Scorer,
    folds: list[np.ndarray],
) -> Honest:
    pred_NK = whole.mixture.apply(matrix.oof_MNK)
    taken = scorer.take(pred_NK, whole.mixture.cuts)
    honest_pred_NK, honest_taken = np.empty_like(pred_NK), np.empty_like(taken)
    for held_N, fitted in zip(folds, without, strict=True):
        held_NK = honest_pred_NK[held_N] = fitted.mixture.apply(matrix.oof_MNK[:, held_N])
        honest_taken[held_N] = scorer.take(held_NK, fitted.mixture.cuts)
    y, fold_N = matrix.y, matrix.fold_N
    return Honest(
        in_sample=scorer.score_taken(y, taken, fold_N),
        honest=scorer.score_taken(y, honest_taken, fold_N),
        optimism=scorer.loss_taken(y, honest_taken, fold_N) - scorer.loss_taken(y, taken, fold_N),
        mixture=whole.mixture,
        fold_mixtures=tuple(fitted.mixture for fitted in without),
        honest_pred_NK=honest_pred_NK,
        honest_taken=honest_taken,
        searches=whole.searches,
    )
