"""Fit blenders on a matrix: in a space, with or without cuts, for all outputs or for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from poolblend.competition.cuts import fit_cuts, has_cuts
from poolblend.competition.metrics import Scorer
from poolblend.ensembling.blenders import BLENDERS, by_simplicity
from poolblend.ensembling.budget import choose_members
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import SPACES, Mixture, Space, fit_space, mix
from poolblend.ensembling.options import Blend
from poolblend.ensembling.problem import (
    BlendFit,
    BlendProblem,
    Trial,
    equal_weights,
    inner_folds,
    starting_blenders,
)
from poolblend.ensembling.resampling import Resamples
from poolblend.errors import UserError

BEST = "best"
FORM_RESAMPLES = 30  # for a standard error; quantiles need more


class Form(NamedTuple):
    """What is decided before weights are fitted: the space, and whether cuts are fitted."""

    space: str
    cuts: bool


class Fitted(NamedTuple):
    """A blender's mixture, and its searches' trials by the output searched for ("" for all)."""

    mixture: Mixture
    searches: dict[str, tuple[Trial, ...]]


def fit_blends(
    names: Sequence[str],
    matrix: OofMatrix,
    scorer: Scorer,
    options: Blend,
    *,
    seed: int = 42,
    form: Form | None = None,
    progress: Callable[[], object] | None = None,
) -> dict[str, Fitted]:
    """Fit the named blenders on all rows of the matrix, the simplest first.

    Everything is learned from these rows, the space and the cuts too unless `form` gives them.
    With a budget that binds, so is the choice of members: only those that it allows get weight.
    Raises UserError where the metric does not allow weights per output.
    """
    form = form or choose_form(matrix, scorer, options)
    if matrix.budget is not None and matrix.budget.binds:
        return _fit_within_budget(names, matrix, scorer, options, seed, form, progress)
    parts = list(_parts(matrix, scorer, options))
    fits: list[dict[str, BlendFit]] = [{} for _ in parts]
    spaces: dict[str, tuple[Space, np.ndarray]] = {}
    fitted = {}
    for name in _with_starts(names):
        space_name = _space_of(name, form, scorer.task.kind)
        if space_name not in spaces:
            space = fit_space(space_name, scorer.task.kind, matrix.oof_MNK)
            spaces[space_name] = space, space.forward(matrix.oof_MNK)
        space, z_MNK = spaces[space_name]
        for part, made in zip(parts, fits, strict=True):
            problem = BlendProblem(
                z_MNK if part.k is None else np.ascontiguousarray(z_MNK[:, :, [part.k]]),
                part.y,
                matrix.fold_N,
                part.scorer,
                Space(space.name, part.scorer.task.kind),
                cuts=form.cuts,
                seed=seed,
                trials=max(1, options.trials // len(parts)),
                progress=progress,
                starts=dict(made),
            )
            made[name] = BLENDERS[name](problem)
        if name in names:
            made_of = {part.output: made[name] for part, made in zip(parts, fits, strict=True)}
            mixture = _joined(made_of, space, matrix)
            if _fits_cuts(name, mixture, matrix, scorer, options, form):
                cuts = fit_cuts(scorer, matrix.y, mixture.apply(matrix.oof_MNK))
                mixture = replace(mixture, cuts=cuts)
            searches = {output: fit.history for output, fit in made_of.items() if fit.history}
            fitted[name] = Fitted(mixture, searches)
    return fitted


def _fit_within_budget(
    names: Sequence[str],
    matrix: OofMatrix,
    scorer: Scorer,
    options: Blend,
    seed: int,
    form: Form,
    progress: Callable[[], object] | None,
) -> dict[str, Fitted]:
    """Fits of the members that the budget allows; the best single member is of all allowed ones."""
    budget, kind = matrix.budget, scorer.task.kind
    assert budget is not None
    space = fit_space(form.space, kind, matrix.oof_MNK)
    z_MNK = space.forward(matrix.oof_MNK)
    shared = Space(space.name, kind)
    problem = BlendProblem(z_MNK, matrix.y, matrix.fold_N, scorer, shared, cuts=form.cuts)
    others = [name for name in names if name != BEST]
    groups = [([BEST], budget.alone)] if BEST in names else []
    groups += [(others, choose_members(problem, budget))] if others else []
    fitted: dict[str, Fitted] = {}
    for some, kept in groups:
        rest = replace(matrix.subset([matrix.members[m] for m in kept]), budget=None)
        fits = fit_blends(some, rest, scorer, options, seed=seed, form=form, progress=progress)
        fitted |= {name: _of_all_members(fit, kept, matrix, kind) for name, fit in fits.items()}
    return {name: fitted[name] for name in by_simplicity() if name in fitted}


def _of_all_members(fit: Fitted, kept: Sequence[int], matrix: OofMatrix, kind: str) -> Fitted:
    """The fit of the kept members as one of all members, of which the others have no weight."""
    M, mixture = len(matrix.members), fit.mixture
    weights_MK = np.zeros((M, mixture.weights_MK.shape[1]))
    weights_MK[kept] = mixture.weights_MK

    def widened(trial: Trial) -> Trial:
        weights_M = np.zeros(M)
        weights_M[kept] = trial.weights_M
        return trial._replace(weights_M=tuple(weights_M.tolist()))

    return Fitted(
        replace(
            mixture,
            space=fit_space(mixture.space.name, kind, matrix.oof_MNK),
            weights_MK=weights_MK,
        ),
        {output: tuple(map(widened, trials)) for output, trials in fit.searches.items()},
    )


def choose_form(matrix: OofMatrix, scorer: Scorer, options: Blend) -> Form:
    """The simplest space and treatment of cuts within one standard error of the best.

    Each is scored with the equal blend, on rows on which neither cuts nor ranks were fitted. The
    standard error is that of the paired difference under a bootstrap over rows or groups.
    """
    simplest, *others = forms = _forms(scorer, options)
    if not others:
        return simplest
    y, fold_N = matrix.y, inner_folds(matrix.fold_N)
    folds = [fold_N == fold for fold in np.unique(fold_N)]
    inputs = {form: cross_fitted(matrix.oof_MNK, y, folds, scorer, form) for form in forms}
    losses = {form: scorer.loss_or_inf(y, inputs[form], fold_N) for form in forms}
    leader = min(forms, key=losses.__getitem__)  # of equals, the simplest
    named = {f"{form.space} {form.cuts}": form for form in forms[: forms.index(leader) + 1]}
    if len(named) == 1:
        return simplest
    try:
        pairs = Resamples(
            y,
            {name: inputs[form] for name, form in named.items()},
            scorer,
            fold_N=fold_N,
            group_N=matrix.group_N,
            resamples=FORM_RESAMPLES,
        )
    except UserError:  # the metric is undefined on most resamples
        return simplest
    return named.get(pairs.simplest(named) or "", simplest)


def _fits_cuts(
    name: str, mixture: Mixture, matrix: OofMatrix, scorer: Scorer, options: Blend, form: Form
) -> bool:
    """Whether cuts are fitted: as the form says, but the best member decides for itself.

    What suits the equal blend may not suit a member alone, which would then seem worse than it is.
    """
    if name != BEST:
        return form.cuts
    pred_MNK = mixture.apply(matrix.oof_MNK)[None]
    alone = replace(matrix, oof_MNK=pred_MNK, members=(BEST,), budget=None)
    return choose_form(alone, scorer, options.model_copy(update={"space": "plain"})).cuts


def cross_fitted(
    oof_MNK: np.ndarray,
    y: np.ndarray,
    folds: Sequence[np.ndarray],
    scorer: Scorer,
    form: Form,
) -> np.ndarray:
    """Metric inputs of the members' plain mean; ranks and cuts come from the other folds.

    `folds` are masks (N,) of rows that together are all rows.
    """
    weights_M = equal_weights(len(oof_MNK))
    parts = []
    for held_N in folds:
        others_MNK, cuts = oof_MNK[:, ~held_N], None
        space = fit_space(form.space, scorer.task.kind, others_MNK)
        if form.cuts:
            others_NK = space.inverse(mix(weights_M, space.forward(others_MNK)))
            cuts = fit_cuts(scorer, y[~held_N], others_NK)
        held_NK = space.inverse(mix(weights_M, space.forward(oof_MNK[:, held_N])))
        parts.append(scorer.metric_inputs(held_NK, cuts))
    return in_row_order(parts, folds)


def in_row_order(parts: Sequence[np.ndarray], folds: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of each fold's rows put together; `folds` are masks (N,) of rows."""
    row_N = np.concatenate([np.flatnonzero(held_N) for held_N in folds])
    joined = np.concatenate(parts)
    ordered = np.empty_like(joined)
    ordered[row_N] = joined
    return ordered


