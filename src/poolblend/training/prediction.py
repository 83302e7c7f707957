"""Predict any rows of a table, longest first, in their own order.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from poolblend.modeling.model import Batch, TextModel
from poolblend.training.batches import Encoded
from poolblend.training.batchwise import batchwise
from poolblend.training.devices import Precision
from poolblend.training.objectives import Objective


def predict(
    model: TextModel,
    encoded: Encoded,
    rows: np.ndarray,
    objective: Objective,
    *,
    batch_tokens: int,
    precision: Precision,
    progress: str | None = None,
    after_batch: Callable[[], None] | None = None,
) -> np.ndarray:
    """Predictions (N, K) float64 in the order of `rows`: probabilities, or values in regression.

    The model stays on its device and in the mode it was in. `batch_tokens` bounds a batch's tokens,
    padding included; where the device runs out of memory it is halved, down to single rows.
    """

    def outputs(batch: Batch) -> Tensor:
        return objective.activation(model(batch).float())

    pred_NK = batchwise(
        model,
        encoded,
        rows,
        outputs,
        batch_tokens=batch_tokens,
        precision=precision,
        progress=progress,
        after_batch=after_batch,
    )
    return objective.restored(pred_NK.double().numpy())
