"""`blend.py`: the OOF matrix, every blender's honest score, the choice, and the blend card."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from poolblend.cards.blend import BlendCard
from poolblend.competition.cuts import has_cuts
from poolblend.competition.metrics import Scorer
from poolblend.competition.templates import text_columns
from poolblend.config import Config
from poolblend.ensembling import compact, contributions
from poolblend.ensembling.blenders import BLENDERS
from poolblend.ensembling.choice import Choice, choose
from poolblend.ensembling.honesty import Comparison, Honest, compare, cross_fit
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.slices import length_bins, slice_sentence, slice_table, slices
from poolblend.ensembling.study import make_study
from poolblend.errors import UserError
from poolblend.loading.blend_members import Members, gather
from poolblend.loading.competition import open_store
from poolblend.report.blend_card import blend_card
from poolblend.report.tables import show
from poolblend.store import Store
from poolblend.store.probe import COPIED, check_writable

if TYPE_CHECKING:
    from poolblend.report.pictures import Pictures

log = logging.getLogger(__name__)

TEXT_LENGTH = "words of text"
BEST_MEMBER = "best member"  # in slice tables; a member's own name may be that of a column
# The quick blender that stands for one too slow to be fitted again and again.
QUICK = "convex"
STACK = "stack"
# Beyond as many members, leaving each out in turn takes minutes of any fit.
MANY = 50


@dataclass(frozen=True, eq=False)
class Blend:
    """What a blend was made of and what came out; `card` is what was written.

    `members` has each member's score alone with its interval, `without` what the blend loses when
    it is left out, `refits_RM` the weights of the blender `refitted` on resampled rows, `slices` a
    table of scores per column.
    """

    store: Store
    comparison: Comparison
    choice: Choice
    members: pd.DataFrame
    without: pd.DataFrame
    refitted: str
    refits_RM: np.ndarray
    slices: dict[str, pd.DataFrame]
    card: BlendCard

    def __str__(self) -> str:
        """The tables and the sentence, as blend.py prints them."""
        return show(self.card)

    @property
    def matrix(self) -> OofMatrix:
        return self.comparison.matrix

    @property
    def reports(self) -> dict[str, Honest]:
        return self.comparison.reports

    @property
    def used(self) -> Honest:
        """The report of the blender taken."""
        return self.reports[self.choice.blender]

    @property
    def pictures(self) -> Pictures:
        """Draws what is here; each picture is also saved."""
        from poolblend.report.pictures import Pictures

        return Pictures(self)


def blend(
    config: Config, *, members: Sequence[str] | None, members_from: Path | None = None
) -> Blend:
    """Blend the named members, or all in the store and in `members_from`; write the blend card.

    Raises UserError, before anything is fitted, for members that are unknown, incomplete, or
    made from other data or folds.
    """
    store = open_store(config)
    gathered = gather(config, store, members, members_from)
    check_writable([store.blend_path.parent], COPIED)
    matrix, scorer = gathered.matrix, gathered.competition.scorer
    settings = config.blend
    if settings.thresholds == "fitted" and not has_cuts(scorer):
        raise UserError(
            f"blend.thresholds=fitted does nothing with {scorer.name}, which needs no decisions; "
            "leave it out"
        )
    slicing = _slicing(config, gathered)
    fitters, matrix, scorer = _within_reach(config, matrix, scorer)
    options = settings.model_copy(update={"fitters": list(fitters)})
    compared = options.fitters or BLENDERS
    searches = len(matrix.members) > 1 and any(BLENDERS[name].searches for name in compared)
    parts = len(matrix.outputs) if settings.weights == "per_output" else 1
    each = max(1, settings.trials // parts) * parts
    total = each * (gathered.competition.n_folds + 1) if searches else None
    bar = tqdm(total=total, desc="optuna", unit="trial", disable=None if total else True)
    # Thousands of small matrix products: on more threads they mostly wait for each other.
    with bar, threadpool_limits(1, "blas"):
        comparison = compare(matrix, scorer, options, seed=config.seed, progress=bar.update)
        choice = choose(comparison, settings.fitter, resamples=settings.resamples)
        result = _look_into(config, store, gathered, comparison, choice, slicing)
    store.write_blend(result.card)
    log.info("blend card: %s", store.blend_path)
    if settings.study:
        _write_studies(store, comparison)
    return result


def _write_studies(store: Store, comparison: Comparison) -> None:
    """Keep the searches on all rows, a study per output where each has weights of its own."""
    searches = [
        (f"{store.run}: {output}" if output else store.run, trials)
        for report in comparison.reports.values()
        for output, trials in report.searches.items()
    ]
    if not searches:
        log.warning("blend.study=true: no search ran, so there is no study to write")
        return
    members, better = comparison.matrix.members, comparison.scorer.better
    with store.study_journal() as journal:
        for name, trials in searches:
            make_study(trials, members, better, name=name, storage=journal)
    log.info("Optuna's study: %s", store.study_path)


def _fitters(config: Config) -> tuple[str, ...]:
    """The blenders to compare, the one asked for among them; none for all."""
    listed = config.blend.fitters
    asked = [] if config.blend.fitter == "auto" else [config.blend.fitter]
    return tuple(dict.fromkeys([*listed, *asked])) if listed else ()


def _within_reach(
    config: Config, matrix: OofMatrix, scorer: Scorer
) -> tuple[tuple[str, ...], OofMatrix, Scorer]:
    """The blenders to compare, and on what; where both take long, that is said, or less is done.

    The rule goes by size and never by the clock, so that every machine finds the same blend.
    """
    fitters = _fitters(config)
    if not compact.is_large(matrix):
        return fitters, matrix, scorer
    members, rows, columns = matrix.oof_MNK.shape
    size = f"{members} members, {rows} rows, {columns} outputs"
    if STACK in (*fitters, config.blend.fitter):
        log.info("%s: %s, with a number to learn for each output, may take hours", size, STACK)
        return fitters, matrix, scorer
    if not fitters:
        fitters = tuple(name for name in BLENDERS if name != STACK)
        log.info(
            "%s: %s, with a number to learn for each output, is not compared; name it in "
            "blend.fitters to have it",
            size,
            STACK,
        )
    if not compact.is_compactable(matrix, scorer):
        log.info("%s: this may take long; blend.fitters=[equal,best,convex] is quicker", size)
        return fitters, matrix, scorer
    log.info(
        "weights are fitted on the %d likeliest of each row's %d classes and a sample of the "
        "others; the blends' scores are of all classes",
        compact.KEPT,
        columns,
    )
    return fitters, *compact.compacted(matrix, scorer)


def _slicing(config: Config, gathered: Members) -> dict[str, pd.Categorical]:
    """The slice of each of the matrix's rows, by text length and by the columns asked for."""
    tables = gathered.competition.tables
    train = tables.train.set_index(tables.id, drop=False).loc[gathered.matrix.ids_N]
    texts = train[text_columns(config.data.text)].agg(" ".join, axis=1)
    found = {TEXT_LENGTH: length_bins(texts)}
    return found | {column: slices(train[column]) for column in config.blend.slices}