class _Part(NamedTuple):
    """One set of weights to fit: for the k-th output, or for all (None, "")."""

    k: int | None
    y: np.ndarray
    scorer: Scorer
    output: str


def _parts(matrix: OofMatrix, scorer: Scorer, options: Blend) -> Iterator[_Part]:
    if options.weights == "shared" or len(matrix.outputs) == 1:
        yield _Part(None, matrix.y, scorer, "")
        return
    for k, output in enumerate(matrix.outputs):
        single = scorer.of_output(k)
        y = matrix.y[:, k] if single.task.kind == "binary" else matrix.y[:, [k]]
        yield _Part(k, y, single, output)


def _forms(scorer: Scorer, options: Blend) -> list[Form]:
    """All forms that the options allow, the simplest first."""
    spaces = SPACES[scorer.task.kind] if options.space == "auto" else (options.space,)
    fitted = {"auto": (False, True), "fitted": (True,), "default": (False,)}[options.thresholds]
    cuts = fitted if has_cuts(scorer) else (False,)
    forms = [Form(space, each) for each in cuts for space in spaces]
    # Ranks are neither probabilities nor values: only their order and fitted cuts are meaningful.
    useful = [
        form for form in forms if form.space != "rank" or form.cuts or scorer.metric.rank_based
    ]
    if not useful:
        remedy = "blend.thresholds=fitted" if has_cuts(scorer) else "another blend.space"
        raise UserError(
            f"blend.space=rank keeps only the order of predictions, but {scorer.name} needs more; "
            f"use {remedy}"
        )
    return useful


def _with_starts(names: Sequence[str]) -> list[str]:
    """The named blenders and those that a search among them starts from, the simplest first."""
    searching = [name for name in names if BLENDERS[name].searches]
    wanted = {*names, *(starting_blenders() if searching else ())}
    return [name for name in by_simplicity() if name in wanted]


def _space_of(name: str, form: Form, kind: str) -> str:
    """A blender's own space; plain values for one member alone, or where a task has no logits."""
    if name == BEST:
        return "plain"
    own = BLENDERS[name].space
    if own is None:
        return form.space
    return own if own in SPACES[kind] else "plain"


def _joined(fits: dict[str, BlendFit], space: Space, matrix: OofMatrix) -> Mixture:
    """One mixture, without cuts, from one fit for all outputs, or from one for each."""
    K = len(matrix.outputs)
    weights_MK = np.stack([fit.weights_M for fit in fits.values()], axis=1)
    intercepts = [
        np.zeros(1) if fit.intercept_K is None else fit.intercept_K for fit in fits.values()
    ]
    return Mixture(
        space,
        np.broadcast_to(weights_MK, (len(weights_MK), K)).copy(),
        np.broadcast_to(np.concatenate(intercepts), (K,)).copy(),
    )
