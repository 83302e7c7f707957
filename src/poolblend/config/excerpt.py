"""Values as messages show them: on one line, and short whatever was given."""

from __future__ import annotations


def excerpt(value: object, longest: int = 60) -> str:
    """`value` in at most `longest` characters, its middle left out, nothing unprintable in it."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) > longest:
        end = (longest - 1) // 2
        text = f"{text[: longest - 1 - end]}…{text[-end:]}"
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
