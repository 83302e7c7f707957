"""The form of prediction tables: id, fold (out of fold only), then pred_<output> per model output.

Legend: N rows, K outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

PREFIX = "pred_"


def to_table(
    ids: Iterable[str], pred_NK: np.ndarray, outputs: Sequence[str], fold: int | None = None
) -> pd.DataFrame:
    """Predictions of the rows named by `ids`, with their fold where one is given."""
    columns: dict[str, object] = {"id": list(ids)}
    if fold is not None:
        columns["fold"] = fold
    return pd.DataFrame(columns | {f"{PREFIX}{o}": pred_NK[:, k] for k, o in enumerate(outputs)})


def from_table(table: pd.DataFrame, ids: Iterable[str], outputs: Sequence[str]) -> np.ndarray:
    """The predictions (N, K) of the rows named by `ids`, in their order."""
    columns = [f"{PREFIX}{output}" for output in outputs]
    return table.set_index("id").loc[list(ids), columns].to_numpy()
