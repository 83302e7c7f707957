"""The one kind of error that is the user's to mend: a single line, shown without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What was wrong (value and place), what was expected, and what to do next, in one line.

    Scripts print it as ``error: …`` and end with exit status 2. Anything else that escapes is a
    bug and keeps its traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """One line in a notebook, too: IPython asks an exception for this."""
        return [f"error: {self}"]


def unknown(kind: str, name: object, known: Iterable[str], where: str = "") -> UserError:
    """The error for a name that is not among `known`, with the nearest one that is.

    `kind` is the noun of the sentence ("pooler"), `where` an optional place ("in configs/x.yaml").
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    place = f" {where}" if where else ""
    return UserError(f"unknown {kind} '{name}'{place}{hint} known: {', '.join(names) or 'none'}")
