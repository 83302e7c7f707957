"""How long a fold model takes, from a few of its own steps and the tokens of all of them.

Shape legend: N rows, S optimizer steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from poolblend.config import Member
from poolblend.jobs.finetuning import OUT_OF_MEMORY
from poolblend.jobs.trainer import Trainer
from poolblend.modeling.options import Head
from poolblend.training.batches import Encoded, padded_tokens, plan_steps, prediction_batches
from poolblend.training.fit import Fit
from poolblend.training.memory import enough_memory, release_memory
from poolblend.training.options import Train
from poolblend.training.prediction import predict
from poolblend.training.recipes import extra_pass_from

N_TRIED = 6  # optimizer steps, after one that warms up
LONGEST = 30.0  # seconds of trying after which no further step is tried


@dataclass(frozen=True, eq=False)
class Work:
    """What a fold's training goes through; tokens are those a model reads, padding included."""

    rows: np.ndarray  # trained on
    tokens_S: np.ndarray  # of each optimizer step, all epochs in a row
    epochs: int
    steps_done: int
    extra_pass_from: int
    predicted: np.ndarray  # rows predicted after each epoch; all, once, by a frozen encoder
    predicted_tokens: int

    @property
    def n_steps(self) -> int:
        return len(self.tokens_S)

    @property
    def steps_per_epoch(self) -> int:
        return self.n_steps // self.epochs

    @property
    def epochs_left(self) -> int:
        """How often the rows are predicted from here on."""
        return self.epochs - self.steps_done // self.steps_per_epoch if self.n_steps else 1

    def steps(self, *, adversarial: bool) -> np.ndarray:
        """The numbers of those not done that are adversarial, or of those that are not."""
        left = np.arange(self.steps_done, self.n_steps)
        return left[(left >= self.extra_pass_from) == adversarial]


def plan_work(
    encoded: Encoded,
    rows: np.ndarray,
    valid: np.ndarray,
    options: Train,
    seed: int,
    *,
    full_width: bool,
    batch_tokens: int,
    steps_done: int,
) -> Work:
    """As a fit of these options goes through its batches, and a prediction of `valid` after it."""
    lengths_N = encoded.lengths_N
    plan = plan_steps(
        lengths_N[rows], options.epochs, options.batch_size, options.accumulation, seed
    )
    if full_width:
        lengths_N = np.full_like(lengths_N, encoded.max_length)
    own_N = lengths_N[rows]
    tokens = [
        sum(padded_tokens(own_N[batch], encoded.max_length) for batch in step)
        for epoch in plan
        for step in epoch
    ]
    return Work(
        rows,
        np.array(tokens),
        options.epochs,
        steps_done,
        extra_pass_from(options, len(tokens)),
        valid,
        _tokens_predicted(encoded, valid, batch_tokens, full_width=full_width),
    )


def plan_reading(
    encoded: Encoded, rows: np.ndarray, *, full_width: bool, batch_tokens: int
) -> Work:
    """Of a frozen encoder: all of the texts are read once, and nothing is trained."""
    everything = np.arange(len(encoded.ids))
    tokens = _tokens_predicted(encoded, everything, batch_tokens, full_width=full_width)
    return Work(rows, np.array([], dtype=int), 0, 0, 0, everything, tokens)


def _tokens_predicted(
    encoded: Encoded, rows: np.ndarray, batch_tokens: int, *, full_width: bool
) -> int:
    lengths_N = encoded.lengths_N[rows]
    if full_width:
        lengths_N = np.full_like(lengths_N, encoded.max_length)
    batches = prediction_batches(lengths_N, batch_tokens)
    return sum(padded_tokens(lengths_N[batch], encoded.max_length) for batch in batches)


@dataclass(frozen=True)
class Pace:
    """Seconds that a member takes: to begin, and per token of a step or a prediction."""

    begin: float
    plain: float
    adversarial: float
    predicting: float

    def of_steps(self, work: Work) -> float:
        """Seconds of the optimizer steps that are not done."""
        plain, adversarial = (work.tokens_S[work.steps(adversarial=a)].sum() for a in (False, True))
        return float(self.plain * plain + self.adversarial * adversarial)

    def of_fold(self, work: Work) -> float:
        """Seconds of all that is not done."""
        predicting = self.predicting * work.predicted_tokens * work.epochs_left
        return self.begin + self.of_steps(work) + predicting


def try_out(trainer: Trainer, member: Member, fold: int, work: Work) -> Pace:
    """Time a few of the fold's steps and predictions, on a model that is then thrown away.

    A frozen encoder, whatever is fitted to it, is timed by its predictions.
    """
    started = time.perf_counter()
    with enough_memory(OUT_OF_MEMORY):
        trained = {"head": _trainable(member.head), "train": member.applied_train}
        fit = trainer.fresh(member.model_copy(update=trained), fold)
        begin = time.perf_counter() - started
        plain, adversarial = (
            _seconds_per_token(fit, work, work.steps(adversarial=a)) for a in (False, True)
        )
        predicting = _seconds_per_token_predicted(fit, work, trainer.config.batch_tokens)
    del fit
    release_memory()
    return Pace(begin, plain, adversarial, predicting)


def _trainable(head: Head) -> Head:
    return Head() if head.frozen else head


def _seconds_per_token(fit: Fit, work: Work, steps: np.ndarray) -> float:
    """Of steps spread evenly over all lengths; the largest comes first, and warms up."""
    if not len(steps):
        return 0.0
    by_size = steps[np.argsort(work.tokens_S[steps], kind="stable")]
    places = np.unique(((np.arange(N_TRIED) + 0.5) / N_TRIED * len(steps)).astype(int))
    started, seconds, tokens = time.perf_counter(), 0.0, 0
    fit.seconds_of_step(*divmod(int(by_size[-1]), work.steps_per_epoch))
    for place in np.random.default_rng(0).permutation(places):
        step = int(by_size[place])
        seconds += fit.seconds_of_step(*divmod(step, work.steps_per_epoch))
        tokens += int(work.tokens_S[step])
        if time.perf_counter() - started > LONGEST:
            break
    return seconds / tokens


def _seconds_per_token_predicted(fit: Fit, work: Work, batch_tokens: int) -> float:
    """Of rows spread evenly over all lengths, two batches of them."""
    full_width = fit.model.mask == "none"
    lengths_N = fit.encoded.lengths_N[work.predicted]
    by_length = work.predicted[np.argsort(lengths_N, kind="stable")]
    stride = max(1, work.predicted_tokens // (2 * batch_tokens))
    rows, seconds = by_length[stride // 2 :: stride], 0.0
    with fit.evaluated() as model:
        for some in (rows[:: max(1, len(rows) // 8)], rows):  # the first ones warm up
            started = time.perf_counter()
            predict(
                model,
                fit.encoded,
                some,
                fit.objective,
                batch_tokens=batch_tokens,
                precision=fit.options.precision,
            )
            seconds = time.perf_counter() - started
    return seconds / _tokens_predicted(fit.encoded, rows, batch_tokens, full_width=full_width)
