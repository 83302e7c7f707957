"""Time a few steps before the first epoch, to say how long the folds of a command will take.

The steps are real ones, of the member's own model on rows of the competition. `jobs.estimate` turns
their speed into a time, and corrects it after the first epochs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from poolblend.config import Member
from poolblend.jobs.context import Context
from poolblend.jobs.estimate import Estimate, training_tokens
from poolblend.jobs.frozen_states import frozen_layers
from poolblend.jobs.job import FoldJob, Job
from poolblend.jobs.two_rows import OUT_OF_MEMORY, own_random_numbers
from poolblend.loading.models import new_model, new_objective
from poolblend.training.batches import Encoded
from poolblend.training.devices import choose_device, enough_memory
from poolblend.training.fit import Fit

log = logging.getLogger(__name__)

STEPS, SECONDS = 3, 1.5  # timed of one kind of member: steps at most; no third begins after
FIRST_SECONDS = 5.0  # of a first step, which allots memory, too; after a longer one none follows
ALL_SECONDS = 6.0  # after which no further kind of member is timed
CPU_FLOPS = 4e10  # of a step on a CPU, which take about a second there


def estimate(context: Context, jobs: Iterable[Job], workers: int = 1) -> Estimate:
    """Of the time that the jobs take, so many at a time."""
    tokens = {}
    for job in jobs:
        if isinstance(job, FoldJob) and isinstance(job.member, Member):
            encoded = context.datasets.encode(job.member, context.locate(job.member.backbone))
            others_N = encoded.lengths_N[context.competition.fold_N != job.fold]
            orders = 1 if context.config.data.swap is None else 2
            tokens[job.member.name, job.fold] = orders * training_tokens(job.member, others_N)
    return Estimate(tokens, context.speeds, workers)


def time_steps(context: Context, jobs: Sequence[Job]) -> str:
    """How long the jobs take, in words; "" where nothing could be timed.

    Fills `context.speeds` with the members' seconds per token, predicting included. Members that
    differ in nothing but what follows the encoder share one measurement. A member whose step fails
    is left out: the rehearsal says what is wrong with it.
    """
    # Models without an encoder take seconds.
    folds = [job for job in jobs if isinstance(job, FoldJob) and isinstance(job.member, Member)]
    # In each epoch the fold's own rows are predicted: a third of a step's work.
    predicting = 1 / (3 * max(1, context.competition.n_folds - 1))
    found: dict[str, float] = {}
    failing: set[str] = set()
    started = time.perf_counter()
    for name, job in {job.member.name: job for job in folds}.items():
        context.watch.check()
        member = job.encoder_member
        kind = str((member.backbone, member.applied_train))
        try:
            encoded = context.datasets.encode(member, context.locate(member.backbone))
            in_time = time.perf_counter() - started < ALL_SECONDS
            if kind not in found and in_time and not member.head.frozen:
                with own_random_numbers(), enough_memory(OUT_OF_MEMORY):
                    found[kind] = _seconds_per_token(context, job, encoded)
        except Exception as error:
            log.debug("a step of %s could not be timed: %s", name, error)
            failing.add(name)
        if kind in found:
            context.speeds[name] = found[kind] * (1 + predicting)
    expected = estimate(context, [job for job in folds if job.member.name not in failing]).before()
    return f"{expected}, by a few steps timed on this machine" if expected else ""


def _seconds_per_token(context: Context, job: FoldJob, encoded: Encoded) -> float:
    """Of the fastest of a few steps on some of the run's rows."""
    fit, n_tokens = _fit(context, job, encoded)
    encoder = fit.model.encoder
    frozen, n_layers = frozen_layers(job.encoder_member, encoder), encoder.config.num_hidden_layers
    # A step on stored states lacks the frozen layers' forward pass; of the others a step takes 3.
    needed = 3 * (n_layers - frozen)
    share = max(needed, 1) / (needed + frozen)
    fastest, began = float("inf"), time.perf_counter()
    for number in range(STEPS):
        started = time.perf_counter()
        fit.try_step()
        fastest = min(fastest, time.perf_counter() - started)
        if time.perf_counter() - began > (SECONDS if number else FIRST_SECONDS):
            break
    return share * fastest / n_tokens


def _fit(context: Context, job: FoldJob, encoded: Encoded) -> tuple[Fit, int]:
    """A training whose only step reads as many rows as take a second or so, and their tokens."""
    member = job.encoder_member
    objective = new_objective(context.competition.task, member.train.loss)
    _, model, _ = new_model(
        member,
        context.locate(member.backbone),
        n_logits=objective.n_logits,
        n_columns=0,
        remote_code=context.config.remote_code,
    )
    lengths_N, n_rows = encoded.lengths_N, member.train.batch_size
    if choose_device().type == "cpu":
        flops = 6 * _n_weights(model.encoder) * lengths_N.mean()
        n_rows = int(np.clip(CPU_FLOPS / flops, 1, n_rows))
    rows = np.random.default_rng(0).permutation(len(lengths_N))[:n_rows]
    model.pooler.fit([encoded.ids[row] for row in rows])
    options = {"epochs": 1, "batch_size": n_rows, "accumulation": 1, "precision": job.precision}
    fit = Fit(
        model,
        encoded,
        rows,
        objective.targets(context.competition.y),
        objective,
        member.train.model_copy(update=options),
        job.seed,
    )
    return fit, int(lengths_N[rows].sum())


def _n_weights(encoder: Any) -> int:
    """How many weights are multiplied for each token: all but the embeddings."""
    words = encoder.get_input_embeddings().weight.numel()
    return max(1, sum(weight.numel() for weight in encoder.parameters()) - words)
