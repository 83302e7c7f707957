"""Honest scores: each blend scored on rows that were not used to fit it.

Shapes: F folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from poolblend.competition.metrics import Scorer, UndefinedScoreError
from poolblend.ensembling.blenders import BLENDERS, by_simplicity
from poolblend.ensembling.fitting import (
    Fitted,
    Form,
    choose_form,
    cross_fitted,
    fit_blends,
    in_row_order,
)
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import Mixture
from poolblend.ensembling.options import Blend
from poolblend.ensembling.problem import Trial
from poolblend.errors import UserError


@dataclass(frozen=True, eq=False)
class Honest:
    """One blender's two scores; `optimism` is how much better the in-sample one is.

    `mixture` is fitted on all rows and is the one to use. The f-th of `fold_mixtures` was fitted
    without the f-th fold (in rising order), including space and cuts. It predicted that fold's rows
    of `honest_pred_NK`, of which `honest_inputs` are the metric's inputs. A metric that compares
    rows with each other is computed within folds, since the folds' mixtures have no common scale.
    `searches` are the trials on all rows by the output searched for ("" for all).
    """

    in_sample: float
    honest: float
    optimism: float
    mixture: Mixture
    fold_mixtures: tuple[Mixture, ...]
    honest_pred_NK: np.ndarray
    honest_inputs: np.ndarray
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

    `member_inputs` holds the metric inputs of each member alone, in the matrix's order. Their cuts
    are cross-fitted where `form` has fitted cuts, so that a blend gets no credit for what cuts
    alone would gain.
    """

    matrix: OofMatrix
    scorer: Scorer
    options: Blend
    seed: int
    form: Form
    reports: dict[str, Honest]
    member_inputs: tuple[np.ndarray, ...]

    def rows(self, row_N: np.ndarray) -> Comparison:
        """The same mixtures and scores, with the predictions of some rows, by position."""
        reports = {
            name: replace(
                report,
                honest_pred_NK=report.honest_pred_NK[row_N],
                honest_inputs=report.honest_inputs[row_N],
            )
            for name, report in self.reports.items()
        }
        inputs = tuple(each[row_N] for each in self.member_inputs)
        matrix = self.matrix.rows(row_N)
        return replace(self, matrix=matrix, reports=reports, member_inputs=inputs)

    @property
    def member_losses(self) -> np.ndarray:
        """Each member's loss alone, (M,), infinite where the metric is undefined."""
        y, fold_N = self.matrix.y, self.matrix.fold_N
        return np.array(
            [self.scorer.loss_or_inf(y, inputs, fold_N) for inputs in self.member_inputs]
        )


def compare(
    matrix: OofMatrix,
    scorer: Scorer,
    options: Blend | None = None,
    *,
    seed: int = 42,
    progress: Callable[[], object] | None = None,
) -> Comparison:
    """Fit every blender on all rows and without each fold in turn, and score both.

    `equal` and `best` are always included, since the others are compared with them; for one member
    alone, only `equal` is. `progress` is called after each trial of a search. Raises UserError for
    a matrix of one fold.
    """
    options = options or Blend()
    wanted = {*(options.fitters or BLENDERS), "equal", "best"}
    names = [name for name in by_simplicity() if name in wanted]
    if len(matrix.members) == 1:
        names = ["equal"]
    form = choose_form(matrix, scorer, options)
    folds = fold_masks(matrix)
    whole = fit_blends(names, matrix, scorer, options, seed=seed, form=form, progress=progress)
    without = list(fits_without_folds(names, matrix, scorer, options, seed, progress))
    reports = {
        name: _report(whole[name], [each[name] for each in without], matrix, scorer, folds)
        for name in names
    }
    plain = Form("plain", form.cuts)
    member_inputs = tuple(
        cross_fitted(pred_NK[None], matrix.y, folds, scorer, plain) for pred_NK in matrix.oof_MNK
    )
    return Comparison(matrix, scorer, options, seed, form, reports, member_inputs)


def cross_fit(
    blender: str, matrix: OofMatrix, scorer: Scorer, options: Blend, *, seed: int = 42
) -> Honest:
    """One blender's report."""
    whole = fit_blends([blender], matrix, scorer, options, seed=seed)[blender]
    without = [
        fitted[blender] for fitted in fits_without_folds([blender], matrix, scorer, options, seed)
    ]
    return _report(whole, without, matrix, scorer, fold_masks(matrix))


def fits_without_folds(
    names: Sequence[str],
    matrix: OofMatrix,
    scorer: Scorer,
    options: Blend,
    seed: int = 42,
    progress: Callable[[], object] | None = None,
) -> Iterator[dict[str, Fitted]]:
    """The named blenders fitted without each fold in turn, in rising order."""
    for fold, held_N in zip(np.unique(matrix.fold_N), fold_masks(matrix), strict=True):
        others = matrix.rows(~held_N)
        try:
            yield fit_blends(names, others, scorer, options, seed=seed, progress=progress)
        except UndefinedScoreError as error:
            reason = f"no blend can be fitted without fold {fold}: {error}"
            raise UndefinedScoreError(reason, error.column) from None


def fold_masks(matrix: OofMatrix) -> list[np.ndarray]:
    """The rows of each fold, in rising order; UserError where there is only one."""
    folds = np.unique(matrix.fold_N)
    if len(folds) < 2:
        raise UserError(
            f"the members cover one fold only (fold {folds[0]}), expected two or more to score "
            "a blend honestly; train the other folds"
        )
    return [matrix.fold_N == fold for fold in folds]


def _report(
    whole: Fitted,
    without: Sequence[Fitted],
    matrix: OofMatrix,
    scorer: Scorer,
    folds: Sequence[np.ndarray],
) -> Honest:
    inputs = scorer.metric_inputs(whole.mixture.apply(matrix.oof_MNK), whole.mixture.cuts)
    mixtures = tuple(fitted.mixture for fitted in without)
    held_preds, held_inputs = [], []
    for held_N, mixture in zip(folds, mixtures, strict=True):
        held_preds.append(mixture.apply(matrix.oof_MNK[:, held_N]))
        held_inputs.append(scorer.metric_inputs(held_preds[-1], mixture.cuts))
    honest_inputs = in_row_order(held_inputs, folds)
    in_sample, honest, optimism = two_scores(matrix, scorer, inputs, honest_inputs)
    return Honest(
        in_sample=in_sample,
        honest=honest,
        optimism=optimism,
        mixture=whole.mixture,
        fold_mixtures=mixtures,
        honest_pred_NK=in_row_order(held_preds, folds),
        honest_inputs=honest_inputs,
        searches=whole.searches,
    )


def two_scores(
    matrix: OofMatrix, scorer: Scorer, inputs: np.ndarray, honest_inputs: np.ndarray
) -> tuple[float, float, float]:
    """The in-sample score, the honest score, and the optimism."""
    y, fold_N = matrix.y, matrix.fold_N
    in_sample, honest = (scorer.score_inputs(y, each, fold_N) for each in (inputs, honest_inputs))
    return in_sample, honest, in_sample - honest if scorer.better == "max" else honest - in_sample
