"""A table's texts as token ids, one row per text or per pair of texts.

Shapes: F extra columns.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from poolblend.errors import UserError
from poolblend.text_spec import TextSpec, Truncation
from poolblend.training.exchange import Exchange
from poolblend.training.tokens import Frame, frame, interleave, separated, tokenise
from poolblend.training.windows import Windowing, windowing

if TYPE_CHECKING:
    from poolblend.training.hidden_states import HiddenStates

T = TypeVar("T")


@dataclass(frozen=True)
class Encoded:
    """A table's texts as token ids, in the table's order."""

    ids: tuple[np.ndarray, ...]  # per row (T,) int32
    content: tuple[np.ndarray, ...]  # per row (T,) bool: the text's own tokens, not special ones
    n_truncated: int
    pad_id: int
    pad_left: bool
    max_length: int  # of a row, or of each of its windows
    types: tuple[np.ndarray, ...] | None = None  # per row (T,) int32: of which text of a pair
    windowing: Windowing | None = None  # of rows longer than max_length
    columns_NF: np.ndarray | None = None  # float32: extra features
    states: HiddenStates | None = None  # of an encoder's frozen layers
    # The second half of the rows are those of the first in the other order; None: there is one.
    exchange: Exchange | None = None

    @property
    def orders(self) -> int:
        """In how many orders each row is here."""
        return 1 if self.exchange is None else 2

    def both(self, rows: np.ndarray) -> np.ndarray:
        """These rows, and after them the same in the other order, if there is one."""
        if self.exchange is None:
            return rows
        return np.concatenate([rows, rows + len(self.ids) // 2])

    @property
    def _n_tokens_N(self) -> np.ndarray:
        return np.array([len(row) for row in self.ids], dtype=np.int64)

    @property
    def n_windows_N(self) -> np.ndarray:
        """How many windows each row is read in; one without windows."""
        lengths_N = self._n_tokens_N
        if self.windowing is None:
            return np.ones_like(lengths_N)
        return self.windowing.n_windows(lengths_N)

    @property
    def lengths_N(self) -> np.ndarray:
        """How many tokens a model reads for each row: its own, or full windows."""
        lengths_N = self._n_tokens_N
        return np.where(lengths_N <= self.max_length, lengths_N, self.n_windows_N * self.max_length)


class Text(NamedTuple):
    """One text of a row as tokens, and which of them are not special tokens."""

    ids: Sequence[int]
    own: Sequence[bool]


def encode(
    columns: Sequence[Sequence[str]],
    tokenizer: Any,
    spec: TextSpec,
    between: Sequence[Sequence[str]] | None = None,
) -> Encoded:
    """Token ids of every row's texts, one list of texts per column, read as `spec` says.

    Columns become one text, joined by the special tokens `between` (those before the first, then
    those behind each; by default the separator), and framed as the tokenizer frames one text; with
    join "pair" two are framed as the tokenizer frames two. With windows, longer texts are kept, to
    be read in windows of `max_length`. Raises UserError where `max_length` is too small, for pairs
    with windows, and for pairs with a tokenizer that puts nothing between two texts.
    """
    pair, as_text = spec.join == "pair", spec.special_tokens == "text"
    if pair and spec.windows is not None:
        raise UserError(
            "windows read one text, data.join=pair makes two; set data.join=separator, or "
            "data.text to a template"
        )
    around = _frame_of_two(tokenizer) if pair else frame(tokenizer, 1)
    room, cutting = _room(around, spec)
    parts = [[column] for column in columns] if pair else [columns]
    made = [_texts(part, tokenizer, as_text, None if pair else between) for part in parts]
    n_tokens = [[len(text.ids) for text in texts] for texts in made]
    side = resolve_truncation(spec.truncation, tokenizer)
    rows = [_truncated(texts, room, side) for texts in zip(*made, strict=True)]
    # Without special tokens an empty text has no token: it becomes one padding token, so that
    # there is something to pool.
    pad_id = tokenizer.pad_token_id or 0
    ids = [interleave(around.ids, [text.ids for text in row]) or [pad_id] for row in rows]
    special = [[False] * len(gap) for gap in around.ids]
    content = [interleave(special, [text.own for text in row]) or [False] for row in rows]
    return Encoded(
        ids=_arrays(ids, np.int32),
        content=_arrays(content, bool),
        n_truncated=sum(sum(lengths) > room for lengths in zip(*n_tokens, strict=True)),
        pad_id=pad_id,
        pad_left=tokenizer.padding_side == "left",
        max_length=spec.max_length,
        types=_types(around, rows) if any(around.text_types) else None,
        windowing=cutting,
    )


def _frame_of_two(tokenizer: Any) -> Frame:
    around = frame(tokenizer, 2)
    if not around.ids[1]:
        raise UserError(
            "data.join is 'pair', but the tokenizer puts nothing between two texts; set "
            "data.join=separator"
        )
    return around


def _room(around: Frame, spec: TextSpec) -> tuple[int, Windowing | None]:
    """How many tokens of its texts a row may hold, and its windows where it may have several."""
    n_around = [len(gap) for gap in around.ids]
    room = spec.max_length - sum(n_around)
    if room < len(around.text_types):
        raise UserError(
            f"max_length is {spec.max_length}: no room beside the tokenizer's own tokens"
        )
    if spec.windows is None:
        return room, None
    cutting = windowing(spec.max_length, spec.windows.overlap, *n_around)
    most = spec.windows.most
    return (sys.maxsize if most is None else cutting.capacity(most)), cutting


def _texts(
    columns: Sequence[Sequence[str]],
    tokenizer: Any,
    as_text: bool,
    between: Sequence[Sequence[str]] | None,
) -> list[Text]:
    """Every row's columns as one text."""
    gaps = separated(len(columns), tokenizer) if between is None else between
    gap_ids = [tokenizer.convert_tokens_to_ids(list(gap)) for gap in gaps]
    if as_text:
        parts = [tokenise(column, tokenizer, as_text=True) for column in columns]
        special = [[False] * len(gap) for gap in gaps]
        return [
            Text(
                interleave(gap_ids, texts),
                interleave(special, [[True] * len(text) for text in texts]),
            )
            for texts in zip(*parts, strict=True)
        ]
    written = [
        " ".join(interleave(gaps, [[text] for text in texts]))
        for texts in zip(*columns, strict=True)
    ]
    separator = tokenizer.convert_tokens_to_ids(separated(2, tokenizer)[1])
    special_ids = {id for gap in (*gap_ids, separator) for id in gap}
    return [
        Text(row, [id not in special_ids for id in row])
        for row in tokenise(written, tokenizer, as_text=False)
    ]


