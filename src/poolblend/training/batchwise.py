"""Run a model over any rows of a table, longest first; the results come in the rows' own order.

Shape legend: N rows, W width of the result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from poolblend.modeling.model import Batch, TextModel
from poolblend.training.batches import Encoded, collate, prediction_batches
from poolblend.training.devices import (
    DTYPES,
    Precision,
    free_cached,
    out_of_memory,
    resolve_precision,
)

log = logging.getLogger(__name__)


def batchwise(
    model: TextModel,
    encoded: Encoded,
    rows: np.ndarray,
    compute: Callable[[Batch], Tensor],
    *,
    batch_tokens: int,
    precision: Precision,
    progress: str | None = None,
    after_batch: Callable[[], None] | None = None,
) -> Tensor:
    """What `compute` makes of the rows' batches, (N, W) float32 on the CPU, in the order of `rows`.

    The model stays on its device and in the mode it was in. `batch_tokens` bounds a batch's tokens,
    padding included; where the device runs out of memory it is halved, down to single rows.
    """
    device = next(model.parameters()).device
    dtype = DTYPES.get(resolve_precision(precision, device))
    full_width = model.mask == "none"
    lengths = encoded.lengths_N[rows]
    if full_width:
        lengths = np.full_like(lengths, encoded.max_length)
    results: list[Tensor] = []
    done: list[np.ndarray] = []
    waiting = prediction_batches(lengths, batch_tokens)
    training = model.training
    model.eval()
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
        tqdm(total=len(rows), desc=progress, unit="row", disable=None if progress else True) as bar,
    ):
        while waiting:
            batch = waiting[0]
            collated = collate(
                encoded, rows[batch], full_width=full_width, window_tokens=batch_tokens
            )
            result = _try(compute, collated.to(device))
            if result is None:
                waiting, batch_tokens = _halved(waiting, lengths, batch_tokens)
                continue
            results.append(result.float())
            done.append(waiting.pop(0))
            bar.update(len(batch))
            if after_batch is not None:
                after_batch()
    model.train(training)
    order = np.argsort(np.concatenate(done), kind="stable")
    return torch.cat(results).cpu()[order]


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


def _try(compute: Callable[[Batch], Tensor], batch: Batch) -> Tensor | None:
    """The result (B, W); None where the memory is too small and the batch can be halved.

    The error itself holds on to the batch's memory, and ends here.
    """
    try:
        return compute(batch)
    except RuntimeError as error:
        single_pass = batch.windows is None or batch.windows.most in (None, 1)
        if (len(batch.ids_BT) == 1 and single_pass) or not out_of_memory(error):
            raise
        return None
