"""What fills each column of the submission: a target, a class's probability, the sample's cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from poolblend.competition.names import Match, match_names, words
from poolblend.competition.options import Submission
from poolblend.competition.sample import COPY, Group, Sample, Source, Top, find_top, groups
from poolblend.competition.tables import Unlabelled
from poolblend.competition.tasks import Task
from poolblend.errors import UserError, quoted

MOST_SHOWN = 4  # columns that one line of the log lists

Inputs = Literal["labels", "scores"]
Found = tuple[dict[str, Source], str]  # the source of each column, and how it was found


@dataclass(frozen=True, eq=False)
class Filling:
    """How a submission is made: its template, what it holds, and what fills each of its columns.

    `template` is the sample submission over the rows to submit, copied columns already filled.
    `how` explains in one line what the names alone do not show; "" if nothing.
    """

    template: pd.DataFrame
    values: str
    sources: dict[str, Source]
    how: str
    top: Top

    @property
    def copied(self) -> list[str]:
        """The columns that hold what the sample holds."""
        return [column for column, source in self.sources.items() if source == COPY]


def find_filling(
    task: Task, tables: Unlabelled, submission: Submission, inputs: Inputs = "labels"
) -> Filling:
    """What fills the sample's columns; with submission.values=auto, by columns, metric and cells.

    `inputs` are the metric's inputs. Raises UserError where columns match nothing, or several
    things.
    """
    sample = Sample(task, tables, submission.columns)
    values: str = submission.values
    if values == "auto":
        values, found = _find_values(sample, inputs)
    else:
        found = _match(sample, values)
    if found is None:
        raise _unmatched(sample, values)
    sources, how = found
    template = tables.sample.copy()
    for column, source in sources.items():
        if source == COPY:
            template[column] = sample.copied(column)
    top = _find_top(sample, sources, submission.top)
    notes = [*_notes(sources, how, top), *_unknown_labels(sample, values, sources, top)]
    return Filling(template, values, sources, "; ".join(notes), top)


def _find_values(sample: Sample, inputs: Inputs) -> tuple[str, Found | None]:
    """What the submission is to hold, and what fills it.

    One column per class means probabilities, one column for several classes a label. Otherwise the
    metric decides, and whether the sample holds fractions.
    """
    task, found = sample.task, None
    if task.kind in ("binary", "multiclass"):
        found = _match(sample, "probabilities", classes=True)
        if found or any(source.kind == "class" for source in sample.sources.values()):
            return "probabilities", found or _match(sample, "probabilities")
    if inputs == "labels" or task.kind == "multiclass":
        found = _match(sample, "labels")
        filled = [c for c, source in found[0].items() if source != COPY] if found else []
        fractions = _has_fractions(sample.cells[filled] if filled else sample.cells)
        if not fractions and (found or inputs == "labels"):
            return "labels", found
    return "probabilities", _match(sample, "probabilities")


def _find_top(sample: Sample, sources: Mapping[str, Source], asked: int | None) -> Top:
    """How many labels a cell holds; 1 where no column holds a class's name."""
    columns = [column for column, source in sources.items() if source.kind == "target"]
    if not columns or sample.task.kind not in ("binary", "multiclass"):
        top = Top(asked or 1)
    else:
        top = find_top(sample.cells[columns[0]], sample.task.classes, asked)
    if top.size > 1 and (not columns or sample.task.kind != "multiclass"):
        raise UserError(
            f"{top.size} labels in a cell, as submission.top or the sample says, need a column of "
            f"labels in a multiclass task, this is {sample.task.kind}; set submission.top to 1"
        )
    return top


def _has_fractions(cells: pd.DataFrame) -> bool:
    numbers = cells.select_dtypes("number").to_numpy(dtype=float)
    return bool((np.isfinite(numbers) & (numbers != np.round(numbers))).any())


