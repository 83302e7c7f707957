"""Members that other tools made: a folder of their predictions, one file per member.

    <folder>/<member>.csv or .parquet         out-of-fold predictions of the train rows
    <folder>/test/<member>.csv or .parquet    predictions of the test rows (optional)

Columns are found by name, in any order. This module checks the cells of each file; ids and folds
are checked when the tables become a matrix.

Legend: N rows, K outputs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from poolblend.competition.files import is_table, read_table
from poolblend.competition.tasks import Task
from poolblend.ensembling.alignment import first_repeated, off_simplex
from poolblend.errors import UserError, quoted, unknown
from poolblend.loading.outside_columns import REMEDY, MemberFile, find_columns, listed, no_column
from poolblend.store.files import sha256
from poolblend.store.predictions import PREFIX

log = logging.getLogger(__name__)

RESERVED = r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])"
NAME = re.compile(rf"(?!{RESERVED}(\.|$))[A-Za-z0-9_][A-Za-z0-9._-]{{0,99}}")
UNNAMED = re.compile(
    r"Unnamed: \d+(\.\d+)*|level_\d+"
)  # the index of a DataFrame, as pandas writes and reads it
INDEX = "Unnamed: 0"
FOLDS = ("fold", "kfold")
EXPECTED = "expected one <member>.csv or <member>.parquet of out-of-fold predictions per member"


class Predictions(NamedTuple):
    """A file of predictions; `table` has id (str), fold (int, optional), and pred_<output>…."""

    path: Path
    sha256: str
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class OutsideMember:
    """A member that was not trained here; `oof` and `test.table` have the form of `Predictions`."""

    name: str
    path: Path
    sha256: str
    oof: pd.DataFrame
    test: Predictions | None


def read_members(
    folder: Path,
    *,
    id: str,
    task: Task,
    train: pd.DataFrame,
    numbered: bool = False,
    trained: Collection[str] = (),
    only: Collection[str] | None = None,
) -> list[OutsideMember]:
    """The members of a folder, sorted by name; `train` holds the ids `id` and parsed targets.

    With `numbered`, train's ids are row numbers, and an index that pandas wrote is read as ids.
    `trained` are the names of this run's own members. With `only`, files of other names are not
    read. Hidden files, folders and files with other endings are ignored. Raises UserError for a
    folder without members, for a name that is unknown, unsafe, repeated or in `trained`, and for
    everything that `read_predictions` refuses.
    """
    if not folder.is_dir():
        what = "is a file, not" if folder.is_file() else "is not"
        raise UserError(f"{folder} {what} a folder; {EXPECTED}: check the path")
    files = _files(folder)
    tests = _files(folder / "test") if (folder / "test").is_dir() else {}
    if not files:
        raise UserError(f"{folder} holds no member's file; {EXPECTED}")
    for name, path in files.items():
        if name in trained:
            raise UserError(f"{path}: this run already has a member '{name}'; rename the file")
    for name in only or ():
        if name not in files and name not in trained:
            raise unknown("member", name, [*trained, *files])
    for name in sorted(tests.keys() - files.keys()):
        log.info("%s is not used: no file of that name in %s", tests[name], folder)
    members = []
    for name, path in files.items():
        if only is not None and name not in only:
            continue
        oof = read_predictions(path, id=id, task=task, train=train, numbered=numbered)
        test = read_predictions(tests[name], id=id, task=task) if name in tests else None
        members.append(OutsideMember(name, path, oof.sha256, oof.table, test))
    return members


def read_predictions(
    path: Path, *, id: str, task: Task, train: pd.DataFrame | None = None, numbered: bool = False
) -> Predictions:
    """Read one file of predictions; UserError names file, id and column.

    Ids are in column `id` or "id"; with `numbered` also in a first column without a name, as pandas
    writes an index. Predictions are in columns pred_<output> or <output>. A single output may also
    have a name of `outside_columns.SINGLE`, or be the only other numeric column; a binary task may
    have two columns with the names of its classes. With `train`, the file holds out-of-fold
    predictions: folds are read, and target columns must hold train's labels.
    """
    table, digest = read_table(path), sha256(path)
    table.columns = table.columns.str.strip()
    if table.columns.has_duplicates:
        repeated = first_repeated(table.columns)
        raise UserError(f"{path} has two columns {repeated}, expected one; {REMEDY}")
    key = _id_column(path, table, (id, "id", INDEX) if numbered else (id, "id"))
    file = MemberFile(path, table[key], table)
    fold = next((column for column in FOLDS if column in table), None)
    keys = {key, "id", fold}
    free = [c for c in table.columns if c not in keys and not UNNAMED.fullmatch(c)]
    columns = find_columns(file, free, task)
    pred_NK = _predictions(file, columns, task)
    labels = [column for column in free if column in task.targets and column not in columns]
    unused = [column for column in free if column not in {*columns, *labels}]
    if unused:
        log.info("%s: columns not used: %s", path, listed(unused))
    frame: dict[str, object] = {"id": file.ids}
    if train is not None:
        _check_labels(file, labels, columns, train.set_index(id)[list(task.targets)])
        frame |= {"fold": file.folds(fold)} if fold else {}
    frame |= {f"{PREFIX}{output}": pred_NK[:, k] for k, output in enumerate(task.outputs)}
    return Predictions(path, digest, pd.DataFrame(frame))


def _id_column(path: Path, table: pd.DataFrame, names: Sequence[str]) -> str:
    """The first of `names` that is a column; UserError if none is, or an id is missing."""
    key = next((column for column in names if column in table), None)
    if key is None:
        raise no_column(path, names[:1], table.columns)
    empty = np.flatnonzero(table[key].isna())
    if len(empty):
        raise UserError(
            f"{path} has no id in column {quoted(key)} of data row {empty[0] + 1} "
            f"({len(empty)} such rows), expected one in every row; {REMEDY}"
        )
    return key


def find_moved(path: Path, digest: str, folders: Sequence[Path]) -> Path | None:
    """The file with this sha256, at `path` or moved into one of the folders; else None.

    For /a/b/c.csv, each folder is searched at c.csv, b/c.csv and a/b/c.csv.
    """
    ends = [Path(*path.parts[-depth:]) for depth in range(1, len(path.parts))]
    for place in (path, *(folder / end for folder in folders for end in ends)):
        if place.is_file() and sha256(place) == digest:
            return place
    return None


def _files(folder: Path) -> dict[str, Path]:
    """The files of a folder that can hold a member, by the member's name."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}; {EXPECTED}") from None
    files: dict[str, Path] = {}
    for path in entries:
        name = path.stem
        if path.name.startswith(".") or not is_table(path) or path.is_dir():
            continue
        if not NAME.fullmatch(name):
            raise UserError(
                f"{folder} holds {quoted(path.name)}, expected a member's name of up to 100 "
                "letters a to z, digits and . _ - (not starting with . or -, and no name that "
                "Windows reserves); rename it"
            )
        if not path.is_file():
            raise UserError(f"{path} is a broken link, or not a regular file; remove it")
        if name in files:
            raise UserError(
                f"{folder} holds member '{name}' twice, as {files[name].name} and {path.name}; "
                "keep one of them"
            )
        files[name] = path
    return files


