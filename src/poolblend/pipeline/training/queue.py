"""`train.py`: which fold models are missing, which are stale, and training them in order.

Several processes started with the same command share the work: a fold is trained by whoever holds
its lock, which a process that dies loses.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from poolblend.config import Config, Member
from poolblend.errors import UserError, unknown
from poolblend.pipeline.competition import load_competition, open_store
from poolblend.pipeline.making import check_members
from poolblend.pipeline.provenance import changed
from poolblend.pipeline.training.jobs import look_at, refusal
from poolblend.pipeline.training.pretraining import Pretraining
from poolblend.pipeline.training.reading import check_tokenizers
from poolblend.pipeline.training.standings import standing, standings_table
from poolblend.pipeline.training.tracking import check_tracking
from poolblend.pipeline.training.trainer import Trainer
from poolblend.pipeline.trials import try_folds
from poolblend.pipeline.watch import Watch
from poolblend.registry import declared

log = logging.getLogger(__name__)

Job = tuple[Member, int]
LOOK_AGAIN = 0.5  # seconds between two looks at folds that other processes train


def train(
    config: Config, *, poolers: str, folds: str, overwrite: bool, end: float | None = None
) -> None:
    """Train, in the members' order, every fold that is not finished; refuse stale ones first.

    `poolers` and `folds` are comma lists or "all". A fold whose inputs changed, or whose files are
    damaged, is trained again only with `overwrite`. Raises UserError before the first training step
    for whatever can be known by then; Stopped, with all kept, at a signal, and where the time to
    `end` on the monotonic clock would not suffice to go on.
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
        if pretraining.names:
            check_tokenizers(config, competition, members, located)
            _pretrain(pretraining, trainer, jobs, overwrite)
        todo = _to_do(trainer, jobs, overwrite)
        if not pretraining.names:
            check_tokenizers(config, competition, [member for member, _ in todo], located)
        if len(todo) < len(jobs):
            log.info("%d of %d folds are finished already", len(jobs) - len(todo), len(jobs))
        _share(trainer, todo, overwrite, watch)
        for member, fold in jobs:
            _sweep(trainer, member, fold)
        log.info("%s", "\n".join(["", *_summary(trainer, members)]))


def _pretrain(
    pretraining: Pretraining, trainer: Trainer, jobs: Sequence[Job], overwrite: bool
) -> None:
    """Train the backbones on further, once it is known that no fold is refused after it."""
    if not overwrite:
        pretraining.refuse()
    _to_do(trainer, [job for job in jobs if job[0].name not in pretraining.waiting], overwrite)
    pretraining.run(overwrite)
    trainer.located = pretraining.located()


def _summary(trainer: Trainer, members: Sequence[Member]) -> list[str]:
    """A line per member: its folds' scores, their spread, the score over all rows."""
    competition = trainer.competition
    standings = [standing(trainer.store, each.name, competition.n_folds) for each in members]
    oof = {member.name: trainer.oof_score(member) for member in members}
    return [f"{competition.scorer.name}:", *standings_table(standings, oof=oof)]


def _to_do(trainer: Trainer, jobs: Sequence[Job], overwrite: bool) -> list[Job]:
    """The jobs that are not finished; UserError where one is not to be trained without asking."""
    looks = {
        (member.name, fold): look_at(
            trainer.store, member.name, fold, trainer.inputs(member), hashes=overwrite
        )
        for member, fold in jobs
    }
    refused = [look for look in looks.values() if look.replaces]
    if refused and not overwrite:
        raise refusal(refused)
    return [job for job in jobs if looks[job[0].name, job[1]].state != "finished"]


def _share(trainer: Trainer, todo: Sequence[Job], overwrite: bool, watch: Watch) -> None:
    """Train the jobs that no other process does, then wait for the others, or for their ends."""
    waiting, told = list(todo), False
    while waiting:
        elsewhere = []
        for job in waiting:
            watch.check()
            if not _train_alone(trainer, job, overwrite, f"[{todo.index(job) + 1}/{len(todo)}]"):
                elsewhere.append(job)
        if elsewhere and not told:
            (member, fold), told = elsewhere[0], True
            holder = trainer.store.lock(member.name, fold).holder()
            log.info(
                "%d folds are trained elsewhere (%s fold %d by %s); waiting for them",
                len(elsewhere),
                member.name,
                fold,
                holder,
            )
        if len(elsewhere) == len(waiting):
            time.sleep(LOOK_AGAIN)
        waiting = elsewhere


def _train_alone(trainer: Trainer, job: Job, overwrite: bool, place: str) -> bool:
    """Train the fold unless it has been meanwhile; False where another process is at it."""
    (member, fold), store = job, trainer.store
    lock = store.lock(member.name, fold)
    if not lock.acquire(wait=False):
        return False
    try:
        found = look_at(store, member.name, fold, trainer.inputs(member), hashes=overwrite)
        if found.replaces:
            if not overwrite:
                raise refusal([found])
            log.info("trained again: %s", found.told)
        if not found.resumable:
            store.checkpoints(member.name, fold).drop()
        if found.state != "finished":
            trainer.train(member, fold, place)
    finally:
        lock.release()
    return True


def _sweep(trainer: Trainer, member: Member, fold: int) -> None:
    """Remove what a process left that was killed when it had finished the fold."""
    checkpoints = trainer.store.checkpoints(member.name, fold)
    lock = trainer.store.lock(member.name, fold)
    lock.sweep()
    if checkpoints.folder.parent.exists() and lock.acquire(wait=False):
        begun = checkpoints.newest()
        if begun is None or not changed(begun.card["inputs"], trainer.inputs(member)):
            checkpoints.drop()
        lock.release()


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
