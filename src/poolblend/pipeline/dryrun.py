"""`train.py --dry-run`: what the command would train, on how many tokens; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from poolblend.cards.fold_names import fold_name
from poolblend.config import Config, TfidfMember
from poolblend.jobs.context import Context
from poolblend.jobs.estimate import training_tokens
from poolblend.jobs.job import FoldJob, JobStatus
from poolblend.jobs.planning import plan_jobs
from poolblend.jobs.rehearsal import rehearse_jobs
from poolblend.jobs.speed import time_steps
from poolblend.jobs.tracking import check_tracking
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import open_store, planned_competition, try_folds
from poolblend.loading.models import backbones_of, check_members, new_objective
from poolblend.pipeline.training import asked_for
from poolblend.printing import aligned, wrapped
from poolblend.training.batches import Encoded, padding_share, plan_steps


@dataclass(frozen=True, eq=False)
class PlannedFold:
    """A fold of the command, finished or not."""

    job: FoldJob
    status: JobStatus
    encoded: Encoded | None  # None for a model without an encoder
    rows: np.ndarray  # to train on
    tokens: int  # of these rows in all epochs
    step: int  # of the checkpoint to resume from, or 0


def dry_run(
    config: Config,
    *,
    poolers: str = "all",
    folds: str = "all",
    overwrite: bool = False,
    skip_failed: bool = False,
) -> None:
    """Print the folds of this command, their tokens, and the members that cannot be trained."""
    store = open_store(config)
    members, numbers = asked_for(config, store, poolers, folds)
    check_tracking(config)
    located = check_members(config, members)
    competition = planned_competition(config, store)
    try_folds(competition)
    backbones = backbones_of(members, located)
    context = Context(config, competition, store, backbones, Watch())
    first, jobs = plan_jobs(config, competition, store, located, members, numbers)
    planned = [_planned(context, job) for job in jobs]
    print(f"run {store.run} in {store.root}: {len(planned)} folds\n")
    print("\n".join([*_describe_folds(planned, overwrite), *_describe_tokens(planned)]))
    due = [each.job for each in planned if _is_due(each.status, overwrite, skip_failed)]
    before = [job for job in first if job.status(store).state != "finished"]
    expected = time_steps(context, due)
    if expected:
        print(expected, flush=True)
    unable = rehearse_jobs(context, [*before, *due])[1]
    for name, reason in dict.fromkeys(
        (job.member.name, unable[job.name]) for job in due if job.name in unable
    ):
        print("\n".join(wrapped(f"{name} cannot be trained: {reason}")))
    count = sum(job.name not in unable for job in due)
    to_train = {0: "nothing is", 1: "1 fold is"}.get(count, f"{count} folds are")
    print(f"{to_train} to be trained")
    if before:
        names = ", ".join(job.backbone.name for job in before)
        print(f"before that, backbones are trained on the competition's texts: {names}")


def _planned(context: Context, job: FoldJob) -> PlannedFold:
    status, member = job.status(context.store), job.member
    newest = job.files(context.store).checkpoints.newest() if status.resumable else None
    objective = new_objective(context.competition.task, member.train.loss)
    if isinstance(member, TfidfMember):
        rows = context.datasets.labels(member, job.fold, objective).rows
        return PlannedFold(job, status, None, rows, 0, 0)
    located = context.locate(member.backbone)
    dataset = context.datasets.of_fold(member, job.fold, located, objective)
    return PlannedFold(
        job,
        status,
        dataset.encoded,
        dataset.rows,
        training_tokens(member, dataset.encoded.lengths_N[dataset.rows]),
        newest.card.step if newest else 0,
    )


def _is_due(status: JobStatus, overwrite: bool, skip_failed: bool) -> bool:
    """Whether this command would train the fold."""
    if skip_failed and status.failed:
        return False
    return status.state == "missing" or (overwrite and status.replaces)


def _describe_folds(planned: Sequence[PlannedFold], overwrite: bool) -> Iterator[str]:
    rows = [["", "member", "fold", "rows", "tokens to train", "state"]]
    for number, each in enumerate(planned, start=1):
        state = f"checkpoint at step {each.step}" if each.step else each.status.state
        if each.status.failed:
            state += ", failed before"
        fold = fold_name(each.job.fold).removeprefix("fold ")
        numbers = [fold, str(len(each.rows)), f"{each.tokens:,}"]
        rows.append([str(number), each.job.member.name, *numbers, state])
    yield from aligned(rows, right=[0, 2, 3, 4])
    refused = [each.status for each in planned if each.status.replaces]
    for status in refused:
        yield from wrapped(status.message, "  ", "    ")
    if refused and not overwrite:
        yield "train.py would refuse this: see the lines above, and --overwrite"
    yield ""


def _describe_tokens(planned: Sequence[PlannedFold]) -> Iterator[str]:
    """A paragraph for each group of members that read the same tokens."""
    shared: dict[int, list[PlannedFold]] = {}
    for each in planned:
        if each.encoded is not None:
            # Rows with pseudo-labels, which follow the train rows, may differ between folds.
            shared.setdefault(id(each.encoded.ids[0]), []).append(each)
    for those in shared.values():
        encoded = those[0].encoded
        assert encoded is not None
        lengths_N = np.array([len(row) for row in encoded.ids])
        cut = 100 * encoded.n_truncated / len(lengths_N)
        names = ", ".join(dict.fromkeys(each.job.member.name for each in those))
        text = (
            f"tokens of {names}: {lengths_N.mean():.0f} on average, median "
            f"{np.median(lengths_N):.0f}, 95 % up to {np.quantile(lengths_N, 0.95):.0f}, longest "
            f"{lengths_N.max()}; {cut:.1f} % of the texts are cut at max_length "
            f"{encoded.max_length}"
        )
        if encoded.windowing is not None:
            n_windows = encoded.n_windows_N
            text += f"; {n_windows.mean():.1f} windows per text, {n_windows.max()} at most"
        fine_tuned = [each for each in those if each.tokens]
        if fine_tuned:
            padding = 100 * _padding(fine_tuned[0], encoded)
            text += f"; {padding:.1f} % of the training batches is padding"
        yield from wrapped(text)
    yield ""


def _padding(planned: PlannedFold, encoded: Encoded) -> float:
    """The share of padding in the batches of the fold's first epoch."""
    lengths_N, train = encoded.lengths_N[planned.rows], planned.job.member.train
    if planned.job.encoder_member.mask == "none":  # each row is padded to max_length
        return 1 - float(lengths_N.mean()) / encoded.max_length
    (epoch,) = plan_steps(lengths_N, 1, train.batch_size, train.accumulation, planned.job.seed)
    batches = [batch for step in epoch for batch in step]
    return padding_share(lengths_N, batches, encoded.max_length)