def _predictions(file: MemberFile, columns: Sequence[str], task: Task) -> np.ndarray:
    """The columns as (N, K); of two classes, which must sum to 1, the positive one."""
    pred_NK = np.stack(
        [file.predictions(column, probability=task.probabilistic) for column in columns], axis=1
    )
    if len(columns) == len(task.outputs):
        return pred_NK
    off = off_simplex(pred_NK)
    if len(off):
        raise UserError(
            f"{file.path}: columns {listed(columns)} sum to {pred_NK[off[0]].sum():.6g} for id "
            f"{quoted(file.ids.iloc[off[0]])}, expected 1 ({len(off)} such rows); {REMEDY}"
        )
    return pred_NK[:, 1:]


def _check_labels(
    file: MemberFile, labels: Sequence[str], columns: Sequence[str], train: pd.DataFrame
) -> None:
    """Raise UserError for labels that differ from train's, and predictions that equal them."""
    row_N = train.index.get_indexer(pd.Index(file.ids))
    known_N = row_N >= 0  # unknown ids are refused when the matrix is made
    for column in labels:
        other_N = known_N & ~file.same(column, train[column].iloc[row_N])
        if other_N.any():
            label = quoted(train[column].iloc[row_N[np.flatnonzero(other_N)[0]]])
            raise file.refusal(column, other_N, f"train's label {label}")
    for column in train.columns.intersection(list(columns)):
        if known_N.any() and file.same(column, train[column].iloc[row_N])[known_N].all():
            raise UserError(
                f"{file.path} holds train's labels in column {quoted(column)}, expected "
                f"predictions there; give these as {PREFIX}{column}"
            )
