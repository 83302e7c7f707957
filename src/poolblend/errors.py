"""Errors that the user can fix, and stops that the user asked for: one line each."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from itertools import accumulate

_QUOTE = reprlib.Repr()
_QUOTE.maxstring = 80
MOST_NAMES, MOST_LETTERS = 40, 250  # of names listed in a message
LONGEST = 1000  # characters of a message; the middle of a longer one is left out


class UserError(Exception):
    """What was wrong (value and place), what was expected, and what to do next, in one line.

    Scripts print it as ``error: …`` and end with exit status 2. Other exceptions are bugs and keep
    their traceback. Line breaks and control characters in the message are escaped.
    """

    def __str__(self) -> str:
        text = printable(super().__str__())
        half = LONGEST // 2
        return text if len(text) <= LONGEST else f"{text[:half]}…{text[1 - half :]}"

    def _render_traceback_(self) -> list[str]:
        """One line in a notebook, too: IPython asks an exception for this."""
        return [f"error: {self}"]


def printable(text: str) -> str:
    """The text with line breaks and control characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class PartlyFailedError(UserError):
    """Some parts of a command's work failed, and all others are done; exit status 1."""


class Stopped(Exception):  # noqa: N818 - it is not an error
    """A command stopped on request and kept all its work; the message says how to continue.

    `status` is the exit status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[Stopped], tuple[str, int]]:
        """So that it can be raised in another process than it came from."""
        return type(self), (str(self), self.status)

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def unknown(kind: str, name: object, known: Iterable[str], where: str = "") -> UserError:
    """The error for a name that is not among `known`, with the nearest known one.

    `kind` is the noun of the sentence ("pooler"), `where` an optional place ("in configs/x.yaml").
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    place = f" {where}" if where else ""
    ends = accumulate(map(len, names))
    shown = [name for name, end in zip(names, ends, strict=True) if end < MOST_LETTERS][:MOST_NAMES]
    listed = ", ".join(shown) + ", …" * (len(names) > len(shown))
    return UserError(f"unknown {kind} {quoted(name)}{place}{hint} known: {listed or 'none'}")


def quoted(value: object) -> str:
    """`value` in quotes and on one line, as messages show it; the middle of a long one is cut."""
    return _QUOTE.repr(str(value))
