"""Train one backbone further, on the texts of train and test: `backbone.mlm`.

It learns to guess masked tokens. No label is seen; validation texts are, just as test texts are.
Source: task-adaptive pre-training, Gururangan et al. 2020, arXiv:2004.10964.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import set_seed

from poolblend.cards.backbone import BackboneCard, HeldOutLoss, MlmRows
from poolblend.cards.provenance import Provenance
from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.jobs.checkpointing import Checkpointer
from poolblend.jobs.context import Context
from poolblend.jobs.job import BackboneJob
from poolblend.loading.texts import Texts
from poolblend.modeling import backbone
from poolblend.modeling.masked_lm import MaskedLanguageModel, load_masked_lm, trained_parts
from poolblend.modeling.options import MaskedLanguage
from poolblend.modeling.sources import Located
from poolblend.training.batches import Encoded, concatenated
from poolblend.training.devices import Precision, choose_device, enough_memory, resolve_precision
from poolblend.training.fit import Epoch, Fit
from poolblend.training.masked import OWN_LOSS, distinct_pieces, held_out_loss
from poolblend.training.options import Train

log = logging.getLogger(__name__)

HELD_OUT = 0.05  # share of the texts
BEFORE = "held_out_before"
OUT_OF_MEMORY = "lower backbone.mlm.max_length, or set train.gradient_checkpointing=true"


class Started(NamedTuple):
    """A training, the backbone it started from, and the rows of its texts that it never sees."""

    base: backbone.Backbone
    model: MaskedLanguageModel
    fit: Fit
    held_out: np.ndarray


def pretrain(context: Context, job: BackboneJob, located: Located, label: str) -> None:
    """Train the backbone at `located` further and put it into the store.

    Resumes from its newest checkpoint; raises Stopped when the watch says so, with a checkpoint
    written.
    """
    started_at = time.perf_counter()
    watch, files = context.watch, job.files(context.store)
    started = _start(context, job, located, label)
    fit = started.fit
    checkpointer = Checkpointer(context, fit, files.checkpoints, job.inputs.as_json(), label)
    checkpointer.resume()
    loss = partial(_held_out_loss, context, job, started)
    with enough_memory(OUT_OF_MEMORY):
        if BEFORE not in fit.notes:
            before = loss(watch.check)
            fit.notes[BEFORE] = torch.tensor([before], dtype=torch.float64)
        watch.took("the start of a backbone", time.perf_counter() - started_at)
        for epoch in _epochs(fit, checkpointer):
            checkpointer.after_epoch()
            after = loss(checkpointer.after_batch)
            checkpointer.epochs.append(asdict(epoch) | {"held_out_loss": after})
    losses = HeldOutLoss(before=fit.notes[BEFORE].item(), after=after)
    fit.finish()
    checkpointer.log_skipped()
    seconds = round(time.perf_counter() - started_at, 1)
    device = choose_device()
    files.save(
        parts=trained_parts(started.base, started.model),
        make_card=lambda hashes: BackboneCard(
            backbone=job.backbone.name,
            inputs=job.inputs,
            epochs=tuple(checkpointer.epochs),
            rows=MlmRows(train=len(fit.rows), held_out=len(started.held_out)),
            held_out_loss=losses,
            resumed_at_steps=tuple(checkpointer.resumed),
            batches_cut_into=fit.pieces,
            device=device.type,
            precision=resolve_precision(job.precision, device),
            seconds=seconds,
            config=context.config.model_dump(mode="json"),
            provenance=Provenance.here(),
            files=hashes,
        ),
    )
    files.checkpoints.drop()
    log.info(
        "%s: loss on masked tokens of %d held-out texts %.4f before, %.4f after (%.0f s)",
        label,
        len(started.held_out),
        losses.before,
        losses.after,
        seconds,
    )


def _start(context: Context, job: BackboneJob, located: Located, label: str) -> Started:
    """A training before its first step; all its chance comes from the job's seed."""
    config, mlm, seed = context.config, _mlm(job), job.inputs.seed
    set_seed(seed)
    base, model = load_masked_lm(located.folder, share=mlm.mask, remote_code=config.remote_code)
    encoded = _encode(context, job, located, label, base.tokenizer.all_special_ids)
    n_rows = len(encoded.ids)
    n_held_out = max(1, round(HELD_OUT * n_rows))
    if n_rows <= n_held_out:
        raise UserError(f"{label}: {n_rows} texts differ, and some are held out; leave out mlm")
    order = np.random.default_rng(seed).permutation(n_rows)
    trained: Any = model  # a fit takes whatever has an encoder and gives losses
    targets = OWN_LOSS.targets(np.arange(n_rows))
    options = mlm_options(mlm, config, job.precision)
    rows = np.sort(order[n_held_out:])
    fit = Fit(trained, encoded, rows, targets, OWN_LOSS, options, seed)
    return Started(base, model, fit, np.sort(order[:n_held_out]))


def _encode(
    context: Context, job: BackboneJob, located: Located, label: str, special: list[int]
) -> Encoded:
    """The texts of both tables, longer ones in pieces."""
    tables, remote_code = context.competition.tables, context.config.remote_code
    both = [
        Texts(table, f"{label}: {name}", remote_code).encode(
            located.folder, located.files_sha256, job.inputs.reading
        )
        for table, name in ((tables.train, "train"), (tables.test, "test"))
    ]
    return distinct_pieces(concatenated(*both), special)


def _epochs(fit: Fit, checkpointer: Checkpointer) -> Iterator[Epoch]:
    label = checkpointer.label
    try:
        yield from fit.run(progress=label, after_step=checkpointer.after_step)
    except UserError as error:  # the fit knows its members' keys
        message = str(error).replace("train.lr", "backbone.mlm.lr")
        raise type(error)(f"{label}: {message}") from None


def _held_out_loss(
    context: Context, job: BackboneJob, started: Started, after_batch: Callable[[], None]
) -> float:
    """On the texts held out, of which the same tokens are masked each time."""
    return held_out_loss(
        started.model,
        started.fit.encoded,
        started.held_out,
        seed=job.inputs.seed,
        batch_tokens=context.config.batch_tokens,
        precision=job.precision,
        after_batch=after_batch,
    )


def _mlm(job: BackboneJob) -> MaskedLanguage:
    assert job.backbone.mlm is not None
    return job.backbone.mlm


def mlm_options(mlm: MaskedLanguage, config: Config, precision: Precision) -> Train:
    """How the training goes: the section's own keys, and what of `train` is about the machine."""
    return Train(
        epochs=mlm.epochs,
        batch_size=mlm.batch_size,
        lr=mlm.lr,
        head_lr=None,
        precision=precision,
        gradient_checkpointing=config.train.gradient_checkpointing,
        deterministic=config.train.deterministic,
    )
