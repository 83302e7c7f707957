"""How many processes do a command's work: `auto` or a number."""

from __future__ import annotations

import re
from typing import Literal

from poolblend.errors import UserError, quoted

Workers = int | Literal["auto"]


def parse_workers(text: str) -> Workers:
    """`auto`, or a number of worker processes from 1; UserError for anything else."""
    written = text.strip().lower()
    if written == "auto":
        return "auto"
    if not re.fullmatch(r"[1-9]\d{0,3}", written, re.ASCII):
        raise UserError(
            f"--workers {quoted(text)}: expected auto or a number of processes, from 1 to 9999"
        )
    return int(written)
