"""Do one job: train, and put the result with its card into the store."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch

from poolblend.cards.fold import BackboneHashes, FoldCard, FoldFileHashes, RowCounts, TokenCount
from poolblend.cards.provenance import Provenance
from poolblend.config import TfidfMember
from poolblend.jobs.context import Context
from poolblend.jobs.finetune import FittedFold, finetune
from poolblend.jobs.fit_head import fit_head
from poolblend.jobs.job import BackboneJob, FoldJob, Job
from poolblend.jobs.pretrain import pretrain
from poolblend.jobs.scoring import score, shown, why_undefined
from poolblend.jobs.tfidf_folds import fit_fold
from poolblend.modeling.sources import Located
from poolblend.store.predictions import to_table
from poolblend.training.devices import choose_device, resolve_precision
from poolblend.training.encoding import digest

log = logging.getLogger(__name__)


def run(job: Job, context: Context, place: str = "") -> None:
    """Do the job, resuming from its newest checkpoint; `place` stands before its name in the log.

    Raises Stopped when the watch says so, with a checkpoint written; UserError where the job
    cannot be done.
    """
    label = f"{place} {job.name}".strip()
    if isinstance(job, BackboneJob):
        pretrain(context, job, context.locate(job.backbone), label)
        return
    started = time.perf_counter()
    competition, located, fitted = context.competition, None, None
    if isinstance(job.member, TfidfMember):
        fitted = fit_fold(context, job, job.member)
    else:
        located = context.backbone(job.member)
        train = fit_head if job.member.head.frozen else finetune
        fitted = train(context, job, located, label)
    valid = context.rows_of(job.fold)
    scored = score(competition, valid, fitted.pred_NK)
    saving = time.perf_counter()
    seconds = round(saving - started, 1)
    files, base = job.files(context.store), None
    if located is not None and job.encoder_member.has_frozen_part and not job.standalone:
        unchanged = fitted.base if job.encoder_member.keeps_encoder else None
        base = context.base(job.encoder_member, located, unchanged)
    files.save(
        tensors=fitted.model.stored(on_base=base is not None),
        parts=() if fitted.base is None else fitted.base.parts,
        oof=to_table(context.ids.iloc[valid], fitted.pred_NK, competition.task.outputs, job.fold),
        make_card=lambda hashes: _card(job, context, located, fitted, scored, seconds, hashes),
        base=base,
    )
    files.checkpoints.drop()
    context.watch.took("saving a fold", time.perf_counter() - saving)
    message = f"{competition.scorer.label} {shown(scored)}"
    if not len(valid):
        message = "trained on all rows"
    elif scored is None:
        message += f", {why_undefined(competition, valid, fitted.pred_NK)}"
    log.info("%s: %s (%.0f s)", label, message, seconds)


def _card(
    job: FoldJob,
    context: Context,
    located: Located | None,
    fitted: FittedFold,
    scored: float | None,
    seconds: float,
    hashes: FoldFileHashes,
) -> FoldCard:
    competition, device = context.competition, torch.device("cpu")
    valid = context.rows_of(job.fold)
    read: dict[str, Any] = {}
    if located is not None:
        device = choose_device()
        encoded = context.datasets.encode(job.encoder_member, located)
        read["tokens"] = TokenCount(**digest(encoded, valid))
        read["backbone"] = BackboneHashes(
            weights_sha256=located.weights_sha256, files_sha256=located.files_sha256
        )
    return FoldCard(
        member=job.member,
        fold=job.fold,
        inputs=job.inputs,
        seed=job.seed,
        rows=RowCounts(train=fitted.n_train, valid=len(valid)),
        metric=competition.scorer.name,
        positive=competition.positive,
        score=scored,
        device=device.type,
        threads=torch.get_num_threads(),
        precision=resolve_precision(job.precision, device),
        fp32_only=job.precision != job.member.train.precision,
        epochs=fitted.epochs,
        kept_epoch=fitted.kept_epoch,
        optimism=fitted.optimism,
        resumed_at_steps=fitted.resumed_at_steps,
        batches_cut_into=fitted.batches_cut_into,
        steps_skipped=fitted.steps_skipped,
        head=fitted.head,
        columns=fitted.columns,
        target_scaler=fitted.target_scaler,
        reads_padding=fitted.base is not None and fitted.base.reads_padding,
        seconds=seconds,
        prediction=fitted.prediction,
        config=context.config.model_dump(mode="json"),
        provenance=Provenance.here(),
        files=hashes,
        **read,
    )
