"""What tables tell of a config: task, metric, joins, groups, lengths; each with its limits."""

import numpy as np
import pandas as pd
import pytest

from poolblend.competition.drafting.further import find_joins
from poolblend.competition.drafting.groups import find_groups, groups_to_consider
from poolblend.competition.drafting.ids import find_id
from poolblend.competition.drafting.inputs import find_texts, look_at
from poolblend.competition.drafting.kinds import find_metric, find_task
from poolblend.competition.drafting.lengths import about_tokens, count_words, find_max_length
from poolblend.competition.drafting.targets import find_targets
from poolblend.competition.metrics import METRICS
from poolblend.competition.options import Join


def column(name, values):
    """A column of strings, as tables are read."""
    return pd.DataFrame({name: [None if value is None else str(value) for value in values]})


@pytest.mark.parametrize(
    ("targets", "cells", "task", "metric"),
    [
        (column("y", [0, 1, 0, 1]), column("y", [0]), "binary", "accuracy"),
        (column("y", [0, 1, 0, 0]), column("y", [0]), "binary", "f1"),
        (column("y", [0, 1, 0, 0]), column("y", ["0.0"]), "binary", "roc_auc"),
        (column("y", ["no", "yes"]), column("y", ["no"]), "binary", "accuracy"),
        (column("y", list("abcabc")), column("y", ["a"]), "multiclass", "accuracy"),
        (column("y", list("abcdabcd")), column("y", ["a b c", "c b d"]), "multiclass", "map3"),
        (column("y", list("abcdabcd")), column("y", ["a b", "c b d"]), "multiclass", "accuracy"),
        (column("score", [0, 1, 2, 3]), column("score", [1]), "ordinal", "qwk"),
        (column("grade", [2, 4, 6]), column("grade", [2]), "ordinal", "qwk"),
        (column("y", [1, 2, 3]), column("y", [1]), "ordinal", "qwk"),
        (column("label", [1, 2, 3]), column("label", [1]), "multiclass", "accuracy"),
        (column("topic", [0, 1, 2]), column("topic", [1]), "multiclass", "accuracy"),
        (column("score", [0, 1, 2, 3]), column("score", ["0.5"]), "regression", "rmse"),
        (column("score", range(60)), column("score", [1]), "regression", "rmse"),
        (column("score", [1, 1.5, 2]), column("score", [1]), "regression", "rmse"),
        (column("code", ["007", "008", "009"] * 2), column("code", ["007"]), "multiclass", None),
    ],
)
def test_the_values_and_the_sample_tell_the_task(targets, cells, task, metric):
    found = find_task(targets, cells, by_classes=False)
    assert found.value == task
    measured = find_metric(found, targets, cells)
    assert metric in (None, measured.value)
    assert measured.state == "guess"
    fitting = {name for name in METRICS if task in METRICS[name].tasks}
    others = measured.reason.rpartition("or ")[2].split(", ")
    assert {measured.value, *others} == fitting


@pytest.mark.parametrize(
    ("rows", "task"),
    [
        ([[1, 0], [0, 1]], "multiclass"),
        ([[1, 0], [1, 1]], "multilabel"),
        ([[0.2, 0.8], [0.5, 0.5]], "multiclass"),
        ([[0.2, 0.9], [3, 4]], "regression"),
        ([[1, 2], [3, 4]], "regression"),
    ],
)
def test_several_targets_are_told_apart_by_their_rows(rows, task):
    targets = pd.DataFrame(rows, columns=["a", "b"]).astype(str)
    assert find_task(targets, targets, by_classes=False).value == task


@pytest.mark.parametrize(
    ("sample", "target", "state"),
    [
        ("id,is_spam", ["spam"], "sure"),
        ("id,Spam", ["spam"], "sure"),
        ("id,label,Usage", ["label"], "sure"),
        ("id,1,2,3", ["label"], "sure"),
        ("id,label:spam", ["{label}:{spam}"], "sure"),
        ("id,both", ["both"], "guess"),
        ("id,prediction", ["label"], "guess"),
    ],
)
def test_the_samples_columns_name_the_target(tmp_path, sample, target, state):
    columns = {"id": list("abc"), "text": list("xyz"), "both": list("uvw")}
    train = pd.DataFrame(columns | {"label": list("123"), "spam": list("010")})
    asked = pd.DataFrame(columns=sample.split(","), dtype=str)
    found = find_targets(tmp_path / "train.csv", train, pd.DataFrame(columns), asked, "id", None)
    assert (found.value, found.state) == (target, state)


