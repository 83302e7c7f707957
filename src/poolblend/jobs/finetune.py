"""Fine-tune one fold model: epochs with checkpoints, and predictions of the fold's own rows.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from accelerate.utils import set_seed

from poolblend.cards.fold import (
    BackboneHashes,
    EpochRecord,
    HeadRecord,
    PredictionTime,
    StatesTime,
)
from poolblend.competition.columns import Columns
from poolblend.jobs.best_epoch import merit, optimism
from poolblend.jobs.checkpointing import Checkpointer
from poolblend.jobs.context import Context
from poolblend.jobs.frozen_states import with_states
from poolblend.jobs.job import FoldJob
from poolblend.jobs.scoring import score, shown
from poolblend.jobs.tracking import Follower, follow
from poolblend.loading.models import new_model, new_objective
from poolblend.modeling import backbone
from poolblend.modeling.model import TextModel
from poolblend.modeling.sources import Located
from poolblend.training.devices import enough_memory
from poolblend.training.encoding import Encoded
from poolblend.training.fit import DivergedError, Fit
from poolblend.training.prediction import Stopwatch, predict, tokens_at_once
from poolblend.training.tfidf import TfidfModel

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "batches of one row are too large: set train.gradient_checkpointing=true, or lower max_length; "
    "finished folds are kept"
)


@dataclass(frozen=True, eq=False)
class FittedFold:
    """A trained fold model, what it predicts for the fold's rows, and what its card says of it."""

    model: TextModel | TfidfModel
    base: backbone.Backbone | None  # None for a model without an encoder
    pred_NK: np.ndarray
    prediction: PredictionTime
    n_train: int
    columns: Columns | None
    target_scaler: dict[str, list[float]] | None
    epochs: tuple[EpochRecord, ...] = ()
    kept_epoch: int | None = None
    optimism: float | None = None
    resumed_at_steps: tuple[int, ...] = ()
    batches_cut_into: int = 1
    steps_skipped: int = 0
    head: HeadRecord | None = None


def finetune(context: Context, job: FoldJob, located: Located, label: str) -> FittedFold:
    """Train the fold's model and predict the fold's rows.

    Resumes from the fold's newest checkpoint, if there is one; raises Stopped when the watch says
    so, with a checkpoint written.
    """
    started = time.perf_counter()
    base, fit, columns = start(context, job, located, label)
    checkpoints = job.files(context.store).checkpoints
    checkpointer = Checkpointer(context, fit, checkpoints, job.inputs.as_json(), label)
    checkpointer.resume()
    follower = follow(
        context.config,
        context.store,
        job.encoder_member,
        job.fold,
        checkpointer.inputs,
        n_steps=fit.n_steps,
        steps_done=fit.steps_done,
    )
    with closing(follower):
        context.watch.took("the start of a fold", time.perf_counter() - started)
        context.watch.check()
        pred_NK, seconds, model, chosen = _train(context, job, fit, checkpointer, follower)
    return FittedFold(
        model,
        base,
        pred_NK,
        prediction_time(len(pred_NK), seconds, fit.encoded),
        n_train=len(fit.rows) // fit.encoded.orders,
        columns=columns,
        target_scaler=fit.objective.scaler_json,
        epochs=tuple(EpochRecord(**epoch) for epoch in checkpointer.epochs),
        resumed_at_steps=tuple(checkpointer.resumed),
        batches_cut_into=fit.pieces,
        steps_skipped=fit.skipped,
        **chosen,
    )


def prediction_time(n_rows: int, seconds: float, encoded: Encoded) -> PredictionTime:
    """What the card keeps of a prediction of so many rows of `encoded`."""
    states = encoded.states
    return PredictionTime(
        rows=n_rows,
        seconds=round(seconds, 4),
        states=None
        if states is None
        else StatesTime(
            fingerprint=states.fingerprint,
            rows=(len(states.starts_N1) - 1) // encoded.orders,
            seconds=states.seconds,
        ),
    )


def start(
    context: Context, job: FoldJob, located: Located, label: str | None = None
) -> tuple[backbone.Backbone, Fit, Columns | None]:
    """A training before its first step; all its chance comes from the fold's seed.

    `label` names it at the progress bar of hidden states that are computed first.
    """
    member, config = job.encoder_member, context.config
    objective = new_objective(context.competition.task, member.train.loss)
    dataset = context.datasets.of_fold(member, job.fold, located, objective)
    set_seed(job.seed)
    base, model, adopted = new_model(
        member,
        located,
        n_logits=objective.n_logits,
        n_columns=0 if dataset.columns is None else dataset.columns.width,
        remote_code=config.remote_code,
    )
    if not adopted:
        log.info("%s: the encoder has no trained pooler; a new one is trained", member.name)
    own = dataset.rows[dataset.rows < len(context.competition.y)]
    model.pooler.fit([dataset.encoded.ids[row] for row in own])
    train = member.train.model_copy(update={"precision": job.precision})
    fit = Fit(
        model,
        encoded_with_states(context, job, located, model, dataset.encoded, label),
        dataset.rows,
        dataset.targets,
        objective,
        train,
        job.seed,
        dataset.weights,
        # With windows.most, the user has set the limit.
        config.batch_tokens if member.windows and member.windows.most is None else None,
    )
    return base, fit, dataset.columns


