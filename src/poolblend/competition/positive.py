"""Which of a binary task's two labels is the positive one (counts as 1), and why.

Sorted order is not enough: of `AI` and `human`, `human` comes last. The order of evidence is: the
config, the sign (0 and 1, -1 and 1), a column named after a label, and known negative or positive
words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from poolblend.competition.classes import Label
from poolblend.competition.names import words
from poolblend.competition.tasks import Task
from poolblend.errors import UserError, quoted

NEGATIONS = {"not", "non", "no", "without"}
NEGATIVE = {
    *NEGATIONS,
    *("n", "false", "f", "0", "none", "negative", "neg", "off", "ham", "ok", "okay", "human"),
    *("real", "genuine", "authentic", "legit", "legitimate", "normal", "neutral", "clean"),
    *("benign", "safe", "control", "original", "irrelevant", "unrelated", "incorrect"),
}
POSITIVE = {
    *("yes", "y", "true", "t", "1", "positive", "pos", "on", "spam", "fake", "ai", "llm", "bot"),
    *("machine", "synthetic", "generated", "toxic", "hate", "hateful", "fraud", "phishing"),
}
FILLERS = {"written", "generated", "made", "authored", "text"}  # human-written, AI-generated
# Not un- or in-: insincere, inappropriate and unsafe texts are what competitions look for.
PREFIXES = ("non", "not")
# Common answers: a column with such a name does not refer to the label.
ANSWERS = {"yes", "no", "true", "false", "y", "n", "t", "f", "on", "off", "none", "ok"}


class Positive(NamedTuple):
    """The label that counts as 1, and how it was found; `how` is empty for a mere guess."""

    label: Label
    how: str

    def __str__(self) -> str:
        return (
            f"{quoted(self.label)} ({self.how or 'the last in sorted order: nothing says which'})"
        )


def find_positive(task: Task, given: Label | None, columns: Sequence[str]) -> Positive:
    """The positive label of a binary task whose `classes` are in sorted order, or (other, given).

    `given` is what the user named, `columns` are the sample submission's columns of values.
    """
    if given is not None:
        return Positive(task.classes[1], "data.positive")
    low, high = (_number(label) for label in task.classes)
    if low is not None and high is not None:
        signs = low <= 0 < high
        return Positive(task.classes[1], f"the other label is {task.classes[0]}" * signs)
    named = {k: column for column in columns if (k := label_in_name(column, task)) is not None}
    if len(named) == 1:
        ((place, column),) = named.items()
        return Positive(task.classes[place], f"the sample submission has a column '{column}'")
    place_of_target = label_in_name(task.targets[0], task)
    if place_of_target is not None:
        how = f"the target column is '{task.targets[0]}'"
        return Positive(task.classes[place_of_target], how)
    votes = list(_votes(task.classes))
    if len({place for place, _ in votes}) == 1:
        return Positive(task.classes[votes[0][0]], votes[0][1])
    return Positive(task.classes[1], "")


def with_positive(task: Task, label: Label) -> Task:
    """The task with the label as its positive one."""
    other = next(each for each in task.classes if each != label)
    return replace(task, classes=(other, label))


def positive_needed_error(task: Task, what: str) -> UserError:
    """The error where the positive label matters and is not known.

    `what` says for what, such as "which f1 scores".
    """
    first, second = (quoted(label) for label in task.classes)
    return UserError(
        f"column '{task.targets[0]}' holds {first} and {second}, and nothing says which of them "
        f"is the positive label, {what}; set data.positive to it"
    )


def label_in_name(column: str, task: Task) -> int | None:
    """The index of the label that a column is named after: of `is_spam` that of spam.

    None where it names neither or both, or denies one (`is_not_spam`); answers (yes, no) are no
    names.
    """
    parts = words(column)
    hits = {}
    for place, label in enumerate(words(str(label)) for label in task.classes):
        n = len(label)
        text = "".join(label)
        starts = [k for k in range(len(parts) - n + 1) if n and parts[k : k + n] == label]
        is_name = not ANSWERS.issuperset(label) and any(map(str.isalpha, text))
        if starts and is_name and (len(text) > 1 or parts == label):
            hits[place] = {*range(starts[0], starts[0] + n)}
    # Of spam and not_spam, the longer one is meant where both are found.
    best = max(hits, key=lambda place: len(hits[place]), default=None)
    if best is None or any(not hits[best] > hits[k] for k in hits if k != best):
        return None
    denied = NEGATIONS.intersection(part for k, part in enumerate(parts) if k not in hits[best])
    return None if denied else best


def _votes(labels: Sequence[Label]) -> Iterator[tuple[int, str]]:
    """The index of the label that known words or prefixes call positive, each with its reason."""
    parts = [words(str(label)) for label in labels]
    for place, (own, other) in enumerate(((parts[0], parts[1]), (parts[1], parts[0]))):
        rest = [word for word in own if word not in other]
        core = [word for word in rest if word not in FILLERS] or rest
        name = quoted(labels[place])
        glued = [prefix + "".join(other) for prefix in PREFIXES]
        if rest and rest[0] in NEGATIONS and len(own) > 1:
            yield 1 - place, f"{name} begins with '{rest[0]}'"
        elif "".join(own) in glued:
            yield 1 - place, f"{name} denies {quoted(labels[1 - place])}"
        elif core and NEGATIVE.issuperset(core) and _whole(core, own):
            yield 1 - place, f"{name} is known as a negative label"
        elif core and POSITIVE.issuperset(core) and _whole(core, own):
            yield place, f"{name} is known as a positive label"


def _whole(core: Sequence[str], own: Sequence[str]) -> bool:
    """A single letter counts only as a whole label: `n`, but not `group n`."""
    return len(own) == 1 or all(len(word) > 1 for word in core)


def _number(label: Label) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None