def _look_into(
    config: Config,
    store: Store,
    gathered: Members,
    comparison: Comparison,
    choice: Choice,
    slicing: dict[str, pd.Categorical],
) -> Blend:
    """What each member brings, how firm the weights are, where the blend is weak; and the card."""
    matrix, scorer, options = comparison.matrix, comparison.scorer, comparison.options
    seed, resamples = config.seed, config.blend.resamples
    told = contributions.member_table(
        matrix, scorer, comparison.member_taken, seed=seed, resamples=resamples
    )
    quick = choice.blender if BLENDERS[choice.blender].quick else QUICK
    if choice.n_members > MANY:
        quick = "equal"
    # The form is chosen already, for the many small fits that tell members apart.
    form = comparison.form
    thresholds = "fitted" if form.cuts else "default"
    settled = options.model_copy(update={"space": form.space, "thresholds": thresholds})
    whole = cross_fit(quick, matrix, scorer, settled, seed=seed)
    without = contributions.leave_one_out(
        matrix, scorer, settled, quick, whole.honest_taken, seed=seed, resamples=resamples
    )
    refitted = QUICK if quick in ("equal", "best") else quick
    refits_RM = contributions.weight_stability(matrix, scorer, settled, refitted, seed=seed)
    tables = _slice_tables(comparison, choice, slicing, seed, resamples)
    stability = contributions.stability_table(matrix.members, refits_RM)
    sentences = {
        column: slice_sentence(table, choice.blender, choice.member, column)
        for column, table in tables.items()
        if choice.n_members > 1
    }
    if gathered.matrix is not matrix:
        whole_scorer = gathered.competition.scorer
        comparison, choice = compact.expanded(comparison, choice, gathered.matrix, whole_scorer)
    card = blend_card(
        config,
        gathered,
        comparison,
        choice,
        scores=told,
        without=without,
        without_blender=quick,
        stability=stability,
        refitted_blender=refitted,
        slices=sentences,
    )
    return Blend(store, comparison, choice, told, without, refitted, refits_RM, tables, card)


def _slice_tables(
    comparison: Comparison,
    choice: Choice,
    slicing: dict[str, pd.Categorical],
    seed: int,
    resamples: int,
) -> dict[str, pd.DataFrame]:
    """Where the blend, equal weights and the best member score how, per column of slices."""
    matrix, scorer = comparison.matrix, comparison.scorer
    taken = {
        BEST_MEMBER: comparison.member_taken[matrix.members.index(choice.member)],
        **{n: comparison.reports[n].honest_taken for n in ("equal", choice.blender)},
    }
    return {
        column: slice_table(
            matrix.y,
            taken,
            scorer,
            slice_N,
            reference=BEST_MEMBER,
            fold_N=matrix.fold_N,
            group_N=matrix.group_N,
            seed=seed,
            resamples=resamples,
        )
        for column, slice_N in slicing.items()
    }
