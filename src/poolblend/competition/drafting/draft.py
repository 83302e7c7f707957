"""Draft a config from the tables of a folder: what each key should be, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from poolblend.competition.classes import listed
from poolblend.competition.drafting.findings import Draft, Finding, Given
from poolblend.competition.drafting.further import find_joins
from poolblend.competition.drafting.groups import find_groups, groups_to_consider
from poolblend.competition.drafting.ids import find_id
from poolblend.competition.drafting.inputs import (
    Column,
    describe,
    find_features,
    find_texts,
    look_at,
    non_latin,
)
from poolblend.competition.drafting.kinds import find_metric, find_positive_label, find_task
from poolblend.competition.drafting.lengths import find_max_length
from poolblend.competition.drafting.table_files import TableFiles, find_table_files
from poolblend.competition.drafting.targets import are_columns, find_targets
from poolblend.competition.files import read_table
from poolblend.competition.joins import check_columns, read_joined
from poolblend.competition.templates import is_template, target_table, text_columns
from poolblend.errors import UserError

FOREIGN = 0.3  # share of letters that are not Latin, from which an English encoder is unfit
MULTILINGUAL = "FacebookAI/xlm-roberta-base"

Found = Iterator[Finding | str]  # a text is a note


def draft_config(folder: Path, given: Given) -> Draft:
    """What the folder's tables tell of a config.

    Raises UserError where a table is missing or cannot be read, or has no target or no text.
    """
    found = list(_look(folder, find_table_files(folder, given), given))
    return Draft(
        [each for each in found if isinstance(each, Finding)],
        [each for each in found if isinstance(each, str)],
    )


def _look(folder: Path, files: TableFiles, given: Given) -> Found:
    sample, train, test = (read_table(folder / name) for name in files[:3])
    if given.id not in (None, "null"):
        check_columns(folder / files.train, train, [given.id])
    id = find_id(train, test, sample, given.id)
    id_column = str(sample.columns[0]) if id.value is None else id.value
    target = find_targets(folder / files.train, train, test, sample, id_column, given.target)
    targets: list[str] = target.value
    asked = [c for c in sample if c != id_column and (c not in test or c in targets)]
    whole = train.dropna(subset=text_columns(targets)) if is_template(targets) else train
    yield from _task(target_table(whole, targets), sample[asked])
    keys = ("data.sample_submission", "data.train", "data.test")
    for key, name, table in zip(keys, files[:3], (sample, train, test), strict=True):
        yield Finding(key, name, f"{len(table):,} rows")
    yield id
    yield target._replace(value=targets[0] if len(targets) == 1 else targets)
    joins, notes = find_joins(folder, files.others, train, test)
    yield from notes
    if joins:
        own = set(train)
        train = read_joined(folder, files.train, joins, "train", [])
        test = read_joined(folder, files.test, joins, "test", [])
        reason = f"a key of both tables; adds {listed([c for c in train if c not in own])}"
        yield Finding("data.joins", [join.model_dump(exclude_none=True) for join in joins], reason)
    yield from _inputs(
        folder / files.train, train, test, {id_column, *text_columns(targets)}, given
    )


def _task(targets: pd.DataFrame, cells: pd.DataFrame) -> Found:
    labels = targets.iloc[:, 0]
    by_classes = len(targets.columns) == 1 and are_columns(labels, list(cells.columns))
    task = find_task(targets, cells, by_classes)
    yield task
    yield find_metric(task, targets, cells)
    if task.value == "binary":
        yield from find_positive_label(targets, cells)


def _inputs(
    path: Path, train: pd.DataFrame, test: pd.DataFrame, answers: set[str], given: Given
) -> Found:
    """What a model may read of train (at `path`): anything but the `answers`, ids and targets."""
    names = [str(column) for column in train if column not in answers]
    shared = [name for name in names if name in test]
    columns = look_at(train, shared)
    check_columns(path, train, given.text or [])
    texts = given.text or [column.name for column in find_texts(columns)]
    if not texts:
        raise UserError(
            f"{path} has no column of text that test has, too (both have: "
            f"{listed(shared) or 'none'}); name it with --text COLUMN, or several with commas"
        )
    others = [column for column in columns if column.name not in texts]
    groups = find_groups(train, test, [column.name for column in others])
    also = [column for column in others if column.name not in {each.value for each in groups}]
    yield find_max_length(train, texts)
    yield _text(texts, also, len(train), "as given" if given.text else "")
    if len(texts) == 2:
        reason = "as the tokenizer joins two texts; without this line, by a separator"
        yield Finding("data.join", "pair", reason, "guess")
    yield from find_features(train, test, also)
    yield from groups or groups_to_consider(train, [column.name for column in others])
    foreign = non_latin(train, texts)
    if foreign > FOREIGN:
        reason = f"{100 * foreign:.0f} % of the letters are not Latin; the default reads English"
        yield Finding("backbone", MULTILINGUAL, reason, "option")
    if lost := [name for name in names if name not in test]:
        yield f"only train has {listed(lost)}: models cannot read what test lacks"


def _text(texts: Sequence[str], others: Sequence[Column], rows: int, given: str) -> Finding:
    """`data.text`, with what else could be read."""
    value = texts[0] if len(texts) == 1 else list(texts)
    possible = [column for column in others if not column.numeric]
    if given:
        return Finding("data.text", value, given)
    if possible:
        joined = ", ".join([*(column.name for column in possible), *texts])
        reason = f"the longest; or all, as [{joined}]: {describe(possible, rows)}"
        return Finding("data.text", value, reason, "guess")
    if len(texts) == 1:
        return Finding("data.text", value, "the only text")
    return Finding("data.text", value, "all texts, in this order", "guess")
