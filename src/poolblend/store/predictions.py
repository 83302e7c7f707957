"""The form of prediction tables: id, fold (out of fold only), then pred_<output> per model output.

Tables of pooled vectors have id, fold (of train rows only) and vector, a list of one length.

Legend: N rows, K outputs, H width of the vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

PREFIX = "pred_"


def to_table(
    ids: Iterable[str], pred_NK: np.ndarray, outputs: Sequence[str], fold: int | None = None
) -> pd.DataFrame:
    """Predictions of the rows named by `ids`, with their fold if it is given."""
    columns: dict[str, object] = {"id": list(ids)}
    if fold is not None:
        columns["fold"] = fold
    return pd.DataFrame(columns | {f"{PREFIX}{o}": pred_NK[:, k] for k, o in enumerate(outputs)})


def from_table(table: pd.DataFrame, ids: Iterable[str], outputs: Sequence[str]) -> np.ndarray:
    """The predictions (N, K) of the rows named by `ids`, in their order."""
    columns = [f"{PREFIX}{output}" for output in outputs]
    return table.set_index("id").loc[list(ids), columns].to_numpy()


def vectors_table(ids: Iterable[str], vector_NH: np.ndarray, fold_N: np.ndarray | None) -> pa.Table:
    """Pooled vectors as lists of float32 of one length."""
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vector_NH, dtype=np.float32).reshape(-1))
    columns = {"id": pa.array(list(ids), pa.string())}
    if fold_N is not None:
        columns["fold"] = pa.array(fold_N, pa.int64())
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, vector_NH.shape[1])
    return pa.table(columns)