def _truncated(texts: Sequence[Text], room: int, side: Truncation) -> list[Text]:
    rooms = share_room([len(text.ids) for text in texts], room)
    return [
        Text(truncate(text.ids, part, side), truncate(text.own, part, side))
        for text, part in zip(texts, rooms, strict=True)
    ]


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


def _types(around: Frame, rows: Iterable[Sequence[Text]]) -> tuple[np.ndarray, ...]:
    """The token types of pairs, as the tokenizer gives them."""
    kinds = [
        [[kind] * len(text.ids) for kind, text in zip(around.text_types, row, strict=True)]
        for row in rows
    ]
    return _arrays([interleave(around.types, row) for row in kinds], np.int32)


def _arrays(rows: Iterable[Sequence[Any]], dtype: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.array(row, dtype=dtype) for row in rows)


def digest(encoded: Encoded, rows: np.ndarray) -> dict[str, Any]:
    """How many tokens these rows have, and sha256 of their ids."""
    hashed, count = hashlib.sha256(), 0
    for row in rows:
        count += len(encoded.ids[row])
        hashed.update(encoded.ids[row].tobytes() + b"\n")
    return {"count": count, "sha256": hashed.hexdigest()}


def starts_of_rows(encoded: Encoded) -> np.ndarray:
    """Where each row's stored tokens start, (N + 1,); the last is the number of all tokens."""
    counts = [
        len(row)
        if encoded.windowing is None or len(row) <= encoded.max_length
        else sum(map(len, encoded.windowing.cut(row)[0]))
        for row in encoded.ids
    ]
    return np.concatenate([[0], np.cumsum(counts)])


def rows_sha256(encoded: Encoded) -> str:
    """Hex digest of all that an encoder reads of the table."""
    hashed = hashlib.sha256(repr((encoded.max_length, encoded.windowing)).encode())
    for rows in (encoded.ids, encoded.types or ()):
        for row in rows:
            hashed.update(row.tobytes() + b"\n")
        hashed.update(b"\n")
    return hashed.hexdigest()


def in_both_orders(rows: Encoded, swapped: Encoded, exchange: Exchange) -> Encoded:
    """The rows, and after them the same rows with columns that changed places."""
    return replace(concatenated(rows, swapped), exchange=exchange)


def concatenated(first: Encoded, second: Encoded) -> Encoded:
    """Both tables' rows, those of `first` first.

    Raises ValueError where they are encoded differently.
    """
    same = ("pad_id", "pad_left", "max_length", "windowing")
    differing = [name for name in same if getattr(first, name) != getattr(second, name)]
    for name in ("types", "columns_NF"):
        if (getattr(first, name) is None) != (getattr(second, name) is None):
            differing.append(name)
    if differing:
        raise ValueError(f"the two tables differ in {', '.join(differing)}")
    return replace(
        first,
        ids=first.ids + second.ids,
        content=first.content + second.content,
        n_truncated=first.n_truncated + second.n_truncated,
        types=None if first.types is None or second.types is None else first.types + second.types,
        columns_NF=(
            None
            if first.columns_NF is None or second.columns_NF is None
            else np.concatenate([first.columns_NF, second.columns_NF])
        ),
    )