def encoded_with_states(
    context: Context,
    job: FoldJob,
    located: Located,
    model: TextModel,
    encoded: Encoded,
    label: str | None,
) -> Encoded:
    """`encoded` with the hidden states of the model's frozen layers, where it has any."""
    return with_states(
        encoded,
        model,
        job.encoder_member,
        BackboneHashes(weights_sha256=located.weights_sha256, files_sha256=located.files_sha256),
        context.store,
        precision=job.precision,
        batch_tokens=context.config.batch_tokens,
        progress=label,
        after_batch=context.watch.check,
    )


def _train(
    context: Context, job: FoldJob, fit: Fit, checkpointer: Checkpointer, follower: Follower
) -> tuple[np.ndarray, float, TextModel, dict[str, Any]]:
    """Train what is left; predictions (N, K) of the fold's rows, the seconds that they took in the
    fastest epoch, the model, and the epoch kept.

    A checkpoint is written before the epoch's rows are predicted: no kill repeats a long training.
    """
    competition = context.competition
    valid, scorer = context.rows_of(job.fold), competition.scorer

    def after_step() -> None:
        if follower.wants(fit.steps_done):  # reading the loss waits for a GPU
            follower.step(fit.last_loss, fit.last_rate, fit.steps_done)
        checkpointer.after_step()

    epochs, estimate, fastest = checkpointer.epochs, context.estimate, math.inf
    estimate.begin_fold(job.member.name, job.fold, fit.steps_done / fit.n_steps)
    with enough_memory(OUT_OF_MEMORY):
        for epoch in fit.run(progress=checkpointer.label, after_step=after_step):
            checkpointer.after_epoch()
            pred_NK, seconds = _predict(context, fit, checkpointer, valid)
            fastest = min(fastest, seconds)
            epochs.append(asdict(epoch) | {"score": score(competition, valid, pred_NK)})
            _log_epoch(checkpointer, scorer.label, valid)
            follower.epoch(epochs[-1], fit.steps_done)
            estimate.after_epoch(job.member.name, job.fold, fit.steps_done / fit.n_steps)
            if fit.end_epoch(merit(scorer, epochs[-1]["score"]), pred_NK):
                break
    checkpointer.log_skipped()
    if fit.kept_epoch is None:
        return pred_NK, fastest, fit.finish(), {}
    number, predictions = fit.kept_epoch
    estimated = optimism(scorer, competition.scored[valid], predictions, seed=0)
    _log_best(checkpointer, number, estimated)
    chosen = {"kept_epoch": number, "optimism": estimated}
    return predictions[number - 1], fastest, fit.finish(), chosen


def _predict(
    context: Context, fit: Fit, checkpointer: Checkpointer, valid: np.ndarray
) -> tuple[np.ndarray, float]:
    """Predictions (N, K) of the fold's rows, and the seconds that they took."""
    if not len(valid):
        return np.empty((0, len(context.competition.task.outputs))), 0.0
    with fit.evaluated() as model:
        stopwatch = Stopwatch(checkpointer.after_batch)
        pred_NK = predict(
            model,
            fit.encoded,
            valid,
            fit.objective,
            batch_tokens=tokens_at_once(context.config.batch_tokens, fit.encoded),
            precision=fit.options.precision,
            after_batch=stopwatch,
        )
        seconds = stopwatch.seconds()
    if not np.isfinite(pred_NK).all():
        raise DivergedError(
            f"predictions became NaN or infinite in epoch {fit.position.epoch + 1}; {fit.cure}"
        )
    return pred_NK, seconds


def _log_epoch(checkpointer: Checkpointer, metric: str, valid: np.ndarray) -> None:
    epoch, fit = checkpointer.epochs[-1], checkpointer.fit
    rate = len(fit.rows) / max(epoch["seconds"], 1e-9)
    scored = f", {metric} {shown(epoch['score'])}" if len(valid) else ""
    log.info(
        "%s: epoch %d of %d: loss %.4f%s (%.0f s, %.0f rows a second)",
        checkpointer.label,
        epoch["number"],
        fit.options.epochs,
        epoch["loss"],
        scored,
        epoch["seconds"],
        rate,
    )


def _log_best(checkpointer: Checkpointer, number: int, optimism: float | None) -> None:
    """Which epoch is kept, and by how much choosing it on the fold's own rows is optimistic."""
    cost = "" if optimism is None else f", which makes its score optimistic by about {optimism:.4f}"
    log.info(
        "%s: epoch %d of %d is kept, the best on the fold's own rows%s",
        checkpointer.label,
        number,
        len(checkpointer.epochs),
        cost,
    )