def test_ids_are_in_all_three_tables_and_never_twice():
    train, test = column("key", "abc"), column("key", "de")
    sample = column("key", "de").assign(y="0")
    assert find_id(train, test, sample, None).value == "key"
    assert find_id(column("key", "aba"), test, sample, None).value is None
    assert find_id(column("row", "abc"), test, sample, None).value is None
    moved = sample[["y", "key"]]
    assert find_id(train, test, moved, None)[1::2] == ("key", "guess")
    assert find_id(train, test, sample, "null").value is None


def test_only_tables_with_one_row_for_each_key_are_joined(tmp_path):
    train, test = column("prompt", "aabb"), column("prompt", "cc")
    tables = {
        "train_prompts": "prompt,question\na,who\nb,why\n",
        "test_prompts": "prompt,question\nc,what\n",
        "authors": "prompt,author\na,1\nb,2\nc,3\n",
        "twice": "prompt,more\na,1\na,2\nb,3\nc,4\n",
        "lacking": "prompt,less\na,1\nb,3\n",
        "again": "prompt,author\na,1\nb,2\nc,3\n",
        "broken": "prompt,b\na,1,2\n",
    }
    for name, table in tables.items():
        (tmp_path / f"{name}.csv").write_text(table)
    names = [f"{name}.csv" for name in ("train_prompts", "test_prompts", "authors")]
    joins, notes = find_joins(tmp_path, names, train, test)
    assert joins == [
        Join(train="train_prompts.csv", test="test_prompts.csv", on="prompt"),
        Join(train="authors.csv", on="prompt"),
    ]
    assert notes == []
    names = [f"{name}.csv" for name in ("authors", "twice", "lacking", "again", "broken")]
    joins, notes = find_joins(tmp_path, names, train, test)
    assert [join.train for join in joins] == ["authors.csv"]
    assert [note.partition(":")[0] for note in notes] == names[1:]


def test_groups_are_repeated_values_of_which_test_has_none():
    train = pd.DataFrame(
        {
            "prompt": list("aaabbbcccddd"),
            "author": list("aabbccddeeff"),
            "place": [*"aabcdefghijk"],
            "size": ["0.5", "0.25"] * 6,
            "gaps": [None, *"aaaaabbbbbb"],
        }
    )
    test = column("prompt", "xy").assign(author=["a", "z"], place="z", size="7.5", gaps="z")
    found = find_groups(train, test, list(train))
    assert [each[:2] for each in found] == [("folds.groups", "prompt"), ("folds.n", 4)]
    assert find_groups(train, test, ["author", "place", "size", "gaps"]) == []
    (note,) = groups_to_consider(train, ["author", "place", "size"])
    assert note.startswith("column 'author' has 6 values in 12 rows")


def test_texts_are_the_long_columns_and_short_ones_where_no_other_is_there():
    n = 40
    sentence = [f"a longer text number {i} of the table" for i in range(n)]
    shared = ["what is it that the author says"] * n
    table = pd.DataFrame(
        {
            "title": [f"short title {i}" for i in range(n)],
            "body": sentence,
            "question": shared,
            "source": ["very " * 100] * n,
            "amount": [str(i) for i in range(n)],
            "url": [f"https://t.co/{i}" for i in range(n)],
        }
    )

    def texts(*names):
        return [each.name for each in find_texts(look_at(table, names))]

    assert texts(*table) == ["question", "body"]
    assert texts("title", "amount", "url") == ["title"]
    assert texts("question", "source") == ["question", "source"]
    assert texts("amount") == []


def test_max_length_holds_nearly_all_texts_of_all_columns():
    rng = np.random.default_rng(0)
    texts = [" ".join(["word"] * int(n)) for n in rng.integers(10, 120, 500)]
    table = pd.DataFrame({"a": texts, "b": texts[::-1]})
    assert find_max_length(table, ["a"]).value == 128
    assert find_max_length(table, ["a", "b"]).value == 256
    long = find_max_length(pd.DataFrame({"a": [" ".join(texts[:20])] * 9}), ["a"])
    assert long.value == 512
    assert "so 100 % are cut" in long.reason


def test_words_and_tokens_are_counted_without_blanks_too():
    assert count_words("Was it 25 miles, or 30?") == 4
    assert count_words("这个宾馆比较陈旧了") == 9
    assert about_tokens("这个宾馆，陈旧") == 7
    assert about_tokens("don't") == 3
    assert about_tokens("https://t.co/AbCd3fGh") > about_tokens("https://t.co/lovelyday")
