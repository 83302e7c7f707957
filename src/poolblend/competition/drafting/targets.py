"""Target columns: what the sample submission asks for, and what train has and test lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from poolblend.competition.classes import listed
from poolblend.competition.drafting.findings import Finding
from poolblend.competition.joins import check_columns
from poolblend.competition.names import match_names, words
from poolblend.competition.templates import NO_COLUMN, text_columns
from poolblend.errors import UserError

# Words of a column's name that say that it is the target.
NAMES = {"target", "label", "labels", "class", "category", "score", "rating", "y", "sentiment"}
MOST_CLASSES = 200  # that a sample submission may have as columns


def find_targets(
    path: Path,
    train: pd.DataFrame,
    test: pd.DataFrame,
    sample: pd.DataFrame,
    id: str,
    given: Sequence[str] | None,
) -> Finding:
    """`data.target`: columns, or a template of two. The sample's first column `id` holds the ids.

    Raises UserError, which names the table of `path`, where no column or several could be it.
    """
    if given:
        check_columns(path, train, text_columns(given))
        return Finding("data.target", list(given), "as given")
    asked = [column for column in map(str, sample.columns) if column != id]
    only = [column for column in map(str, train.columns) if column not in test and column != id]
    found = _named(train, asked, only) or _guessed(train, asked, only)
    if found is None:
        lacks = (
            f"{len(only)} columns that test lacks ({listed(only)})"
            if only
            else ("no column that test lacks")
        )
        raise UserError(
            f"{path} has {lacks}, and none named like the sample's {listed(asked)}; name the "
            "target with --target COLUMN, or several with commas"
        )
    return found


def _named(train: pd.DataFrame, asked: Sequence[str], only: Sequence[str]) -> Finding | None:
    """The columns that `only` train has and the sample names, itself or by their labels."""
    if named := [column for column in asked if column in only]:
        return Finding("data.target", named, "in the sample and train, not in test")
    if joint := _joint(asked, only):
        return Finding("data.target", [joint], "the sample's column is named after both")
    if alike := _alike(asked, only):
        reason = f"named like the sample's {listed(asked)}; not in test"
        return Finding("data.target", alike, reason)
    for column in only:
        if are_columns(train[column], asked):
            return Finding("data.target", [column], "its labels are the sample's columns")
    return None


def _guessed(train: pd.DataFrame, asked: Sequence[str], only: Sequence[str]) -> Finding | None:
    """The columns that could be the target, where the sample does not name it."""
    telling = [column for column in only if NAMES.intersection(words(column))]
    others = listed([column for column in only if column not in telling])
    shared = [column for column in asked if column in train]
    for columns, reason in (
        (shared, "in the sample and train, but in test, too"),
        (only if len(only) == 1 else [], "the only column that test lacks"),
        (telling if len(telling) == 1 else [], f"its name; test also lacks {others}"),
    ):
        if columns:
            return Finding("data.target", columns, reason, "guess")
    return None


def _joint(asked: Sequence[str], only: Sequence[str]) -> str | None:
    """The template of two columns with a separator between, as `Category:Kind` names them."""
    named = [column for column in only if not NO_COLUMN.search(column)]
    for first in named if len(asked) == 1 else ():
        for second in named:
            between = asked[0].removeprefix(first).removesuffix(second)
            if between and first + between + second == asked[0] and not words(between):
                return f"{{{first}}}{between}{{{second}}}"
    return None


def are_columns(labels: pd.Series, asked: Sequence[str]) -> bool:
    """Whether the sample asks for a column for each of the labels in train."""
    names = list(map(str, labels.dropna().unique()))
    return 1 < len(names) == len(asked) <= MOST_CLASSES and bool(_by_name(names, asked))


def _alike(asked: Sequence[str], only: Sequence[str]) -> list[str]:
    """A column for each one asked for, named like it: `spam` for `is_spam`; or none."""
    if matched := _by_name(asked, only):
        return [matched[name] for name in asked]
    longer = [column for column in only if len(asked) == 1 and _by_name([column], asked)]
    return longer if len(longer) == 1 else []


def _by_name(names: Sequence[str], columns: Sequence[str]) -> dict[str, str] | None:
    try:
        match = match_names(names, columns) if names and columns else None
    except UserError:  # several columns could be the name's
        return None
    return match.columns if match else None
