"""Cells that hold several labels, the most probable first: `C CL D`, as MAP@3 wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from poolblend.competition.classes import Label
from poolblend.errors import UserError, quoted

SEPARATORS = (", ", " ", ",", ";", "|")


class Top(NamedTuple):
    """How many labels a cell holds, and what stands between them."""

    size: int = 1
    separator: str = " "

    def cells(self, names: Sequence[str], pred_NK: np.ndarray) -> np.ndarray:
        """Text (N,): the names of each row's most probable classes, the most probable first."""
        order_NK = np.argsort(-pred_NK, axis=1, kind="stable")[:, : self.size]
        joined = [self.separator.join(names[k] for k in order_K) for order_K in order_NK.tolist()]
        return np.array(joined, dtype=object)


ONE_LABEL = Top()


def holds_several(cells: pd.Series, labels: Sequence[Label]) -> bool:
    """Whether every cell is made of known labels, and some of more than one."""
    _, split = _split(cells, labels)
    return any(len(parts) > 1 for parts in split) and _share_known(split, labels) == 1


def find_top(cells: pd.Series, labels: Sequence[Label], asked: int | None) -> Top:
    """How many labels the sample's cells hold: as many as `asked`, else as they show.

    Raises UserError where they hold several and do not show how many are wanted.
    """
    separator, split = _split(cells, labels)
    counts = {len(parts) for parts in split}
    if asked is not None:
        if asked > len(labels):
            raise UserError(f"submission.top={asked}, but there are {len(labels)} labels; lower it")
        return Top(asked, separator)
    known = _share_known(split, labels)
    if max(counts, default=1) == 1 or known == 0:
        return ONE_LABEL
    if known < 1 or len(counts) > 1 or max(counts) > len(labels):
        longest = max(split, key=len)
        raise UserError(
            f"column '{cells.name}' of the sample submission seems to hold several labels in a "
            f"cell ({quoted(separator.join(longest))}); set submission.top to how many, 1 for one"
        )
    return Top(max(counts), separator)


def _split(cells: pd.Series, labels: Sequence[Label]) -> tuple[str, list[list[str]]]:
    """The separator that leaves most known labels, and the distinct cells parted by it."""
    if is_numeric_dtype(cells.dtype):
        return " ", []
    known, distinct = set(map(str, labels)), list(dict.fromkeys(cells.dropna().map(str)))
    ways = [
        (sep, [[cell] if cell in known else cell.split(sep) for cell in distinct])
        for sep in SEPARATORS
    ]
    several = [way for way in ways if any(len(parts) > 1 for parts in way[1])]
    return max(several or ways[1:2], key=lambda way: _share_known(way[1], labels))


def _share_known(split: Sequence[Sequence[str]], labels: Sequence[Label]) -> float:
    known, parts = set(map(str, labels)), [part for cell in split for part in cell]
    return sum(part in known for part in parts) / max(1, len(parts))
