"""Test predictions that are kept, so that a blend of the same models computes nothing again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poolblend.store.files import write_parquet

if TYPE_CHECKING:
    import pandas as pd


def write_kept(path: Path, table: pd.DataFrame, made_from: Mapping[str, Any]) -> None:
    """Write predictions without a fold, with what they were made from and a hash of their own."""
    table = table.copy()
    table.attrs.update(made_from, content_sha256=_content_sha256(table))
    write_parquet(path, table)


def read_kept(path: Path) -> pd.DataFrame | None:
    """The predictions, with what they were made from in `attrs`; None where they are not whole."""
    import pandas as pd
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
