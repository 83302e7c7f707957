"""Match columns to outputs by name: equal, similar, or with a common prefix or suffix."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from poolblend.errors import UserError, quoted

BETWEEN_WORDS = r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[^\W\d_])(?=\d)"


class Match(NamedTuple):
    """The column of each name; `how` says in words what was ignored, nothing where all are equal.

    The words follow "matched by name".
    """

    columns: dict[str, str]
    how: str = ""


def words(name: str) -> tuple[str, ...]:
    """The words of a column's name or of a label, in lower case: `isSpam_2` is is, spam, 2."""
    return tuple(word.casefold() for word in re.split(BETWEEN_WORDS, name) if word)


def plain(name: str) -> str:
    """A name without case; a whole number without its decimals."""
    return re.sub(r"(?<=\d)\.0+$", "", name.strip()).casefold()


# From strict to lenient. A form that makes two names equal is not used.
FORMS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("", str),
    ("ignoring case", plain),
    ("ignoring case and punctuation", lambda name: "_".join(words(name))),
)


def match_names(names: Sequence[str], columns: Sequence[str]) -> Match | None:
    """The column of every name, None where no rule finds one for each.

    A column is a name's where both are equal, or would be without case and punctuation, or without
    one prefix and suffix that are the same for all names. Where several prefixes or suffixes would
    do, a single name has no column; for more names UserError is raised.
    """
    forms = [(how, *made) for how, form in FORMS if (made := _formed(form, names, columns))]
    for how, name_of, column_of in forms:
        if name_of.keys() <= column_of.keys():
            return Match({name: column_of[form] for form, name in name_of.items()}, how)
    for how, name_of, column_of in forms:
        found = _longer(list(name_of), column_of)
        pairs = [{n: prefix + n + suffix for n in name_of} for prefix, suffix in found]
        if not found and len(names) == len(columns) > 1:
            found = _longer(list(column_of), name_of)
            pairs = [{prefix + c + suffix: c for c in column_of} for prefix, suffix in found]
        matches = [{name_of[n]: column_of[c] for n, c in pair.items()} for pair in pairs]
        if any(match != matches[0] for match in matches):
            if len(names) == 1:
                return None
            raise _ambiguous(matches)
        if found:
            return Match(matches[0], ", ".join(filter(None, (_without(*found[0]), how))))
    return None


def _formed(
    form: Callable[[str], str], names: Sequence[str], columns: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]] | None:
    """Names and columns by their form; None where two would be one, or nothing is left of one."""
    made = {form(name): name for name in names}, {form(column): column for column in columns}
    whole = len(made[0]) == len(names) and len(made[1]) == len(columns)
    return made if whole and "" not in made[0] and "" not in made[1] else None


def _longer(shorts: Sequence[str], longs: Collection[str]) -> list[tuple[str, str]]:
    """Each (prefix, suffix) that makes every one of `shorts` one of `longs`.

    A single one must stand between the words of the longer.
    """
    longest = max(shorts, key=len)  # the fewest hold it
    found = set()
    for long in longs:
        for hit in re.finditer(f"(?={re.escape(longest)})", long):
            prefix, suffix = long[: hit.start()], long[hit.start() + len(longest) :]
            if len(shorts) == 1 and words(long) != words(prefix) + words(longest) + words(suffix):
                continue
            if all(f"{prefix}{short}{suffix}" in longs for short in shorts):
                found.add((prefix, suffix))
    return sorted(found)


def _without(prefix: str, suffix: str) -> str:
    affixes = {"prefix": prefix, "suffix": suffix}
    shown = [f"{kind} {quoted(affix)}" for kind, affix in affixes.items() if affix]
    return f"without {' and '.join(shown)}"


def _ambiguous(pairs: Sequence[dict[str, str]]) -> UserError:
    name = next(iter(pairs[0]))
    candidates = ", ".join(quoted(pair[name]) for pair in pairs[:4])
    return UserError(
        f"{quoted(name)} may be any of the sample submission's columns {candidates}; say which "
        "with submission.columns: {column: output, label or copy}"
    )
