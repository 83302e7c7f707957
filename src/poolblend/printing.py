"""Text for the terminal: aligned columns, wrapped paragraphs, durations, the log above bars."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import nullcontext

WIDTH = 100


def aligned(rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """The rows as lines with aligned columns; those in `right` are aligned on the right."""
    rows = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    flush_right = set(right)
    lines = (
        "  ".join(
            cell.rjust(width) if i in flush_right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return [line.rstrip() for line in lines]


def wrapped(text: str, indent: str = "", hanging: str = "  ") -> list[str]:
    """The text in lines of at most `WIDTH`; all but the first begin with `hanging`."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def duration(seconds: float) -> str:
    """A duration such as "40 s", "12 min", "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def hide_bars() -> bool | None:
    """tqdm's `disable`: shown on terminals and in notebooks, unless TQDM_DISABLE is set.

    tqdm reads the variable only where `disable` is not given, and takes a notebook for a file.
    """
    if os.environ.get("TQDM_DISABLE"):
        return True
    ipython = sys.modules.get("IPython")
    in_notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
    return False if in_notebook else None


class AboveBars(logging.StreamHandler):
    """Writes log lines above a progress bar instead of behind it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm = sys.modules.get("tqdm")  # there are no bars if it was not imported
        with tqdm.tqdm.external_write_mode(self.stream) if tqdm else nullcontext():
            super().emit(record)
