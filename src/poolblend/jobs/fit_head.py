"""Fit a head to a frozen encoder: vectors pooled from its hidden states, and a scikit-learn model.

Shape legend: N rows, H width of the pooler, F features, K outputs.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from poolblend.cards.fold import HeadRecord
from poolblend.jobs.context import Context
from poolblend.jobs.finetune import FittedFold, encoded_with_states, prediction_time
from poolblend.jobs.job import FoldJob
from poolblend.loading.models import new_model, new_objective
from poolblend.modeling.heads import KernelHead
from poolblend.modeling.model import TextModel
from poolblend.modeling.sources import Located
from poolblend.training.batches import Encoded
from poolblend.training.devices import choose_device, enough_memory
from poolblend.training.head_fitting import fit_head as fit_scikit_head
from poolblend.training.prediction import Stopwatch, pooled_vectors, tokens_at_once


def fit_head(context: Context, job: FoldJob, located: Located, label: str) -> FittedFold:
    """The member's model of the fold; raises Stopped, with nothing kept, when the watch says so.

    `label` names the fold at a progress bar.
    """
    member, task = job.encoder_member, context.competition.task
    objective = new_objective(task)
    dataset = context.datasets.of_fold(member, job.fold, located, objective)
    columns, rows, valid = dataset.columns, dataset.rows, context.rows_of(job.fold)
    base, model, _ = new_model(
        member,
        located,
        n_logits=objective.n_logits,
        n_columns=0 if columns is None else columns.width,
        remote_code=context.config.remote_code,
        base=context.frozen_backbone(member, located),
    )
    own = rows[rows < len(context.competition.y)]
    model.pooler.fit([dataset.encoded.ids[row] for row in own])
    with enough_memory("lower batch_tokens"):
        encoded = encoded_with_states(context, job, located, model, dataset.encoded, label)
    x_NF, pooling = _features(context, model, encoded, job, label)
    context.watch.check()
    started, kind = time.perf_counter(), member.head.kind
    assert kind != "linear"
    targets, weights = dataset.targets[rows], dataset.weights[rows]
    objective = objective.fitted(targets, weights)
    model.head = fit_scikit_head(
        kind,
        x_NF[rows],
        objective.scale(targets),
        weights,
        objective,
        task_kind=task.kind,
        C=member.head.C,
    )
    seconds = time.perf_counter() - started
    context.watch.took("fitting a head", seconds)
    started = time.perf_counter()
    with torch.inference_mode():
        both = encoded.both(valid)
        activated_NK = objective.activation(model.head(torch.from_numpy(x_NF[both])))
    pred_NK = objective.unscale(activated_NK.double().numpy())
    if encoded.exchange is not None:
        pred_NK = encoded.exchange.mean(pred_NK)
    predicting = pooling + time.perf_counter() - started
    support = len(model.head.support_SF) if isinstance(model.head, KernelHead) else None
    return FittedFold(
        model,
        base,
        pred_NK,
        prediction_time(len(valid), predicting, encoded),
        n_train=len(rows) // encoded.orders,
        columns=columns,
        target_scaler=objective.scaler_json,
        head=HeadRecord(seconds=round(seconds, 1), support_vectors=support),
    )


def _features(
    context: Context, model: TextModel, encoded: Encoded, job: FoldJob, label: str
) -> tuple[np.ndarray, float]:
    """What the head is to see of all rows of `encoded`, (N, F) float32; the seconds of the fold's.

    Folds are pooled one by one, test rows last: in just the batches in which the stored model will
    read them again.
    """
    fold_N = context.competition.fold_N
    n_rows = len(encoded.ids) // encoded.orders
    part_N = np.concatenate([fold_N, np.full(n_rows - len(fold_N), fold_N.max() + 1)])
    part_N = np.resize(part_N, len(encoded.ids))  # both orders of a row together
    x_NH, seconds = np.empty((len(part_N), model.pooler.width), dtype=np.float32), 0.0
    for part in np.unique(part_N):
        rows, stopwatch = np.flatnonzero(part_N == part), Stopwatch(context.watch.check)
        with enough_memory("lower batch_tokens"):
            x_NH[rows] = pooled_vectors(
                model.to(choose_device()),
                encoded,
                rows,
                batch_tokens=tokens_at_once(context.config.batch_tokens, encoded),
                precision=job.precision,
                progress=label,
                after_batch=stopwatch,
            )
        if part == job.fold:
            seconds = stopwatch.seconds()
    return x_NH if encoded.columns_NF is None else np.hstack([x_NH, encoded.columns_NF]), seconds
