"""What training a fold gives, whichever way it was trained.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from poolblend.modeling.model import TextModel


class FittedFold(NamedTuple):
    """A fold's model and the parts beside it, predictions (N, K) of its own rows, and its card."""

    model: TextModel
    parts: Sequence[Any]
    pred_NK: np.ndarray
    told: dict[str, Any]
