"""Which files of a folder are train, test and sample submission: by their names and columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from poolblend.competition.classes import listed
from poolblend.competition.drafting.findings import Given
from poolblend.competition.files import header, is_readable, parts, read_table
from poolblend.competition.names import words
from poolblend.errors import UserError

Role = Literal["sample", "train", "test"]
# A word of the file's name, in this order: sample_submission_test.csv is a sample.
ROLES: dict[Role, str] = {
    "sample": r"submit|submissions?|samplesub(mit|missions?)?",
    "train": r"train(ing|set|data)?",
    "test": r"test(ing|set|data)?|unlabell?ed",
}
NOUNS = {"sample": "sample submission", "train": "train table", "test": "test table"}
OWN = ("folds.csv",)  # which training writes beside the tables


class TableFiles(NamedTuple):
    """Names of files in the folder, or of folders of parquet; `others` are its further tables."""

    sample: str
    train: str
    test: str
    others: list[str]


def find_table_files(folder: Path, given: Given) -> TableFiles:
    """The folder's tables; UserError where one is missing, or several could be it.

    Of several train tables, the one with the sample's columns is taken; of several test tables, the
    one with the sample's ids and most of train's columns.
    """
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder}; --from takes the folder with the competition's train, test and "
            "sample submission"
        )
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    tables = [name for name in names if is_readable(folder / name)]

    def chosen(role: Role, name: str | None, rank: Callable[[str], tuple[int, ...]]) -> str:
        return name or _choose(role, folder, names, tables, rank)

    sample = chosen("sample", given.sample, lambda name: ("sample" in words(Path(name).stem),))
    id, *values = read_table(folder / sample).columns
    asked = {id, *values, *(given.target or ())}
    train = chosen("train", given.train, lambda name: (len(asked & _columns(folder, name)),))
    inputs = _columns(folder, train) - {*values, *(given.target or ())}
    test = chosen(
        "test",
        given.test,
        lambda name: (id in _columns(folder, name), len(inputs & _columns(folder, name))),
    )
    known = {sample, train, test, *OWN}
    others = [name for name in tables if name not in known and role_of(name) != "sample"]
    return TableFiles(sample, train, test, others)


def role_of(name: str) -> Role | None:
    """The role that a file's name tells."""
    parts = words(Path(name).stem)
    for role, pattern in ROLES.items():
        if any(re.fullmatch(pattern, part) for part in parts):
            return role
    return "sample" if "sample" in parts else None


def stem_of(name: str) -> tuple[str, ...]:
    """The words of a file's name but its role: `prompts_train.csv` and `prompts_test.csv` agree."""
    parts = words(Path(name).stem)
    return tuple(part for part in parts if not any(re.fullmatch(p, part) for p in ROLES.values()))


def _choose(
    role: Role,
    folder: Path,
    names: Sequence[str],
    tables: Sequence[str],
    rank: Callable[[str], tuple[int, ...]],
) -> str:
    found = [name for name in tables if role_of(name) == role]
    plain = [name for name in found if not set(stem_of(name)) - {"sample"}]
    if len(plain) != 1 and len(found) > 1:
        ranks = {name: rank(name) for name in found}
        found = [name for name in found if ranks[name] == max(ranks.values())]
    if len(plain) == 1 or len(found) == 1:
        return (plain if len(plain) == 1 else found)[0]
    noun = NOUNS[role]
    if found:
        raise UserError(
            f"{folder} has {len(found)} files that may be the {noun}: {listed(found)}; say which "
            f"with --{role} NAME"
        )
    unread = [name for name in names if name not in tables and role_of(name) == role]
    if unread and (folder / unread[0]).is_dir():
        parts(folder / unread[0])  # says what else it holds
    if unread:
        raise UserError(
            f"no {noun} in {folder}: {unread[0]} is not a .csv or .parquet file; unpack it, or "
            "save it as CSV"
        )
    raise UserError(
        f"no {noun} in {folder}, which holds: {listed(tables) or 'no .csv or .parquet files'}; "
        f"name it with --{role} NAME"
    )


def _columns(folder: Path, name: str) -> set[str]:
    return set(header(folder / name))
