"""`train.py`: which fold models are missing, which are stale, and training them in order."""

from __future__ import annotations

import logging

from poolblend.config import Config, Member
from poolblend.errors import UserError, unknown
from poolblend.pipeline.competition import (
    load_competition,
    open_store,
)
from poolblend.pipeline.provenance import changed
from poolblend.pipeline.trainer import Trainer, check_members
from poolblend.registry import declared

log = logging.getLogger(__name__)


def train(config: Config, *, poolers: str, folds: str, overwrite: bool) -> None:
    """Train, in the members' order, every fold that is not finished; refuse stale ones first.

    `poolers` and `folds` are comma lists or "all". A fold whose inputs changed is trained again
    only with `overwrite`. Raises UserError before the first training step for whatever can be known
    by then.
    """
    members = config.resolve_members(_named_poolers(poolers))
    numbers = _fold_numbers(folds, config.folds.n)
    located = check_members(config, members)
    store = open_store(config)
    competition = load_competition(config, store, make_folds=True)
    trainer = Trainer(config, competition, store, located)
    jobs = [(member, fold) for member in members for fold in numbers]
    todo = _unfinished(trainer, jobs, overwrite)
    if len(todo) < len(jobs):
        log.info("%d of %d folds are finished already", len(jobs) - len(todo), len(jobs))
    for number, (member, fold) in enumerate(todo, start=1):
        trainer.train(member, fold, f"[{number}/{len(todo)}]")
    for member in members:
        trainer.summarise(member)


def _named_poolers(poolers: str) -> list[str] | None:
    if poolers == "all":
        return None
    names = [name.strip() for name in poolers.split(",")]
    known = declared("pooler")
    for name in names:
        if name not in known:
            raise unknown("pooler", name, known)
    return list(dict.fromkeys(names))


def _fold_numbers(folds: str, n: int) -> list[int]:
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


def _unfinished(
    trainer: Trainer, jobs: list[tuple[Member, int]], overwrite: bool
) -> list[tuple[Member, int]]:
    """The jobs still to do: never finished, or finished from other inputs and replaced now."""
    todo = []
    for member, fold in jobs:
        card = trainer.store.fold_card(member.name, fold)
        changes = changed(card["inputs"], trainer.inputs(member)) if card else []
        if changes and not overwrite:
            raise UserError(
                f"{member.name} fold {fold} is stale: {'; '.join(changes)}. "
                "Train it again with --overwrite, or give the member a `tag` to keep both"
            )
        if changes:
            log.info("%s fold %d is trained again: %s", member.name, fold, "; ".join(changes))
        if card is None or changes:
            todo.append((member, fold))
    return todo
