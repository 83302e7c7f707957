"""`train.py --dry-run`: what a command would train, on how many tokens, in about what time.

Nothing is written: folds that are not frozen yet are those that would be.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np

from poolblend.config import Config, Member
from poolblend.jobs.finetuning import fold_seed
from poolblend.jobs.pretraining import Pretraining
from poolblend.jobs.probing import Pace, Work, plan_reading, plan_work, try_out
from poolblend.jobs.rehearsal import rehearse_all
from poolblend.jobs.status import Look, look_at
from poolblend.jobs.tracking import check_tracking
from poolblend.jobs.trainer import Trainer
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import (
    Competition,
    load_competition,
    new_folds,
    open_store,
    read_tables,
    table_hashes,
)
from poolblend.loading.models import check_members, new_objective
from poolblend.loading.prechecks import try_folds
from poolblend.pipeline.training import fold_numbers, named_poolers
from poolblend.printing import aligned, duration, wrapped
from poolblend.store import Store
from poolblend.training.batches import Encoded

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """A fold model to be trained, or trained already."""

    member: Member
    fold: int
    look: Look
    work: Work
    encoded: Encoded


def dry_run(
    config: Config, *, poolers: str, folds: str, overwrite: bool, skip_failed: bool = False
) -> None:
    """Print the jobs of this command, the tokens of their texts, and an estimate of their time."""
    members = config.resolve_members(named_poolers(poolers))
    numbers = fold_numbers(folds, config.folds.n)
    check_tracking(config)
    located = check_members(config, members)
    store = open_store(config)
    with ExitStack() as stack:
        config = _with_demo(config, stack)
        competition = _competition(config, store)
        try_folds(competition)
        pretraining = Pretraining(config, competition, store, members, located, Watch())
        trainer = Trainer(config, competition, store, pretraining.located(), Watch())
        jobs = [_job(trainer, member, fold) for member in members for fold in numbers]
        print(f"run {store.run} in {store.root}: {len(jobs)} folds\n")
        print("\n".join(_jobs_told(jobs, overwrite)))
        print("\n".join(_tokens_told(jobs)))
        todo = [job for job in jobs if _is_due(job, overwrite, skip_failed)]
        todo = _able(trainer, todo)
        print("\n".join(_time_told(trainer, todo)) if todo else "nothing is to be trained")
        if pretraining.waiting:
            backbones = ", ".join(pretraining.names)
            print(f"beside that, backbones are trained on further first: {backbones}")


def _with_demo(config: Config, stack: ExitStack) -> Config:
    """Where the demo's tables are not there yet, they are made for this command alone."""
    if not config.data.demo or config.data_dir.exists():
        return config
    folder = stack.enter_context(TemporaryDirectory())
    return config.model_copy(
        update={"data": config.data.model_copy(update={"dir": folder}), "store": folder}
    )


def _competition(config: Config, store: Store) -> Competition:
    if store.folds_path.exists():
        return load_competition(config, store, make_folds=True)  # and refuses what training would
    tabled = read_tables(config)
    hashes = table_hashes(config, "train") | table_hashes(config, "test")
    hashes["folds_sha256"] = "not made yet"
    return Competition(**vars(tabled), fold_N=new_folds(tabled, config), data=hashes)


def _job(trainer: Trainer, member: Member, fold: int) -> Job:
    store, competition = trainer.store, trainer.competition
    look = look_at(store, member.name, fold, trainer.inputs(member))
    full_width = member.mask == "none"
    batch_tokens = trainer.config.batch_tokens
    objective = new_objective(competition.task, member.train.loss)
    material = trainer.materials.of_fold(member, fold, trainer.located[member.name], objective)
    encoded, rows = material.encoded, material.rows
    if member.head.frozen:
        work = plan_reading(encoded, rows, full_width=full_width, batch_tokens=batch_tokens)
    else:
        begun = store.checkpoints(member.name, fold).newest() if look.resumable else None
        work = plan_work(
            encoded,
            rows,
            np.flatnonzero(competition.fold_N == fold),
            member.train,
            fold_seed(member, fold),
            full_width=full_width,
            batch_tokens=batch_tokens,
            steps_done=begun.card["step"] if begun else 0,
        )
    return Job(member, fold, look, work, encoded)


