"""The labels of a classification target, their order and their indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from poolblend.errors import UserError, quoted, unknown

if TYPE_CHECKING:
    import pandas as pd

Label = int | float | str


def find_classes(
    kind: str, column: pd.Series, positive: object, given: Sequence[Label] | None
) -> tuple[Label, ...]:
    """The classes of a target column as `Task` holds them: those given, else those that occur.

    `positive` is the label of a binary task that counts as 1, by default the last in sorted order.
    Raises UserError for labels that are outside the kind of task.
    """
    import pandas as pd

    classes = sorted(set(column.tolist()))
    bad = [label for label in classes if isinstance(label, float) and not np.isfinite(label)]
    if bad:
        raise UserError(
            f"column '{column.name}' holds {bad[0]}, which is not a label; correct the cell"
        )
    if len(classes) < 2:
        raise UserError(
            f"column '{column.name}' holds the one label {quoted(classes[0])}; "
            f"a {kind} task needs at least two"
        )
    where = f"column '{column.name}' holds"
    if given is not None:
        classes, where = _as_in_column(given, column), "data.classes names"
    _check_distinct(where, classes)
    if kind == "ordinal" and any(isinstance(label, str) for label in classes):
        raise UserError(
            f"{where} {listed(classes)}; an ordinal task needs numbers, in "
            "the order of the classes: number them, or use multiclass"
        )
    if kind in ("multiclass", "ordinal"):
        return tuple(classes)
    if len(classes) > 2:
        raise UserError(
            f"{where} {len(classes)} labels ({listed(classes)}); "
            "a binary task needs exactly two: use multiclass, or regression if they are amounts"
        )
    if positive is not None:
        (place,) = class_indices(classes, pd.Series([_number_of(positive, classes)]))
        if place is None:
            raise unknown("positive label", positive, map(str, classes), f"in '{column.name}'")
        classes.append(classes.pop(place))
    return tuple(classes)


def _number_of(value: object, classes: Sequence[Label]) -> object:
    """The value as a number where all classes are numbers and it can be."""
    if any(isinstance(label, str) for label in classes):
        return value
    try:
        return float(str(value))
    except ValueError:
        return value


def class_indices(classes: Sequence[Label], column: pd.Series) -> list[int | None]:
    """The index of each cell of the column in `classes`, None where it is none of them.

    A number is the same however it is written, and so is a label whether it was read as a number.
    """
    places: dict[Label, int] = {str(label): k for k, label in enumerate(classes)}
    places |= {label: k for k, label in enumerate(classes)}
    return [places.get(value, places.get(str(value))) for value in column.tolist()]


def listed(values: Sequence[object]) -> str:
    """The first values as they stand in the file, on one line, long ones cut."""
    return ", ".join(quoted(value)[1:-1] for value in values[:5]) + ", …" * (len(values) > 5)


def _as_in_column(given: Sequence[Label], column: pd.Series) -> list[Label]:
    """The labels given in sorted order, of the type that the column was read as where they can be.

    Otherwise a submission would write 0.0 where train holds 0.
    """
    import pandas as pd

    types: list[Callable[[str], Label]] = [str]
    if pd.api.types.is_numeric_dtype(column):
        whole = pd.api.types.is_integer_dtype(column)
        types = [_whole, float, str] if whole else [float, str]
    for read in types:
        try:
            labels = sorted({read(str(label)) for label in given})
            break
        except ValueError:  # one of them is not such a number
            continue
    if len(labels) < len(given):
        raise UserError(f"data.classes names a label twice ({listed(given)}); name each once")
    return labels


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


def _check_distinct(where: str, classes: Sequence[object]) -> None:
    seen: dict[str, object] = {}
    for label in classes:
        other = seen.setdefault(str(label).strip(), label)
        if other is not label:
            raise UserError(
                f"{where} the labels {quoted(other)} and {quoted(label)}, which "
                "differ only in spaces; write them the same way"
            )
