"""Pooled vectors that are kept: a parquet file per fold model and table, which vouches for itself.

Columns id, fold (of train rows only) and vector, a list of float32 of one length.

Shape legend: N rows, H width of the vectors.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from poolblend.store.cards import DamagedError
from poolblend.store.files import no_half_files

log = logging.getLogger(__name__)

TableName = Literal["train", "test"]
NOTE = b"poolblend"  # what the file's schema says, beside the columns
CONTENT = "content_sha256"


class Vectors(NamedTuple):
    """The vectors of the rows `ids_N`, float32, and the folds that the rows of train are in.

    `made_from` says by hashes which weights and which tables they were made from.
    """

    ids_N: np.ndarray
    vector_NH: np.ndarray
    fold_N: np.ndarray | None
    made_from: dict[str, Any]


class VectorsFile(NamedTuple):
    """The file of the vectors that a member's fold model pools of a table's rows."""

    path: Path
    member: str
    fold: int
    table: TableName

    def save(self, vectors: Vectors) -> None:
        """Write the vectors, whole or not at all, with a hash of all that is said of them."""
        import pyarrow as pa
        from pyarrow import parquet

        ids_N, vector_NH, fold_N, made_from = vectors
        flat = pa.array(np.ascontiguousarray(vector_NH, dtype=np.float32).reshape(-1))
        columns = {"id": pa.array(ids_N.tolist(), pa.string())}
        if fold_N is not None:
            columns["fold"] = pa.array(fold_N, pa.int64())
        columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, vector_NH.shape[1])
        note = {"made_from": made_from, CONTENT: self._content_sha256(vectors)}
        table = pa.table(columns).replace_schema_metadata({NOTE: json.dumps(note)})
        with no_half_files(self.path) as temporary:
            parquet.write_table(table, temporary, use_dictionary=False)

    def load(self, made_from: Mapping[str, Any]) -> Vectors | None:
        """Vectors kept earlier, if they are whole and were made from just this; else None."""
        if not self.path.is_file():
            return None
        try:
            vectors = self.check()
        except DamagedError as error:
            log.warning("%s", error)
            return None
        return vectors if vectors.made_from == dict(made_from) else None

    def check(self) -> Vectors:
        """The vectors kept, whatever they were made from; DamagedError where they are not whole."""
        from pyarrow import ArrowException, parquet

        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, ArrowException):
            with parquet.ParquetFile(self.path) as file:
                table = file.read()
            note = json.loads(table.schema.metadata[NOTE])
            vectors = Vectors(
                np.array(table["id"].to_pylist(), dtype=str),
                _matrix(table["vector"], table.schema.field("vector").type.list_size),
                table["fold"].to_numpy() if "fold" in table.column_names else None,
                note["made_from"],
            )
            if note[CONTENT] == self._content_sha256(vectors):
                return vectors
        raise DamagedError(f"{self.path} is damaged; infer.py --vectors makes it again")

    def _content_sha256(self, vectors: Vectors) -> str:
        """Hex digest of what the file holds, and of whose it is, whichever library wrote it."""
        said = {
            "place": self[1:],
            "ids": vectors.ids_N.tolist(),
            "folds": None if vectors.fold_N is None else vectors.fold_N.tolist(),
            "width": vectors.vector_NH.shape[1],
            "made_from": vectors.made_from,
        }
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(vectors.vector_NH, dtype="<f4").data)
        return digest.hexdigest()


def _matrix(column: Any, width: int) -> np.ndarray:
    """A column of lists of one length as a matrix (N, H)."""
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(flat).reshape(-1, width)