def _is_due(job: Job, overwrite: bool, skip_failed: bool) -> bool:
    if skip_failed and job.look.failed:
        return False
    return job.look.state == "missing" or (overwrite and job.look.replaces)


def _jobs_told(jobs: Sequence[Job], overwrite: bool) -> Iterator[str]:
    headings = ["", "member", "fold", "rows", "steps", ""]
    rows = [
        [
            str(number),
            job.member.name,
            str(job.fold),
            str(len(job.work.rows)),
            str(job.work.n_steps),
            _state(job),
        ]
        for number, job in enumerate(jobs, start=1)
    ]
    yield from aligned([headings, *rows], right=[0, 2, 3, 4])
    refused = [job.look for job in jobs if job.look.replaces]
    for look in refused:
        yield from wrapped(look.told, "  ", "    ")
    if refused and not overwrite:
        yield "train.py would refuse this: see the lines above, and --overwrite"
    yield ""


def _able(trainer: Trainer, todo: Sequence[Job]) -> list[Job]:
    """The jobs of members that can be trained, in which precision is known then; says of others."""
    members = {job.member.name: job.member for job in todo}
    task = trainer.competition.task
    rehearsed = rehearse_all(trainer.config, task, list(members.values()), trainer.located)
    trainer.precisions = rehearsed.precisions
    for name, reason in rehearsed.unable.items():
        print("\n".join(wrapped(f"{name} cannot be trained: {reason}")))
    return [job for job in todo if job.member.name in rehearsed.precisions]


def _state(job: Job) -> str:
    state = f"begun, at step {job.work.steps_done}" if job.work.steps_done else job.look.state
    return f"{state}, failed before" if job.look.failed else state


def _tokens_told(jobs: Sequence[Job]) -> Iterator[str]:
    """A paragraph for each way of making tokens, with the members that read them."""
    shared: dict[int, list[Job]] = {}
    for job in jobs:
        # Pseudo-labelled rows, behind those of train, may differ from fold to fold.
        shared.setdefault(id(job.encoded.ids[0]), []).append(job)
    for those in shared.values():
        encoded = those[0].encoded
        lengths_N = np.array([len(row) for row in encoded.ids])
        names = ", ".join(dict.fromkeys(job.member.name for job in those))
        told = (
            f"tokens of {names}: {lengths_N.mean():.0f} on average, median "
            f"{np.median(lengths_N):.0f}, 95 % up to {np.quantile(lengths_N, 0.95):.0f}, longest "
            f"{lengths_N.max()}; {encoded.n_truncated / len(lengths_N):.1%} of the texts are cut "
            f"at max_length {encoded.max_length}"
        )
        if encoded.windowing is not None:
            n_windows = encoded.n_windows_N
            told += f"; {n_windows.mean():.1f} windows per text, {n_windows.max()} at most"
        padded = sum(int(job.work.tokens_S.sum()) for job in those)
        if padded:
            own = sum(
                int(job.encoded.lengths_N[job.work.rows].sum()) * job.work.epochs for job in those
            )
            told += f"; {1 - own / padded:.1%} of the training batches is padding"
        yield from wrapped(told)
    yield ""


def _time_told(trainer: Trainer, todo: Sequence[Job]) -> Iterator[str]:
    """A line per member that has something to do, then the sum of all."""
    paces: dict[str, Pace] = {}
    rows, total = [["member", "seconds a step", "a fold", "folds", "in all"]], 0.0
    for name in dict.fromkeys(job.member.name for job in todo):
        own = [job for job in todo if job.member.name == name]
        first = own[0]
        shape = str(first.member.model_dump(exclude={"name", "seed"}))
        if shape not in paces:
            log.info("trying a few steps of %s", name)
            paces[shape] = try_out(trainer, first.member, first.fold, first.work)
        pace = paces[shape]
        # A frozen encoder reads all rows once; what is fitted to each fold takes no time beside it.
        times = [pace.of_fold(job.work) for job in own[: 1 if first.member.head.frozen else None]]
        left = first.work.n_steps - first.work.steps_done
        rows.append(
            [
                name,
                f"{pace.of_steps(first.work) / left:.3f}" if left else "none",
                duration(sum(times) / len(own)),
                str(len(own)),
                duration(sum(times)),
            ]
        )
        total += sum(times)
    yield from aligned(rows, right=range(1, 5))
    yield f"about {duration(total)} in all: an estimate, from a few steps of each member, tried now"
