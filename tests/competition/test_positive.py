"""Laws of the positive label: what tells which of two labels counts as 1, and what does not."""

from __future__ import annotations

import pytest

from poolblend.competition.metrics import METRICS
from poolblend.competition.positive import find_positive, positive_needed_error
from poolblend.competition.tasks import Task
from rig.tables import refused


def task(*labels: object, target: str = "label") -> Task:
    return Task("binary", (target,), tuple(sorted(labels)))


@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        ("AI", "human"),
        ("fake", "real"),
        ("spam", "ham"),
        ("Yes", "No"),
        ("Y", "N"),
        ("True", "False"),
        ("POS", "NEG"),
        ("positive", "negative"),
        ("toxic", "non-toxic"),
        ("toxic", "nontoxic"),
        ("toxic", "not toxic"),
        ("Spam", "NotSpam"),
        ("entailment", "not_entailment"),
        ("duplicate", "no duplicate"),
        ("relevant", "irrelevant"),
        ("abnormal", "normal"),
        ("AI-generated", "human-written"),
        ("AI-generated", "self-authored"),
        ("fake news", "real news"),
        ("machine", "Human"),
        ("phishing", "legitimate"),
        ("x", "0"),
        (1, 0),
        (1, -1),
        (1.0, 0.0),
        (4, 0),
    ],
)
def test_words_and_signs_tell_the_positive_label(positive: object, negative: object) -> None:
    found = find_positive(task(positive, negative), None, ["label"])
    assert (found.label, bool(found.how)) == (positive, True)
    assert str(found.label) in str(found)


@pytest.mark.parametrize(
    "labels",
    [
        ("A", "B"),
        ("left", "right"),
        ("good", "bad"),
        ("OBJ", "SUBJ"),
        (1, 2),
        ("01", "02"),
        ("👍", "👎"),
        # Known words that contradict each other.
        ("none", "no"),
        ("true", "fake"),
        ("neutral", "negative"),
        # A word within a longer name says something else.
        ("human interest", "politics"),
        ("plan n", "plan x"),
        # What competitions look for begins like this as often as its opposite.
        ("sincere", "insincere"),
        ("reliable", "unreliable"),
    ],
)
def test_elsewhere_nothing_tells_it(labels: tuple) -> None:
    found = find_positive(task(*labels), None, ["label"])
    assert found.how == ""
    assert found.label == sorted(labels)[1]
    assert "nothing says which" in str(found)


@pytest.mark.parametrize(
    ("target", "columns", "positive", "how"),
    [
        ("label", ["human"], "human", "the sample submission has a column 'human'"),
        ("label", ["prob_human", "Usage"], "human", "has a column 'prob_human'"),
        ("label", ["isHuman"], "human", "has a column 'isHuman'"),
        ("is_human", ["p"], "human", "the target column is 'is_human'"),
        ("human", ["ai"], "AI", "the sample submission has a column 'ai'"),
        # Both, neither, a denial, a part of a word: the known words tell.
        ("label", ["AI", "human"], "AI", "known"),
        ("generated", ["generated"], "AI", "known"),
        ("is_not_human", ["p"], "AI", "known"),
        ("human_or_ai", ["p"], "AI", "known"),
        ("humanity", ["humane"], "AI", "known"),
    ],
)
def test_a_column_named_after_a_label_tells_before_known_words(
    target: str, columns: list[str], positive: str, how: str
) -> None:
    found = find_positive(task("AI", "human", target=target), None, columns)
    assert found.label == positive
    assert how in found.how


def test_of_two_labels_in_a_name_the_longer_is_meant() -> None:
    labels = task("spam", "not_spam")
    assert find_positive(labels, None, ["is_not_spam"]).label == "not_spam"
    assert find_positive(labels, None, ["is_spam"]).label == "spam"


def test_the_refusal_names_column_labels_and_key() -> None:
    with refused("column 'label' holds 'A' and 'B', and nothing says which of them is the positi"):
        raise positive_needed_error(task("A", "B"), "which f1 scores")


def test_metrics_that_say_so_are_the_ones_that_change_with_the_positive_label() -> None:
    import numpy as np

    y, pred = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    for name in METRICS:
        metric = METRICS[name]
        if "binary" not in metric.tasks:
            continue
        here, there = pred, 1 - pred
        if metric.inputs == "scores":
            here, there = 0.1 + 0.7 * pred, 0.9 - 0.7 * pred
        changed = metric.function(y, here) != pytest.approx(metric.function(1 - y, there))
        assert changed == metric.needs_positive, name
