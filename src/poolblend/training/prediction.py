"""Predictions, pooled vectors or hidden states of the rows of a table."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from poolblend.modeling.encoders import HALF
from poolblend.modeling.model import Batch, TextModel
from poolblend.printing import hide_bars
from poolblend.training.batches import (
    Encoded,
    collate,
    prediction_batches,
    to_device,
    with_states,
)
from poolblend.training.devices import (
    Precision,
    choose_device,
    free_cached,
    out_of_memory,
    resolve_precision,
)
from poolblend.training.objectives import Objective

log = logging.getLogger(__name__)

T = TypeVar("T")

# A CPU gains nothing from larger batches, and those of similar lengths have less padding
# (docs/results.md).
CPU_TOKENS = 1024
CACHED_BYTES = 256 * 2**20


class BatchCache:
    """`collate`, which keeps the batches of one table for models that read it alike.

    At most `limit` bytes are kept; batches beyond are made anew each time.
    """

    def __init__(self, limit: int = CACHED_BYTES) -> None:
        self.limit = limit
        self._encoded: Encoded | None = None
        self._kept: dict[tuple[bytes, bool, int | None], Batch] = {}
        self._bytes = 0

    def __call__(
        self,
        encoded: Encoded,
        rows: np.ndarray,
        *,
        full_width: bool = False,
        window_tokens: int | None = None,
    ) -> Batch:
        # Columns are fitted to each fold; stored states are large.
        plain = replace(encoded, columns_NF=None, states=None)
        if self._encoded is None or not _same_parts(plain, self._encoded):
            self._encoded, self._kept, self._bytes = plain, {}, 0
        key = (rows.tobytes(), full_width, window_tokens)
        batch = self._kept.get(key)
        if batch is None:
            batch = collate(plain, rows, full_width=full_width, window_tokens=window_tokens)
            size = _size(batch)
            if self._bytes + size <= self.limit:
                self._kept[key] = batch
                self._bytes += size
        if encoded.columns_NF is not None:
            batch = batch._replace(columns_BF=torch.from_numpy(encoded.columns_NF[rows]))
        return with_states(batch, encoded, rows)


def _same_parts(one: Encoded, other: Encoded) -> bool:
    return all(getattr(one, part.name) is getattr(other, part.name) for part in fields(one))


def _size(parts: Iterable[object]) -> int:
    """Bytes of all tensors in a batch."""
    size = 0
    for part in parts:
        if isinstance(part, Tensor):
            size += part.nbytes
        elif isinstance(part, tuple):
            size += _size(part)
    return size


class Stopwatch:
    """Called after each batch of a pass, it times the pass.

    The first batch, in which a device also warms up, counts as much as the others do on average:
    batches hold about the same number of tokens.
    """

    def __init__(self, after_batch: Callable[[], None] | None = None) -> None:
        self._after_batch = after_batch
        self._batches, self._started = 0, time.perf_counter()

    def __call__(self) -> None:
        self._batches += 1
        if self._batches == 1:
            self._first = time.perf_counter()
        if self._after_batch is not None:
            self._after_batch()

    def seconds(self) -> float:
        """Of the whole pass, which ends now."""
        now = time.perf_counter()
        if self._batches < 2:
            return now - self._started
        return (now - self._first) * self._batches / (self._batches - 1)


def predict(
    model: TextModel, encoded: Encoded, rows: np.ndarray, objective: Objective, **how: Any
) -> np.ndarray:
    """Predictions (N, K) float64 in the order of `rows`: probabilities, or values in regression.

    Rows in both orders are predicted as the mean of the two. `how` are arguments of `batchwise`.
    """

    def outputs(batch: Batch) -> Tensor:
        return objective.activation(model(batch).float())

    both, exchange = encoded.both(rows), encoded.exchange
    pred = objective.unscale(batchwise(model, encoded, both, outputs, **how).double().numpy())
    return pred if exchange is None else exchange.mean(pred)


def pooled_vectors(model: TextModel, encoded: Encoded, rows: np.ndarray, **how: Any) -> np.ndarray:
    """Pooled vectors (N, H) float32 in the order of `rows`, which the head sees."""
    return batchwise(model, encoded, rows, model.pool, **how).numpy()


def tokens_at_once(batch_tokens: int, encoded: Encoded) -> int:
    """How many tokens a batch of predictions may have, or the windows that are read together."""
    small = choose_device().type == "cpu" and encoded.windowing is None
    return min(batch_tokens, CPU_TOKENS) if small else batch_tokens


def compute_states(
    model: TextModel,
    encoded: Encoded,
    layers: tuple[int, ...],
    starts_N1: np.ndarray,
    put: Callable[[int, np.ndarray], None],
    **how: Any,
) -> None:
    """Compute the states of these layers for all rows of `encoded`.

    `put` gets them row by row: the place of the row's first token, and an array (tokens, L, H).
    `how` are arguments of `each_batch`, whose `precision` is resolved. Raises ValueError for states
    that are not finite.
    """
    counts_N = np.diff(starts_N1)

    def take(rows: np.ndarray, states: list[Tensor]) -> None:
        x_SLH = torch.stack(states, dim=1).float().cpu()
        if not x_SLH.isfinite().all():
            raise ValueError("the encoder's hidden states are not finite")
        if how["precision"] == "bf16":
            x_SLH = x_SLH.to(torch.bfloat16).view(torch.int16)
        ends = np.cumsum(counts_N[rows])
        for row, end in zip(rows, ends, strict=True):
            put(int(starts_N1[row]), x_SLH[end - counts_N[row] : end].numpy())

    everything = np.arange(len(encoded.ids))
    each_batch(
        model, encoded, everything, lambda batch: model.token_states(batch, layers), take, **how
    )


def batchwise(
    model: TextModel,
    encoded: Encoded,
    rows: np.ndarray,
    compute: Callable[[Batch], Tensor],
    **how: Any,
) -> Tensor:
    """The results of `compute` for the rows, (N, W) float32 on the CPU, in the order of `rows`.

    `how` are arguments of `each_batch`.
    """
    results: list[Tensor] = []
    done: list[np.ndarray] = []

    def take(positions: np.ndarray, result: Tensor) -> None:
        results.append(result.float())
        done.append(positions)

    each_batch(model, encoded, rows, compute, take, **how)
    order = np.argsort(np.concatenate(done), kind="stable")
    return torch.cat(results).cpu()[order]


def each_batch(
    model: TextModel,
    encoded: Encoded,
    rows: np.ndarray,
    compute: Callable[[Batch], T],
    take: Callable[[np.ndarray, T], None],
    *,
    batch_tokens: int,
    precision: Precision,
    progress: str | None = None,
    after_batch: Callable[[], None] | None = None,
    collated: Callable[..., Batch] = collate,
) -> None:
    """Batch by batch, longest rows first: `take(positions in rows, what compute returned)`.

    The model stays on its device and in the mode it was in. `batch_tokens` bounds a batch's tokens,
    padding included; where the device runs out of memory it is halved, down to single rows.
    `collated` makes the batches; a `BatchCache` makes them once for several models.
    """
    device = next(model.parameters()).device
    dtype = HALF.get(resolve_precision(precision, device))
    full_width = model.mask == "none"
    lengths = encoded.lengths_N[rows]
    if full_width:
        lengths = np.full_like(lengths, encoded.max_length)
    waiting = prediction_batches(lengths, batch_tokens)
    training = model.training
    model.eval()
    hidden = hide_bars() if progress else True
    with (
        torch.no_grad(),  # under inference_mode, autocast would cast all weights in every batch
        _castable(model if dtype is not None else None),
        torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
        tqdm(total=len(rows), desc=progress, unit="row", disable=hidden) as bar,
    ):
        while waiting:
            batch = waiting[0]
            padded = collated(
                encoded, rows[batch], full_width=full_width, window_tokens=batch_tokens
            )
            result = _try(compute, to_device(padded, device))
            if result is None:
                waiting, batch_tokens = _halved(waiting, lengths, batch_tokens)
                continue
            take(waiting.pop(0), result)
            bar.update(len(batch))
            if after_batch is not None:
                after_batch()
    model.train(training)


@contextmanager
def _castable(model: TextModel | None) -> Iterator[None]:
    """Let autocast keep the cast weights, which it does for those that learn alone."""
    weights = [] if model is None else list(model.parameters())
    frozen = [p for p in weights if not p.requires_grad and p.is_floating_point()]
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def _halved(
    waiting: list[np.ndarray], lengths: np.ndarray, batch_tokens: int
) -> tuple[list[np.ndarray], int]:
    """The rows that are left, in batches of half the tokens of the first; and that number."""
    free_cached()
    first = waiting[0]
    if len(first) > 1:
        batch_tokens = int(lengths[first].max()) * (len(first) // 2)
    else:  # a row that is read in passes of `batch_tokens`
        batch_tokens //= 2
    log.warning("out of memory: predicting batches of %d tokens", batch_tokens)
    left = np.concatenate(waiting)
    return [left[part] for part in prediction_batches(lengths[left], batch_tokens)], batch_tokens


def _try(compute: Callable[[Batch], T], batch: Batch) -> T | None:
    """The result; None where the memory is too small and the batch can be halved.

    The error holds the batch's memory, so it must not leave this function.
    """
    try:
        return compute(batch)
    except RuntimeError as error:
        single_pass = batch.windows is None or batch.windows.most in (None, 1)
        if (len(batch.ids_BT) == 1 and single_pass) or not out_of_memory(error):
            raise
        return None
