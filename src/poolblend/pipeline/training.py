"""`train.py`: which fold models are missing, which are stale, and training them in order."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from poolblend.config import Config, Member
from poolblend.errors import UserError, unknown
from poolblend.jobs.pretraining import Pretraining
from poolblend.jobs.rehearsal import rehearse_all
from poolblend.jobs.sharing import Job, Sharing
from poolblend.jobs.tokenizer_checks import check_tokenizers
from poolblend.jobs.tracking import check_tracking
from poolblend.jobs.trainer import Trainer
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import load_competition, open_store
from poolblend.loading.models import check_members
from poolblend.loading.prechecks import try_folds
from poolblend.registry import declared
from poolblend.report.standings import standing, standings_table
from poolblend.store.probe import COPIED, check_writable

log = logging.getLogger(__name__)


def train(
    config: Config,
    *,
    poolers: str,
    folds: str,
    overwrite: bool,
    skip_failed: bool = False,
    end: float | None = None,
) -> None:
    """Train, in the members' order, every fold that is not finished; refuse stale ones first.

    `poolers` and `folds` are comma lists or "all". A fold whose inputs changed, or whose files are
    damaged, is trained again only with `overwrite`; one that failed before is tried again unless
    `skip_failed`. Raises UserError before the first training step for whatever can be known by
    then; PartlyFailedError at the end where folds failed; Stopped, with all kept, at a signal, and
    where the time to `end` on the monotonic clock would not suffice to go on.
    """
    watch = Watch(end)
    members = config.resolve_members(named_poolers(poolers))
    numbers = fold_numbers(folds, config.folds.n)
    check_tracking(config)
    located = check_members(config, members)
    store = open_store(config)
    with watch.listening():
        competition = load_competition(config, store, make_folds=True)
        try_folds(competition)
        jobs = [(member, fold) for member in members for fold in numbers]
        pretraining = Pretraining(config, competition, store, members, located, watch)
        trainer = Trainer(config, competition, store, pretraining.located(), watch)
        sharing = Sharing(trainer, jobs, overwrite=overwrite, skip_failed=skip_failed)
        if not overwrite:
            pretraining.refuse()
        todo = sharing.left(pretraining.waiting)
        check_tokenizers(config, competition, [member for member, _ in todo], located)
        _rehearse(sharing, pretraining, todo, watch)
        if pretraining.names:
            _pretrain(sharing, pretraining, todo)
            todo = sharing.left()
        sharing.say()
        sharing.run(todo, watch)
        sharing.sweep()
        log.info("%s", "\n".join(["", *_summary(trainer, members)]))
        sharing.failures.check(len(todo))


def _rehearse(
    sharing: Sharing, pretraining: Pretraining, todo: Sequence[Job], watch: Watch
) -> None:
    """Try on two rows what is to be done, and its folders; UserError where none of it can be.

    Members that cannot be trained are named in the log, and noted as failed in their turn.
    """
    trainer, members = sharing.trainer, {member.name: member for member, _ in todo}
    store = trainer.store
    for name in members:
        folders = (store.fold_folder(name, 0).parent, store.oof_path(name, 0).parent)
        check_writable(folders, COPIED)
    rehearsed = rehearse_all(
        trainer.config,
        trainer.competition.task,
        list(members.values()),
        trainer.located,
        watch.check,
    )
    trainer.precisions = rehearsed.precisions
    pretraining.rehearse(pretraining.wanted(rehearsed.precisions))
    unable = rehearsed.unable | pretraining.unable
    if members and set(members) <= set(unable):
        raise UserError(next(iter(unable.values())))
    for name, reason in unable.items():
        log.warning("%s cannot be trained, the others are: %s", name, reason)
    sharing.unable |= unable


def _pretrain(sharing: Sharing, pretraining: Pretraining, todo: Sequence[Job]) -> None:
    """Train the backbones on further that members with something to do wait for."""
    able = {member.name for member, _ in todo} - set(sharing.unable)
    pretraining.run(sharing.overwrite, pretraining.wanted(able))
    sharing.unable |= pretraining.unable
    sharing.trainer.located = pretraining.located()


def _summary(trainer: Trainer, members: Sequence[Member]) -> list[str]:
    """A line per member: its folds' scores, their spread, the score over all rows."""
    competition = trainer.competition
    standings = [standing(trainer.store, each.name, competition.n_folds) for each in members]
    oof = {member.name: trainer.oof_score(member) for member in members}
    return [f"{competition.scorer.name}:", *standings_table(standings, oof=oof)]


def named_poolers(poolers: str) -> list[str] | None:
    """The names in a comma list, None for "all"; UserError for an unknown one."""
    if poolers == "all":
        return None
    names = [name.strip() for name in poolers.split(",")]
    known = declared("pooler")
    for name in names:
        if name not in known:
            raise unknown("pooler", name, known)
    return list(dict.fromkeys(names))


def fold_numbers(folds: str, n: int) -> list[int]:
    """The numbers in a comma list, those of all `n` folds for "all"; UserError for any other."""
    if folds == "all":
        return list(range(n))
    try:
        numbers = [int(part) for part in folds.split(",")]
    except ValueError:
        raise UserError(f"--fold {folds}: expected a number, a comma list, or all") from None
    for number in numbers:
        if not 0 <= number < n:
            raise UserError(f"--fold {number}: out of range; the folds are 0 to {n - 1}")
    return list(dict.fromkeys(numbers))
