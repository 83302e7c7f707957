"""Which tokens of a text that is too long are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from poolblend.text_spec import Truncation

T = TypeVar("T")


def resolve_truncation(truncation: Truncation, tokenizer: Any) -> Truncation:
    """`auto` is the end that the tokenizer keeps."""
    if truncation != "auto":
        return truncation
    return "tail" if tokenizer.truncation_side == "left" else "head"


def truncate(row: Sequence[T], room: int, truncation: Truncation) -> Sequence[T]:
    """At most `room` of the row: its head, its tail, or half of each (the odd one to the head)."""
    if len(row) <= room:
        return row
    n_tail = {"head": 0, "tail": room, "head_tail": room // 2}[truncation]
    return [*row[: room - n_tail], *row[len(row) - n_tail :]]


def share_room(lengths: Sequence[int], room: int) -> list[int]:
    """The room of one text or of each of two, of which the longer is cut first.

    As tokenizers does it (`longest_first`): where both are cut, the longer keeps the odd token.
    """
    if len(lengths) == 1:
        return [room]
    shorter = min(*lengths, room // 2)
    longer = room - shorter
    return [shorter, longer] if lengths[0] <= lengths[1] else [longer, shorter]
