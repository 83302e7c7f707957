"""Rows in both orders: what `data.swap` does to a task's outputs."""

from __future__ import annotations

from collections.abc import Sequence

from poolblend.competition.classes import Label, class_indices
from poolblend.competition.options import Swap
from poolblend.competition.tasks import Task
from poolblend.errors import UserError, unknown
from poolblend.training.exchange import Exchange


def exchange_of(task: Task, swap: Swap | None) -> Exchange | None:
    """What a row's outputs become in the other order; None where rows have one order.

    Raises UserError for a label that the task does not have.
    """
    if swap is None:
        return None
    names = task.classes if task.kind in ("binary", "multiclass") else task.targets
    pairs = list(swap.labels.items())
    if pairs and task.kind == "ordinal":
        raise UserError("data.swap.labels: labels of an ordinal task are values; leave it out")
    places = list(range(len(names)))
    for pair in pairs:
        one, other = (_place(label, names) for label in pair)
        places[one], places[other] = other, one
    if task.kind == "binary":
        return Exchange(flips=bool(pairs))
    return Exchange(tuple(places) if pairs else None)


def _place(label: Label, names: Sequence[Label]) -> int:
    import pandas as pd

    (place,) = class_indices(names, pd.Series([label], dtype=object))
    if place is None:
        raise unknown("label", str(label), map(str, names), "in data.swap.labels")
    return place
