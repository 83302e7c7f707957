"""The form of prediction tables: id, fold (out of fold only), then pred_<output> per model output.

Legend: N rows, K outputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poolblend.store.files import write_parquet

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


def write_kept(path: Path, table: pd.DataFrame, made_from: Mapping[str, Any]) -> None:
    """Write predictions without a fold, with what they were made from and a hash of their own."""
    table = table.copy()
    table.attrs.update(made_from, content_sha256=_content_sha256(table))
    write_parquet(path, table)


def read_kept(path: Path) -> pd.DataFrame | None:
    """The predictions, with what they were made from in `attrs`; None where they are not whole."""
    from pyarrow import ArrowException

    with suppress(OSError, ValueError, TypeError, KeyError, ArrowException):
        table = pd.read_parquet(path)
        if table.attrs.pop("content_sha256", None) == _content_sha256(table):
            return table
    return None


def _content_sha256(table: pd.DataFrame) -> str:
    """Hex digest of what the table holds, whichever library wrote it."""
    digest = hashlib.sha256("\0".join([*table.columns, *table["id"]]).encode())
    numbers = table.drop(columns="id")
    for column in numbers:
        digest.update(np.ascontiguousarray(numbers[column], dtype=np.float64).data)
    return digest.hexdigest()
