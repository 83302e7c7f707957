"""`blend.py`: the OOF matrix, every blender's honest score, the choice, and the blend card."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from poolblend.competition.cuts import has_cuts
from poolblend.competition.metrics import Scorer
from poolblend.config import Config
from poolblend.ensembling import compact
from poolblend.ensembling.blenders import BLENDERS
from poolblend.ensembling.choice import choose
from poolblend.ensembling.honesty import Comparison, compare
from poolblend.ensembling.many_rows import rows_to_look_at, sample_rows, score_on_all
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.options import Blend
from poolblend.ensembling.study import make_study
from poolblend.errors import UserError
from poolblend.loading.blend_members import Members, gather
from poolblend.loading.competition import open_store
from poolblend.loading.prediction_costs import with_budget
from poolblend.report.blend_card import blend_card
from poolblend.report.budget import budget_use
from poolblend.report.findings import look_into, row_slices
from poolblend.report.result import BlendResult
from poolblend.store import Store
from poolblend.store.probe import COPIED, check_writable

log = logging.getLogger(__name__)

STACK = "stack"


def blend(
    config: Config, *, members: Sequence[str] | None = None, members_from: str | None = None
) -> BlendResult:
    """Fit blend weights over the members' OOF predictions, score them, and write the blend card.

    Without `members` all complete ones are blended. `members_from` is a folder of OOF files that
    other tools wrote, one per member. Raises UserError, before anything is fitted, for members that
    are unknown, incomplete, or made from other data or folds.
    """
    store = open_store(config)
    folder = Path(members_from).expanduser() if members_from else None
    gathered = gather(config, store, members, folder)
    check_writable([store.blend_path.parent], COPIED)
    _check_thresholds(config, gathered.competition.scorer)
    if config.budget_seconds is not None:
        rows = config.blend.budget_rows or len(gathered.competition.tables.test)
        gathered = with_budget(store, gathered, config.budget_seconds, rows)
    result = _compare_and_choose(config, gathered, store)
    store.write_blend(result.card)
    log.info("blend card: %s", store.blend_path)
    if config.blend.study:
        _write_studies(store, result.comparison)
    return result


def _compare_and_choose(config: Config, gathered: Members, store: Store) -> BlendResult:
    """All that is found out about the members and their blends; nothing is written."""
    sample, fitted_rows = sample_rows(gathered.matrix), None
    if sample is not gathered.matrix:
        fitted_rows, n_rows = len(sample.y), len(gathered.matrix.y)
        log.info(
            "weights are fitted on a sample of %d rows; blends are scored on all %d",
            fitted_rows,
            n_rows,
        )
    whole = gathered.competition.scorer
    fitters, matrix, scorer = _limit_size(config, sample, whole)
    options = config.blend.model_copy(update={"fitters": list(fitters)})
    drawn = {"seed": config.seed, "resamples": config.blend.resamples}
    # Small matrix products are slower on several threads.
    with (
        _progress(matrix, options, gathered.competition.n_folds) as bar,
        threadpool_limits(1, "blas"),
    ):
        comparison = compare(matrix, scorer, options, seed=config.seed, progress=bar.update)
        choice = choose(comparison, config.blend.fitter, resamples=config.blend.resamples)
        if fitted_rows:
            comparison = rows_to_look_at(comparison)
        looked_at = comparison
        if matrix is not sample:
            comparison, choice = compact.expand_comparison(comparison, choice, sample, whole)
        if fitted_rows:
            comparison, choice = score_on_all(
                comparison, choice, gathered.matrix, whole, config.blend.resamples
            )
        slices = row_slices(config, gathered.competition, looked_at.matrix.ids_N)
        findings = look_into(looked_at, choice, slices, **drawn)
        within = budget_use(config, store, gathered, comparison, looked_at, choice)
        card = blend_card(config, gathered, comparison, choice, findings, fitted_rows, within)
    return BlendResult(comparison, choice, findings, card, store.figures_folder)


def _check_thresholds(config: Config, scorer: Scorer) -> None:
    if config.blend.thresholds == "fitted" and not has_cuts(scorer):
        raise UserError(
            f"blend.thresholds=fitted does nothing with {scorer.name}, which needs no decisions; "
            "leave it out"
        )


def _write_studies(store: Store, comparison: Comparison) -> None:
    """Write the searches on all rows as Optuna studies: one, or one per output."""
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


@contextmanager
def _progress(matrix: OofMatrix, options: Blend, n_folds: int) -> Iterator[tqdm]:
    """A progress bar of the search's trials; hidden if there is no search."""
    parts = len(matrix.outputs) if options.weights == "per_output" else 1
    trials = max(1, options.trials // parts) * parts * (n_folds + 1)
    compared = options.fitters or BLENDERS
    searches = len(matrix.members) > 1 and any(BLENDERS[name].searches for name in compared)
    disable = None if searches else True
    with tqdm(total=trials, desc="optuna", unit="trial", disable=disable) as bar:
        yield bar


def _limit_size(
    config: Config, matrix: OofMatrix, scorer: Scorer
) -> tuple[tuple[str, ...], OofMatrix, Scorer]:
    """The blenders to compare (none: all), and the matrix and scorer to fit them with.

    A large matrix is fitted with fewer blenders, and only on the likeliest classes of each row; if
    that is not possible, the log warns that it may take long. The rule depends on the size, never
    on the time, so that all machines find the same blend.
    """
    fitters = tuple(config.blend.fitters)
    if fitters and config.blend.fitter not in ("auto", *fitters):
        fitters += (config.blend.fitter,)
    if not compact.is_large(matrix):
        return fitters, matrix, scorer
    members, rows, classes = matrix.oof_MNK.shape
    size = f"{members} members, {rows} rows, {classes} outputs"
    if STACK in (*fitters, config.blend.fitter):
        log.info("%s: %s fits weights for each output and may take hours", size, STACK)
        return fitters, matrix, scorer
    if not fitters:
        fitters = tuple(name for name in BLENDERS if name != STACK)
        log.info(
            "%s: %s, which fits weights for each output, is not compared; to compare it, name it "
            "in blend.fitters",
            size,
            STACK,
        )
    if not compact.is_compactable(matrix, scorer):
        log.info("%s: this may take long; blend.fitters=[equal,best,convex] is quicker", size)
        return fitters, matrix, scorer
    log.info(
        "weights are fitted on the %d most likely of each row's %d classes and a sample of the "
        "others; scores are of all classes",
        compact.KEPT,
        classes,
    )
    return fitters, *compact.compact_matrix(matrix, scorer)
