"""Every reader of tables as a function of bytes, for whoever feeds them anything.

Each writes the bytes to a file in the folder given, reads them, and returns normally or raises
UserError; anything else is a crash. SEEDS holds right contents to begin from.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.competition.cells import parse_column
from poolblend.competition.files import read_table
from poolblend.competition.options import Data, Folds, Submission
from poolblend.competition.tables import load_tables
from poolblend.competition.tasks import Task, make_task
from poolblend.ensembling.matrix import build_matrix
from poolblend.loading.outside import read_predictions
from poolblend.store.folds import read_folds

TRAIN = 'id,text,target\n1,a fire,1\n2,calm,0\n3,,1\n004,"two\nlines, and ""more""",0\n'
TEST = "id,text\n11,one\n12,двa 🔥\n"
SAMPLE = "id,target\n12,0\n11,0\n"
FOLDS = "id,fold\n1,0\n2,1\n3,0\n004,1\n"
PREDICTIONS = "id,fold,pred\n004,1,0.25\n1,0,0.5\n2,1,1e-3\n3,0,1\n"


def _read(name: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        path = folder / name
        path.write_bytes(content)
        table = read_table(path)
        assert len(table)
        assert table.columns.is_unique
        table.apply(parse_column)

    return read


def _load(damaged: str) -> Callable[[bytes, Path], None]:
    def load(content: bytes, folder: Path) -> None:
        contents = {"train": TRAIN, "test": TEST, "sample_submission": SAMPLE}
        for name, text in contents.items():
            data = content if name == damaged else text.encode()
            (folder / f"{name}.csv").write_bytes(data)
        tables = load_tables(folder, Data(), "multiclass", Folds(), Submission())
        make_task("multiclass", tables.train, ["target"])

    return load


def _folds(content: bytes, folder: Path) -> None:
    path = folder / "folds.csv"
    path.write_bytes(content)
    read_folds(path)


def _predictions(ending: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        path = folder / f"member.{ending}"
        path.write_bytes(content)
        ids, target = ["1", "2", "3", "004"], [1, 0, 1, 0]
        train = pd.DataFrame({"id": ids, "target": target})
        task = Task("binary", ("target",), (0, 1))
        table = read_predictions(path, id="id", task=task, train=train).table
        folds = pd.DataFrame({"id": ids, "fold": [0, 1, 0, 1]})
        matrix = build_matrix(
            {"member": table},
            folds,
            np.array(target),
            task.outputs,
            probabilities=True,
            files={"member": path},
        )
        assert np.isfinite(matrix.oof_MNK).all()

    return read


def _parquet(text: str, **columns: list) -> bytes:
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(text), dtype={"id": str}).assign(**columns).to_parquet(buffer)
    return buffer.getvalue()


READERS: dict[str, Callable[[bytes, Path], None]] = {
    "read_table of CSV": _read("table.csv"),
    "read_table of parquet": _read("table.parquet"),
    "load_tables: train": _load("train"),
    "load_tables: test": _load("test"),
    "load_tables: sample submission": _load("sample_submission"),
    "read_folds": _folds,
    "read_predictions of CSV": _predictions("csv"),
    "read_predictions of parquet": _predictions("parquet"),
}

SEEDS: dict[str, list[bytes]] = {
    "read_table of CSV": [TRAIN.encode(), b"\xef\xbb\xbf" + TEST.replace("\n", "\r\n").encode()],
    "read_table of parquet": [
        _parquet(TRAIN),
        _parquet(TRAIN, tokens=[["a", "b"], None, [], ["c"]], day=[pd.Timestamp(0)] * 4),
        _parquet(TEST, kind=pd.Categorical(["a", "b"]), raw=[b"a", b"\xff"], yes=[True, None]),
    ],
    "load_tables: train": [TRAIN.encode()],
    "load_tables: test": [TEST.encode()],
    "load_tables: sample submission": [SAMPLE.encode()],
    "read_folds": [FOLDS.encode()],
    "read_predictions of CSV": [PREDICTIONS.encode()],
    "read_predictions of parquet": [_parquet(PREDICTIONS)],
}
