"""What folds are called; the model of all rows stands in a fold's place, and has a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

REFIT = -1  # in a fold's place: the member's model of all train rows


def fold_name(*folds: int) -> str:
    """What folds, or their models, are called beside their member's name: `fold 0, 2`, `refit`."""
    return "refit" if folds == (REFIT,) else f"fold {', '.join(map(str, folds))}"


def file_name(fold: int) -> str:
    """What the files of a fold's model are called: `fold0`, `refit`."""
    return fold_name(fold).replace(" ", "")


def grouped(reasons: Mapping[tuple[str, int], str]) -> Iterator[str]:
    """A line for each member and reason: `name fold 0, 2: reason`."""
    ordered = sorted(reasons.items(), key=lambda item: (item[0][0], item[1], item[0][1]))
    for (name, reason), group in groupby(ordered, key=lambda item: (item[0][0], item[1])):
        yield f"{name} {fold_name(*(fold for (_, fold), _ in group))}: {reason}"
