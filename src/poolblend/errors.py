"""Errors that are the user's to mend, and stops that the user asked for: one line each."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from itertools import accumulate

_QUOTE = reprlib.Repr()
_QUOTE.maxstring = 80
MOST_NAMES, MOST_LETTERS = 40, 250  # of names listed in a message


class UserError(Exception):
    """What was wrong (value and place), what was expected, and what to do next, in one line.

    Scripts print it as ``error: …`` and end with exit status 2. Anything else that escapes is a
    bug and keeps its traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """One line in a notebook, too: IPython asks an exception for this."""
        return [f"error: {self}"]


class PartlyFailedError(UserError):
    """What a command could not do, raised when it has done all the rest; exit status 1."""


class Stopped(Exception):  # noqa: N818 - to stop when asked to is no error
    """A command that was asked to stop, and did so with everything kept; `status` is its exit's.

    Its text says how to continue.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def unknown(kind: str, name: object, known: Iterable[str], where: str = "") -> UserError:
    """The error for a name that is not among `known`, with the nearest one that is.

    `kind` is the noun of the sentence ("pooler"), `where` an optional place ("in configs/x.yaml").
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    place = f" {where}" if where else ""
    ends = accumulate(map(len, names))
    shown = [name for name, end in zip(names, ends, strict=True) if end < MOST_LETTERS][:MOST_NAMES]
    listed = ", ".join(shown) + ", …" * (len(names) > len(shown))
    return UserError(f"unknown {kind} '{name}'{place}{hint} known: {listed or 'none'}")


def quoted(value: object) -> str:
    """A cell, id or name as messages show it: in quotes, on one line, the middle of a long one cut.

    A repr escapes line breaks and whatever else would spoil the one line of an error.
    """
    return _QUOTE.repr(str(value))


def excerpt(value: object, longest: int = 60) -> str:
    """`value` in at most `longest` characters, its middle left out, nothing unprintable in it."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) > longest:
        end = (longest - 1) // 2
        text = f"{text[: longest - 1 - end]}…{text[-end:]}"
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
