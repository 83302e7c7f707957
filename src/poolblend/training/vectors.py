"""The vectors that a model pools of any rows of a table: what its head sees.

Shape legend: N rows, H width of the pooler.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from poolblend.modeling.model import TextModel
from poolblend.training.batches import Encoded
from poolblend.training.batchwise import batchwise
from poolblend.training.devices import Precision


def pooled_vectors(
    model: TextModel,
    encoded: Encoded,
    rows: np.ndarray,
    *,
    batch_tokens: int,
    precision: Precision,
    progress: str | None = None,
    after_batch: Callable[[], None] | None = None,
) -> np.ndarray:
    """Pooled vectors (N, H) float32 in the order of `rows`.

    The model stays on its device and in the mode it was in.
    """
    vector_NH = batchwise(
        model,
        encoded,
        rows,
        model.pool,
        batch_tokens=batch_tokens,
        precision=precision,
        progress=progress,
        after_batch=after_batch,
    )
    return vector_NH.numpy()
