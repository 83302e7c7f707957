"""What a model makes of any rows of a table, in their own order: predictions, or pooled vectors.

Shape legend: N rows, K outputs, H width of the pooler.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from poolblend.modeling.model import Batch, TextModel
from poolblend.training.batches import Encoded
from poolblend.training.batchwise import batchwise
from poolblend.training.objectives import Objective


def predict(
    model: TextModel, encoded: Encoded, rows: np.ndarray, objective: Objective, **how: Any
) -> np.ndarray:
    """Predictions (N, K) float64 in the order of `rows`: probabilities, or values in regression.

    `how` is what `batchwise` takes.
    """

    def outputs(batch: Batch) -> Tensor:
        return objective.activation(model(batch).float())

    return objective.unscale(batchwise(model, encoded, rows, outputs, **how).double().numpy())


def pooled_vectors(model: TextModel, encoded: Encoded, rows: np.ndarray, **how: Any) -> np.ndarray:
    """Pooled vectors (N, H) float32 in the order of `rows`, which the head sees."""
    return batchwise(model, encoded, rows, model.pool, **how).numpy()
