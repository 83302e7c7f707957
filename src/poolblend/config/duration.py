"""Durations such as 8h30m, 90m, 1.5h."""

from __future__ import annotations

import re

from poolblend.errors import UserError, quoted

_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
_DURATION = re.compile(r"\s*".join(rf"(?:({_NUMBER})\s*{unit})?" for unit in _UNITS), re.ASCII)
_LONGEST = 365 * _UNITS["d"]


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `8h30m`: days, hours, minutes, seconds, the largest first.

    Raises UserError for anything else, a number without a unit, zero, and more than 365 days.
    """
    written = text.strip().lower()
    shown = quoted(text)
    expected = "expected a duration such as 8h30m, 90m, 1.5h or 45s"
    if re.fullmatch(_NUMBER, written, re.ASCII):
        raise UserError(
            f"{shown} has no unit: {expected}; did you mean {written}h, {written}m or {written}s?"
        )
    found = _DURATION.fullmatch(written) if 0 < len(written) <= 40 else None
    if not found:
        raise UserError(f"{shown} is not a duration: {expected}")
    seconds = sum(
        float(number) * unit
        for number, unit in zip(found.groups(), _UNITS.values(), strict=True)
        if number
    )
    if not 0 < seconds <= _LONGEST:
        raise UserError(f"{shown} is not above zero and at most 365d: {expected}")
    return seconds