def _match(sample: Sample, values: str, *, classes: bool = False) -> Found | None:
    """What fills each column, and how it was found; None where columns match nothing.

    With `classes`, a column for each class is all that is looked for.
    """
    spare = [column for column in sample.free if sample.is_spare(column, values)]
    others = [column for column in sample.free if column not in spare]
    given = set(sample.sources.values())
    if not others and any(source != COPY for source in given) and not classes:
        return _complete(sample, {}), ""
    for group in groups(sample.task, values)[: 1 if classes else None]:
        wanted = {name: source for name, source in group.items() if source not in given}
        match = _match_group(wanted, others, sample.free, alone=len(group) == 1)
        if match and {*others} <= {*match.columns.values()}:
            sources = {column: group[name] for name, column in match.columns.items()}
            negative = _named_after_negative(sample.task, values, sources)
            return _complete(sample, negative or sources), match.how
    return None


def _match_group(
    wanted: Group, others: Sequence[str], free: Sequence[str], *, alone: bool
) -> Match | None:
    """The column of each wanted source: by name among `others`, else among all that are `free`.

    A source that is `alone` gets the one column there is, whatever its name.
    """
    if not wanted:
        return Match({})
    names = list(wanted)
    match = match_names(names, others) or match_names(names, free)
    one = next((columns[0] for columns in (others, free) if len(columns) == 1), None)
    return Match({names[0]: one}) if match is None and alone and one is not None else match


def _complete(sample: Sample, sources: Mapping[str, Source]) -> dict[str, Source]:
    """A source for each of the sample's columns, in its order; what is left is copied."""
    known = {**sources, **sample.sources}
    return {column: known.get(column, COPY) for column in map(str, sample.cells.columns)}


def _named_after_negative(
    task: Task, values: str, sources: Mapping[str, Source]
) -> dict[str, Source] | None:
    """A lone column that is called like the negative label holds that label's probability."""
    if task.kind != "binary" or values != "probabilities" or len(sources) != 1:
        return None
    (column,), label = sources, str(task.classes[0])
    if words(column) != words(label) or not any(map(str.isalpha, label)):
        return None
    return {column: Source("class", 0, label)}


def _notes(sources: Mapping[str, Source], how: str, top: Top) -> list[str]:
    """What the log says: all that the columns' names alone do not show."""
    filled = {c: source.name for c, source in sources.items() if source != COPY}
    copied = [quoted(c) for c, source in sources.items() if source == COPY]
    notes = []
    if any(column != name for column, name in filled.items()):
        pairs = [f"{quoted(column)} holds {quoted(name)}" for column, name in filled.items()]
        more = f", … ({len(pairs)} columns)" if len(pairs) > MOST_SHOWN else ""
        by = f"columns matched by name {how}: " if how else ""
        notes.append(f"{by}{', '.join(pairs[:MOST_SHOWN])}{more}")
    if copied:
        notes.append(f"copied: {', '.join(copied[:MOST_SHOWN])}")
    if top.size > 1:
        notes.append(f"a cell holds the {top.size} most probable labels")
    return notes


def _unknown_labels(
    sample: Sample, values: str, sources: Mapping[str, Source], top: Top
) -> list[str]:
    """A note where the sample's texts are not labels of train: placeholders, or other words.

    A competition may want `positive` where train says `pos`.
    """
    if values != "labels" or top.size > 1:
        return []
    known = set(map(str, sample.task.classes))
    for column, source in sources.items():
        cells = sample.cells[column].dropna()
        if source.kind == "target" and known and not is_numeric_dtype(cells.dtype):
            others = [cell for cell in dict.fromkeys(cells) if cell not in known]
            if others and len(others) == cells.nunique():
                return [
                    f"{quoted(column)} shows {quoted(others[0])}, which is not a label of train"
                ]
    return []


def _unmatched(sample: Sample, values: str) -> UserError:
    if not sample.free:
        return UserError(
            "submission.columns leaves no column for predictions; name one that holds an output"
        )
    names = list(groups(sample.task, values)[-1])
    return UserError(
        f"the sample submission has columns {_listed(sample.free)}, but {values} of this task "
        f"are {_listed(names)}; check the targets, and whether labels or probabilities are "
        "wanted, or say in submission.columns what fills a column: an output, a label, or copy"
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(quoted(name)[1:-1] for name in names[:6])
    return shown + (f", … ({len(names)})" if len(names) > 6 else "")
