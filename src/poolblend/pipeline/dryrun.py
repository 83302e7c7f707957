"""`train.py --dry-run`: what the command would train, and on how many tokens.

Nothing is written: folds that are not frozen yet are those that would be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np

from poolblend.config import Config, Member
from poolblend.jobs.estimate import training_tokens
from poolblend.jobs.finetuning import fold_seed
from poolblend.jobs.pretraining import Pretraining
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
from poolblend.printing import aligned, wrapped
from poolblend.store import Store
from poolblend.training.batches import Encoded, padding_share, plan_steps


@dataclass(frozen=True, eq=False)
class PlannedFold:
    """A fold that the command names, finished or not."""

    member: Member
    fold: int
    status: Look
    encoded: Encoded
    rows: np.ndarray  # trained on
    tokens: int  # of those rows in all epochs
    step: int  # of the checkpoint that the training would resume from


def dry_run(
    config: Config, *, poolers: str, folds: str, overwrite: bool, skip_failed: bool = False
) -> None:
    """Print the folds of this command, their tokens, and the members that cannot be trained."""
    members = config.resolve_members(named_poolers(poolers))
    numbers = fold_numbers(folds, config.folds.n)
    check_tracking(config)
    located = check_members(config, members)
    store = open_store(config)
    with ExitStack() as stack:
        config = _with_temporary_demo(config, stack)
        competition = _competition(config, store)
        try_folds(competition)
        pretraining = Pretraining(config, competition, store, members, located, Watch())
        trainer = Trainer(config, competition, store, pretraining.located(), Watch())
        planned = [_planned(trainer, member, fold) for member in members for fold in numbers]
        print(f"run {store.run} in {store.root}: {len(planned)} folds\n")
        print("\n".join([*_describe_folds(planned, overwrite), *_describe_tokens(planned)]))
        due = [each for each in planned if _is_due(each.status, overwrite, skip_failed)]
        unable = _unable(trainer, due)
        for name, reason in unable.items():
            print("\n".join(wrapped(f"{name} cannot be trained: {reason}")))
        count = sum(each.member.name not in unable for each in due)
        to_train = {0: "nothing is", 1: "1 fold is"}.get(count, f"{count} folds are")
        print(f"{to_train} to be trained")
        if pretraining.waiting:
            names = ", ".join(pretraining.names)
            print(f"before that, backbones are trained on the competition's texts: {names}")


def _with_temporary_demo(config: Config, stack: ExitStack) -> Config:
    """Where the demo's tables do not exist yet, they are made in a temporary folder."""
    if not config.data.demo or config.data_dir.exists():
        return config
    folder = stack.enter_context(TemporaryDirectory())
    data = config.data.model_copy(update={"dir": folder})
    return config.model_copy(update={"data": data, "store": folder})


def _competition(config: Config, store: Store) -> Competition:
    if store.folds_path.exists():
        return load_competition(config, store, make_folds=True)  # refuses what training would
    tabled = read_tables(config)
    hashes = table_hashes(config, "train") | table_hashes(config, "test")
    hashes["folds_sha256"] = "not made yet"
    return Competition(**vars(tabled), fold_N=new_folds(tabled, config), data=hashes)


def _planned(trainer: Trainer, member: Member, fold: int) -> PlannedFold:
    store, located = trainer.store, trainer.located[member.name]
    status = look_at(store, member.name, fold, trainer.inputs(member))
    checkpoint = store.checkpoints(member.name, fold).newest() if status.resumable else None
    objective = new_objective(trainer.competition.task, member.train.loss)
    material = trainer.materials.of_fold(member, fold, located, objective)
    return PlannedFold(
        member,
        fold,
        status,
        material.encoded,
        material.rows,
        training_tokens(member, material.encoded.lengths_N[material.rows]),
        checkpoint.card["step"] if checkpoint else 0,
    )


def _is_due(status: Look, overwrite: bool, skip_failed: bool) -> bool:
    """Whether this command would train the fold."""
    if skip_failed and status.failed:
        return False
    return status.state == "missing" or (overwrite and status.replaces)


def _unable(trainer: Trainer, due: Sequence[PlannedFold]) -> dict[str, str]:
    """Members that fail a training step on two rows, each with the reason."""
    members = {each.member.name: each.member for each in due}
    task = trainer.competition.task
    return rehearse_all(trainer.config, task, list(members.values()), trainer.located).unable


def _describe_folds(planned: Sequence[PlannedFold], overwrite: bool) -> Iterator[str]:
    rows = [["", "member", "fold", "rows", "tokens to train", "state"]]
    for number, each in enumerate(planned, start=1):
        state = f"checkpoint at step {each.step}" if each.step else each.status.state
        if each.status.failed:
            state += ", failed before"
        numbers = [str(each.fold), str(len(each.rows)), f"{each.tokens:,}"]
        rows.append([str(number), each.member.name, *numbers, state])
    yield from aligned(rows, right=[0, 2, 3, 4])
    refused = [each.status for each in planned if each.status.replaces]
    for status in refused:
        yield from wrapped(status.told, "  ", "    ")
    if refused and not overwrite:
        yield "train.py would refuse this: see the lines above, and --overwrite"
    yield ""


def _describe_tokens(planned: Sequence[PlannedFold]) -> Iterator[str]:
    """A paragraph for each way of making tokens, with the members that read them."""
    shared: dict[int, list[PlannedFold]] = {}
    for each in planned:
        # Pseudo-labelled rows, which follow those of train, may differ from fold to fold.
        shared.setdefault(id(each.encoded.ids[0]), []).append(each)
    for those in shared.values():
        encoded = those[0].encoded
        lengths_N = np.array([len(row) for row in encoded.ids])
        names = ", ".join(dict.fromkeys(each.member.name for each in those))
        text = (
            f"tokens of {names}: {lengths_N.mean():.0f} on average, median "
            f"{np.median(lengths_N):.0f}, 95 % up to {np.quantile(lengths_N, 0.95):.0f}, longest "
            f"{lengths_N.max()}; {encoded.n_truncated / len(lengths_N):.1%} of the texts are cut "
            f"at max_length {encoded.max_length}"
        )
        if encoded.windowing is not None:
            n_windows = encoded.n_windows_N
            text += f"; {n_windows.mean():.1f} windows per text, {n_windows.max()} at most"
        fine_tuned = [each for each in those if each.tokens]
        if fine_tuned:
            text += f"; {_padding(fine_tuned[0]):.1%} of the training batches is padding"
        yield from wrapped(text)
    yield ""


def _padding(planned: PlannedFold) -> float:
    """The share of padding in the batches of the fold's first epoch."""
    lengths_N, train = planned.encoded.lengths_N[planned.rows], planned.member.train
    if planned.member.mask == "none":  # each row is padded to max_length
        return 1 - float(lengths_N.mean()) / planned.encoded.max_length
    seed = fold_seed(planned.member, planned.fold)
    (epoch,) = plan_steps(lengths_N, 1, train.batch_size, train.accumulation, seed)
    batches = [batch for step in epoch for batch in step]
    return padding_share(lengths_N, batches, planned.encoded.max_length)
