"""Folds of models without an encoder: fit one, load it from the store, predict with it.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from poolblend.cards.fold import FoldCard, HeadRecord, PredictionTime
from poolblend.cards.fold_names import fold_name
from poolblend.config import TfidfMember
from poolblend.errors import UserError
from poolblend.jobs.context import Context
from poolblend.jobs.finetune import FittedFold
from poolblend.jobs.job import FoldJob
from poolblend.loading.models import new_objective
from poolblend.training.objectives import Objective
from poolblend.training.tfidf import TfidfModel, fit_tfidf


def fit_fold(context: Context, job: FoldJob, member: TfidfMember) -> FittedFold:
    """The member's model of the fold; raises Stopped, with nothing kept, when the watch says so."""
    task = context.competition.task
    objective = new_objective(task)
    labels = context.datasets.labels(member, job.fold, objective)
    texts, columns_NF = context.datasets.plain(member, labels.columns)
    context.watch.check()
    started, rows = time.perf_counter(), labels.rows
    targets, weights = labels.targets[rows], labels.weights[rows]
    objective = objective.fitted(targets, weights)
    assert member.head.kind != "linear"
    model = fit_tfidf(
        member.model,
        member.head.kind,
        [texts[row] for row in rows],
        None if columns_NF is None else columns_NF[rows],
        objective.scale(targets),
        weights,
        objective,
        task_kind=task.kind,
        C=member.head.C,
    )
    seconds = time.perf_counter() - started
    context.watch.took("fitting a head", seconds)
    valid, started = context.rows_of(job.fold), time.perf_counter()
    pred_NK = np.empty((0, len(task.outputs)))
    if len(valid):
        pred_NK = predict(model, texts, columns_NF, valid, objective)
    predicting = round(time.perf_counter() - started, 4)
    return FittedFold(
        model,
        None,
        pred_NK,
        PredictionTime(rows=len(valid), seconds=predicting),
        n_train=len(rows),
        columns=labels.columns,
        target_scaler=objective.scaler_json,
        head=HeadRecord(seconds=round(seconds, 1)),
    )


def load_model(
    card: FoldCard, member: TfidfMember, tensors: Mapping[str, torch.Tensor], objective: Objective
) -> TfidfModel:
    """The fold's model; UserError where its tensors do not fit its card."""
    n_columns = 0 if card.columns is None else card.columns.width
    try:
        return TfidfModel.load(member.model, tensors, objective.n_logits, n_columns)
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the weights of {member.name} {fold_name(card.fold)} do not fit its card: {reason}"
        ) from None


def predict(
    model: TfidfModel,
    texts: Sequence[str],
    columns_NF: np.ndarray | None,
    rows: np.ndarray,
    objective: Objective,
) -> np.ndarray:
    """Predictions (N, K) of the texts at `rows`."""
    columns = None if columns_NF is None else columns_NF[rows]
    logits_NL = torch.from_numpy(model.logits([texts[row] for row in rows], columns))
    return objective.unscale(objective.activation(logits_NL).numpy())
