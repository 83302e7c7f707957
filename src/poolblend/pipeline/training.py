"""`train.py`: plan the config's jobs, and run those that are not finished."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from poolblend.cards.fold_names import REFIT
from poolblend.config import AnyMember, Config, Workers
from poolblend.errors import UserError, unknown
from poolblend.jobs.context import Context
from poolblend.jobs.job import FoldJob
from poolblend.jobs.planning import plan_jobs
from poolblend.jobs.rehearsal import rehearse_jobs
from poolblend.jobs.runners import Runner
from poolblend.jobs.scoring import oof_score
from poolblend.jobs.speed import time_steps
from poolblend.jobs.tokenizer_checks import check_tokenizers
from poolblend.jobs.tracking import check_tracking
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import load_competition, open_store, try_folds
from poolblend.loading.models import backbones_of, check_members
from poolblend.modeling.options import MODELS
from poolblend.registry import declared
from poolblend.report.standings import standing, standings_table
from poolblend.store import Store
from poolblend.store.probe import COPIED, check_writable

log = logging.getLogger(__name__)

REFITTED = (
    "models of all rows have no score: no row is left that they have not seen. infer.py --refit "
    "runs them with the weights of the blend, which blend.py fits to the folds' models"
)


def train(
    config: Config,
    *,
    poolers: str,
    folds: str,
    overwrite: bool,
    skip_failed: bool = False,
    standalone: bool = False,
    end: float | None = None,
    workers: Workers = 1,
) -> None:
    """Train every fold that is not finished, in the members' order.

    `poolers` and `folds` are comma lists or "all". `folds="refit"` trains one model of all rows for
    each member; of those with weight, if "all" poolers are asked for and there is a blend. A fold
    that is damaged, or whose inputs changed, is refused, or trained again with `overwrite`. A fold
    that failed before is trained again unless `skip_failed` is set. With `standalone`, models with
    frozen layers are stored whole, as others are. `workers` is how many processes train.

    Raises UserError before the first training step for everything that can be checked by then,
    PartlyFailedError at the end if folds failed, and Stopped at a signal or shortly before `end` on
    the monotonic clock; all finished work is kept.
    """
    watch = Watch(end)
    store = open_store(config)
    members, numbers = asked_for(config, store, poolers, folds)
    check_tracking(config)
    located = check_members(config, members)
    with watch.listening():
        competition = load_competition(config, store, make_folds=True)
        try_folds(competition)
        backbones = backbones_of(members, located)
        context = Context(config, competition, store, backbones, watch)
        first, then = plan_jobs(config, competition, store, located, members, numbers)
        then = [job.model_copy(update={"standalone": standalone}) for job in then]
        runner = Runner(
            context,
            [*first, *then],
            overwrite=overwrite,
            skip_failed=skip_failed,
            workers=workers,
        )
        todo = runner.missing()
        expected = time_steps(context, todo)
        if expected:
            log.info("%s", expected)
        waiting = [job.member for job in todo if isinstance(job, FoldJob)]
        check_tokenizers(config, competition, waiting, located)
        for name in dict.fromkeys(member.name for member in waiting):
            files = store.fold(name, numbers[0])
            check_writable((files.folder.parent, files.oof_path.parent), COPIED)
        todo, unable = rehearse_jobs(context, todo)
        runner.run(todo, unable)
        if numbers == [REFIT]:
            log.info("%s", REFITTED)
        else:
            log.info("%s", "\n".join(["", *_summary(context, members)]))
        runner.failures.check(len(waiting))


def asked_for(
    config: Config, store: Store, poolers: str, folds: str
) -> tuple[list[AnyMember], list[int]]:
    """The members and folds of a command, as `train` takes them."""
    members = config.resolve_members(named_poolers(poolers))
    numbers = fold_numbers(folds, config.folds.n)
    if numbers == [REFIT]:
        members = _to_refit(members, store, everything=poolers == "all")
    return members, numbers


def _to_refit(members: list[AnyMember], store: Store, *, everything: bool) -> list[AnyMember]:
    """Those of the members that get a model of all rows; UserError where none can.

    With `everything`, those without weight in the run's blend are left out, if there is one.
    """
    if everything and store.blend_path.exists():
        used = store.read_blend().used_members
        members = [member for member in members if member.name in used]
    reasons = {member.name: _why_not_refit(member) for member in members}
    for name, reason in reasons.items():
        if reason:
            log.info("%s gets no model of all rows: %s", name, reason)
    able = [member for member in members if not reasons[member.name]]
    if not able:
        why = next(iter(reasons.values()), "the blend gives weight to no member of the config")
        raise UserError(f"--fold refit: no member gets a model of all rows: {why}")
    return able


def _why_not_refit(member: AnyMember) -> str:
    if member.pseudo is not None:
        return "its pseudo-labels are made for each fold"
    if member.train.early_stopping is not None:
        return "no row is left that could choose its epoch (train.early_stopping)"
    return ""


def _summary(context: Context, members: Sequence[AnyMember]) -> list[str]:
    """A table with a row per member: fold scores, their mean and deviation, the OOF score."""
    competition, store = context.competition, context.store
    standings = [standing(store, each.name, competition.n_folds) for each in members]
    oof = {member.name: oof_score(competition, store, member.name) for member in members}
    return [f"{competition.scorer.label}:", *standings_table(standings, oof=oof)]


def named_poolers(poolers: str) -> list[str] | None:
    """The names in a comma list, None for "all"; UserError for an unknown one."""
    if poolers == "all":
        return None
    names = [name.strip() for name in poolers.split(",")]
    known = {**declared("pooler"), **MODELS}
    for name in names:
        if name not in known:
            raise unknown("pooler", name, known)
    return list(dict.fromkeys(names))


def fold_numbers(folds: str, n: int) -> list[int]:
    """The numbers in a comma list, those of all `n` folds for "all"; UserError for any other.

    "refit" stands for the model of all rows.
    """
    if folds == "all":
        return list(range(n))
    if folds == "refit":
        return [REFIT]
    try:
        numbers = [int(part) for part in folds.split(",")]
    except ValueError:
        raise UserError(f"--fold {folds}: expected a number, a comma list, all or refit") from None
    for number in numbers:
        if not 0 <= number < n:
            raise UserError(f"--fold {number}: out of range; the folds are 0 to {n - 1}")
    return list(dict.fromkeys(numbers))
