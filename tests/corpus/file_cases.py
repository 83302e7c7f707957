"""Parquet files, whole and damaged, and what stands where a file should: links, pipes, devices."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from tabular import GOOD, ROWS, Case, Check, Damage, Expected, targets, texts

COLUMNS = {
    "id": ["1", "2", "3", "4"],
    "text": ["a fire", "calm", "rain", "sun"],
    "target": [1, 0, 1, 0],
}


def in_parquet(write: Callable[[Path], object]) -> Damage:
    """The train table is train.parquet, which `write` writes; a link gives it the usual name."""

    def damage(folder: Path) -> None:
        (folder / "train.csv").unlink()
        write(folder / "train.parquet")

    return damage


def table(**columns: list | pa.Array) -> Damage:
    made = pa.table({**COLUMNS, **columns})
    return in_parquet(lambda path: pa.parquet.write_table(made, path))


def frame(made: pd.DataFrame) -> Damage:
    return in_parquet(made.to_parquet)


def whole() -> bytes:
    buffer = io.BytesIO()
    pa.parquet.write_table(pa.table(COLUMNS), buffer)
    return buffer.getvalue()


def content(data: bytes) -> Damage:
    return in_parquet(lambda path: path.write_bytes(data))


def flipped(place: int) -> bytes:
    data = bytearray(whole())
    data[place] ^= 0xFF
    return bytes(data)


def pickled_type() -> Damage:
    """A column whose type is a pickle, which pyarrow before version 14.0.1 opened on sight."""

    def write(path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple:
                return os.mkdir, (str(path.with_name("executed")),)

        notes = {
            "ARROW:extension:name": "arrow.py_extension_type",
            "ARROW:extension:metadata": pickle.dumps(Trap(), 0),
        }
        field = pa.field("trap", pa.int64(), metadata=notes)
        made = pa.table(COLUMNS).append_column(field, pa.array([1, 2, 3, 4]))
        pa.parquet.write_table(made, path)

    return in_parquet(write)


def bomb(path: Path) -> None:
    """Hundreds of millions of rows in half a megabyte."""
    made = pa.table({"id": pa.nulls(1_000_000)})
    with pa.parquet.ParquetWriter(path, made.schema) as writer:
        for _ in range(300):
            writer.write_table(made)


def column(name: str, *wanted: str) -> Check:
    return lambda tables: tables.train[name].fillna("gap").tolist() == list(wanted)


# Strings that were never checked, as other programs write them.
INVALID = pa.array([b"a", b"\xff", b"c", b"d"]).view(pa.string())
UNREADABLE = "cannot be read as parquet"

PARQUET: dict[str, tuple[Damage, Expected]] = {
    "plain": (content(whole()), ROWS),
    "CSV under its name": (content(GOOD["train.csv"].encode()), "begins with 'id,text,target.*csv"),
    "cut off": (content(whole()[:-100]), UNREADABLE),
    "a bit flipped in a page": (content(flipped(30)), UNREADABLE),
    "a pickle": (content(pickle.dumps(COLUMNS)), "it holds a pickle, which is never opened"),
    "a pickle as a column's type": (pickled_type(), column("trap", "1", "2", "3", "4")),
    "a bomb": (
        in_parquet(bomb),
        r"train.parquet holds 300,000,000 rows of 1 columns, 0.0 GB unpacked, expected at most",
    ),
    "no rows": (frame(pd.DataFrame(COLUMNS)[:0]), "train.parquet has no rows"),
    "lists": (table(text=[["a"], ["b"], [], None]), "holds list<.*string> in column 'text'"),
    "structs": (
        table(id=[{"a\x1b": k} for k in range(4)]),
        r"holds struct<a\?: int64> in column 'id'",
    ),
    "texts as bytes": (table(text=["é".encode(), b"b", b"", None]), texts("é", "b", "", "")),
    "bytes that are no text": (table(text=[b"\xff\0", b"b", b"c", b"d"]), "not UTF-8"),
    "invalid text": (table(text=INVALID), f"{UNREADABLE}: .*[Ii]nvalid UTF"),
    "decimals": (
        table(target=[Decimal("1.50"), Decimal("0.25"), Decimal("1.5"), Decimal("0.250")]),
        targets(1.5, 0.25, 1.5, 0.25),
    ),
    "times": (
        table(when=[datetime(2020, 1, 2, 3), None, datetime(9999, 1, 1), datetime(1, 1, 1)]),
        column("when", "2020-01-02 03:00:00", "gap", "9999-01-01 00:00:00", "0001-01-01 00:00:00"),
    ),
    "integers with a gap": (
        table(count=[2**53 + 1, None, 0, 1]),
        column("count", "9007199254740993", "gap", "0", "1"),
    ),
    "ids in the index": (frame(pd.DataFrame(COLUMNS).set_index("id")), ROWS),
    "an id with a NUL": (table(id=["1", "2\0", "3", "4"]), r"row 2 has id '2\\x00' in column"),
    "two columns of a name": (
        in_parquet(
            lambda path: pa.parquet.write_table(
                pa.table([["1"], ["a"], ["b"], [0]], ["id", "text", "text", "target"]), path
            )
        ),
        "has two columns 'text'",
    ),
}


def becomes(make: Callable[[Path], object], name: str = "train.csv") -> Damage:
    """`make` makes something else where a file was."""

    def damage(folder: Path) -> None:
        path = folder / name
        content = path.read_bytes()
        path.unlink()
        make(path)
        if path.is_file() and not path.stat().st_size:
            path.write_bytes(content)

    return damage


def closed(path: Path) -> None:
    path.touch(mode=0o000)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 36)


def near_miss(path: Path) -> None:
    path.with_name("trian.csv").write_text("id\n1\n")


def linked(path: Path) -> None:
    real = path.parent / "träin data, (1).csv"
    real.write_text(GOOD["train.csv"], encoding="utf-8")
    path.symlink_to(real.name)


PLACES: dict[str, tuple[Damage, Expected]] = {
    "no file": (becomes(near_miss), "no file .*train.csv; did you mean 'trian.csv'"),
    "a folder": (
        becomes(Path.mkdir),
        "train.csv is a folder that holds no file, expected parquet files alone",
    ),
    "a link that leads nowhere": (
        becomes(lambda path: path.symlink_to("gone.csv")),
        "a broken link; expected a",
    ),
    "a pipe": (becomes(os.mkfifo), "a device or a broken link; expected"),
    "an endless device": (
        becomes(lambda path: path.symlink_to("/dev/zero")),
        "a device or a broken link",
    ),
    "64 GB of nothing": (becomes(sparse), "begins with NUL bytes; it is damaged"),
    "a link to odd letters and spaces": (becomes(linked), ROWS),
}

FILES = [
    *(Case(f"parquet: {name}", *case, train="train.parquet") for name, case in PARQUET.items()),
    *(Case(f"place: {name}", *case) for name, case in PLACES.items()),
]
