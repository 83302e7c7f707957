"""Try all that a training will do, on two rows, before the first epoch.

A forward pass, a training step, saving, loading again: the same tokens and the same predictions.
All in the precision that the training will compute in; where an encoder's own code fails in a half
precision that nobody asked for, it is trained in fp32. Nothing is left in the store, and no random
number of a training depends on it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch

from poolblend.config import Member
from poolblend.errors import UserError
from poolblend.jobs.context import Context
from poolblend.jobs.job import BackboneJob, FoldJob, Job
from poolblend.jobs.two_rows import TrialError, try_backbone, try_fold
from poolblend.modeling.options import Backbone
from poolblend.training.devices import Precision, choose_device, resolve_precision
from poolblend.training.fit import DivergedError

log = logging.getLogger(__name__)

_passed: dict[str, Precision] = {}  # by kind of member, in this process


def rehearse_jobs(context: Context, jobs: Sequence[Job]) -> tuple[list[Job], dict[str, str]]:
    """The jobs with the precision each is to compute in; by name, why some cannot be done.

    Each distinct kind of member is tried once. Raises UserError where no member can be trained.
    """
    folds = {job.member.name: job for job in jobs if isinstance(job, FoldJob)}
    # A model without an encoder has no steps, and takes seconds.
    members = {name: job for name, job in folds.items() if isinstance(job.member, Member)}
    precisions, unable = _rehearse_members(context, list(members.values()))
    for job in jobs:
        waiting = [name for name, each in members.items() if job.name in each.waits_for]
        if isinstance(job, BackboneJob) and set(waiting) - set(unable):
            context.watch.check()
            try:
                precisions[job.name] = _rehearse_backbone(context, job)
            except UserError as error:
                unable |= dict.fromkeys([*waiting, job.name], f"{job.name}: {error}")
    if folds and set(folds) <= set(unable):
        raise UserError(next(iter(unable.values())))
    for name in members:
        if name in unable:
            log.warning("%s cannot be trained, the others are: %s", name, unable[name])
    todo = [
        job.model_copy(update={"precision": precisions[_subject(job)]})
        if _subject(job) in precisions
        else job
        for job in jobs
    ]
    return todo, {job.name: unable[_subject(job)] for job in jobs if _subject(job) in unable}


def _subject(job: Job) -> str:
    """What is rehearsed once: the member, or the backbone."""
    return job.member.name if isinstance(job, FoldJob) else job.name


def _rehearse_members(
    context: Context, jobs: Sequence[FoldJob]
) -> tuple[dict[str, Precision], dict[str, str]]:
    """By the members' names: the precision to compute in, and why others cannot be trained.

    Members that differ in nothing but what follows the encoder are saved and loaded alike: the
    first of them alone is.
    """
    precisions: dict[str, Precision] = {}
    unable: dict[str, str] = {}
    saved: set[tuple[Backbone, str]] = set()
    for job in jobs:
        context.watch.check()
        encoder = (job.encoder_member.backbone, str(job.member.applied_train))
        try:
            precisions[job.member.name] = _rehearse(context, job, save=encoder not in saved)
        except UserError as error:
            unable[job.member.name] = str(error)
        else:
            saved.add(encoder)
    return precisions, unable


def _rehearse(context: Context, job: FoldJob, *, save: bool) -> Precision:
    """The precision that the member is to compute in: its own, or fp32 for `auto`.

    Raises UserError where it cannot be trained or, with `save`, not saved or loaded.
    """
    task, located = context.competition.task, context.locate(job.encoder_member.backbone)
    kind = _kind(context, job, save)
    if kind not in _passed:
        _passed[kind] = survived(
            job.member.name,
            job.member.train.precision,
            lambda precision: try_fold(job, task, located, precision, save),
        )
    return _passed[kind]


def _rehearse_backbone(context: Context, job: BackboneJob) -> Precision:
    source = context.locate(job.backbone)
    return survived(job.name, job.precision, partial(try_backbone, job, source))


def survived(what: str, wanted: Precision, attempt: Callable[[Precision], None]) -> Precision:
    """The precision in which the attempt succeeds: the one that is wanted, or fp32 for `auto`.

    Raises what the attempt does in fp32; UserError where it fails in the one that was asked for.
    """
    resolved = resolve_precision(wanted, choose_device())
    try:
        attempt(wanted)
    except (TrialError, DivergedError) as error:
        if resolved == "fp32":
            raise
        reason = str(error)
    else:
        return wanted
    attempt("fp32")
    if wanted != "auto":
        raise UserError(
            f"train.precision is {wanted}, in which {reason}; in fp32 it works: set "
            "train.precision to fp32, or to auto"
        )
    log.warning("%s computes in fp32: in %s %s", what, resolved, reason)
    return "fp32"


def _kind(context: Context, job: FoldJob, save: bool) -> str:
    """All that a rehearsal depends on; members of one kind are rehearsed once in a process."""
    config, task = context.config, context.competition.task
    settings = job.member.model_dump(exclude={"name": True, "backbone": True, "seed": True})
    reading = [job.inputs.reading.model_dump(), config.remote_code, config.batch_tokens]
    own = job.encoder_member.backbone
    backbone = [*context.locate(own), own.dtype]
    device = [choose_device().type, torch.get_num_threads()]
    kind = [settings, reading, backbone, task.kind, len(task.outputs), device, save]
    return json.dumps(kind, sort_keys=True, default=str)
