"""What stands in the cells: ids, targets, texts, and sample submissions of every wrong shape."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tabular import ROWS, Case, Check, Damage, Expected, cases, files, ids, targets, texts


def csv_of(header: str, *columns: Sequence[object]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(header.split(","))
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()


def train_ids(*values: str) -> Damage:
    n = len(values)
    return files(train=csv_of("id,text,target", values, ["a"] * n, [k % 2 for k in range(n)]))


def test_and_sample(test: Sequence[str], sample: Sequence[str]) -> Damage:
    """The two files, whose ids must be the same."""
    return files(
        test=csv_of("id,text", test, ["a"] * len(test)),
        sample=csv_of("id,target", sample, [0] * len(sample)),
    )


def all_of(*damages: Damage) -> Damage:
    """Several damages at once."""
    return lambda folder: [damage(folder) for damage in damages]


LONG = "x" * 1_000_000
E_ACUTE, E_COMBINED = "caf\u00e9", "cafe\u0301"
ODD_IDS = (
    "../..",
    "/etc/passwd",
    "C:\\x",
    "CON",
    "a,b",
    'a"b',
    "NaN",
    "null",
    "-",
    "🔥",
    "a\u200bb",
)
LETTERS = all_of(train_ids("a", "b"), test_and_sample(["c", "d"], ["d", "c"]))
SPOILT = r"has id '.*' in column 'id', expected no line break or control character"

IDS: dict[str, tuple[Damage, Expected]] = {
    "leading zeros": (
        all_of(train_ids("0001", "1"), test_and_sample(["007", "7"], ["7", "007"])),
        ids("0001", "1"),
    ),
    "leading zeros lost in the sample": (
        test_and_sample(["0011", "0012"], ["11", "12"]),
        r"sample.csv lacks 2 of the 2 ids .* '0011' \(it has others, such as '11'\)",
    ),
    "an exponent in the sample": (
        test_and_sample(["100000", "2"], ["1e5", "2"]),
        r"lacks 1 of the 2 .* '100000' \(it has others, such as '1e5'\)",
    ),
    "floats in the test table": (
        test_and_sample(["11.0", "12.0"], ["11", "12"]),
        r"lacks 2 of the 2 .* '11.0' \(it has others, such as '11'\)",
    ),
    "only spaces": (train_ids("1", " \u00a0 "), "train.csv row 3 has no id"),
    "spaces around, in both": (
        all_of(train_ids(" a", "b "), test_and_sample([" c", "d "], ["d ", " c"])),
        lambda t: t.test["id"].tolist() == [" c", "d "] == t.sample["id"].tolist()[::-1],
    ),
    "spaces around, in one": (
        all_of(train_ids("a", "b"), test_and_sample(["c", "d"], ["c ", "d"])),
        r"the first 'c' \(it has others, such as 'c '\)",
    ),
    "repeated": (train_ids("1", "2", "3", "2"), "has id '2' in rows 3 and 5 of column 'id'"),
    "of two cases": (all_of(LETTERS, train_ids("Ab", "aB", "ab")), ids("Ab", "aB", "ab")),
    "of another case in the sample": (
        all_of(LETTERS, test_and_sample(["cC", "d"], ["cc", "d"])),
        r"'cC' \(it has others, such as 'cc'\)",
    ),
    "composed in one file, decomposed in the other": (
        all_of(LETTERS, test_and_sample([E_ACUTE, "d"], [E_COMBINED, "d"])),
        "it has others, such as",
    ),
    "very long": (all_of(LETTERS, train_ids(LONG, LONG + "y")), ids(LONG, LONG + "y")),
    "numbers beyond any type": (
        all_of(train_ids("9" * 400, "1"), test_and_sample(["9" * 400, "2"], ["2", "9" * 400])),
        ids("9" * 400, "1"),
    ),
    "a line break": (all_of(LETTERS, train_ids("a\nb", "c")), r"row 2 has id 'a\\nb' in column"),
    "a control character": (all_of(LETTERS, train_ids("a", "b\x1b")), r"row 3 has id 'b\\x1b'"),
}


def target_case(kind: str, cells: Sequence[object], expected: Expected, sample: str = "0") -> tuple:
    """Cells of the train table's target column; `sample` is what the sample submission holds."""
    n = len(cells)
    return (
        files(
            train=csv_of("id,text,target", range(n), ["a"] * n, cells),
            sample=csv_of("id,target", ["11", "12"], [sample] * 2),
        ),
        expected,
        kind,
    )


def multilabel(cells: Sequence[object], expected: Expected, header: str = "target,other") -> tuple:
    """Cells of the first of two target columns; `header` is the sample submission's."""
    return (
        files(
            train=csv_of("id,text,target,other", "1234", "abcd", cells, [0, 1, 0, 1]),
            sample=f"id,{header}\n11,0,0\n12,0,0\n",
        ),
        expected,
        "multilabel",
    )


def classes(labels: Sequence[str], columns: Sequence[str]) -> Damage:
    """A train table of these labels, and a sample submission of a probability for each column."""
    sample = csv_of(",".join(["id", *columns]), ["11", "12"], *[["0.5"] * 2] * len(columns))
    return all_of(target_case("multiclass", labels, "")[0], files(sample=sample))


CLASSES = [f"c{k}" for k in range(10_000)]
FINITE = "a regression target holds finite numbers only"

TARGETS: dict[str, tuple] = {
    "minus infinity": target_case("regression", ["1", "-Infinity"], f"holds -inf .* {FINITE}"),
    "nan as a label": target_case(
        "multiclass", ["1", "2", "nan"], "holds nan, which is not a label"
    ),
    "too large": target_case("regression", ["1", "1e400"], f"holds 1e400 in 1 rows; {FINITE}"),
    "empty": target_case("binary", ["1", "", "0", ""], "has 2 empty .* 'target', .* in row 3"),
    "spaces": target_case("regression", ["1", " "], f"holds   in 1 rows; {FINITE}"),
    "dates": target_case("regression", ["2020-01-01", "2020-01-02"], f"2020-01-01, .* {FINITE}"),
    "thousands": target_case("regression", ["1,000", "2,000.5"], "1,000, 2,000.5 .* write 1234.5"),
    "spaces around numbers": target_case("regression", ["1 ", " 2"], targets(1, 2)),
    "exponents": target_case("regression", ["1e3", "-.5E-1", "+7."], targets(1000.0, -0.05, 7.0)),
    "integers and floats": target_case("binary", ["1", "1.0", "0"], targets(1.0, 1.0, 0.0)),
    "truths": target_case("binary", ["True", "False"], targets("True", "False"), "True"),
    "truths, wanted as numbers": target_case("binary", ["True", "False"], r"text \('True'\), the"),
    "yes and no": target_case("binary", ["Yes", "No", "No"], targets("Yes", "No", "No"), "No"),
    "a label with a space": target_case("binary", ["Yes", "No", "No "], "'No' and 'No ', which"),
    "one label": target_case("binary", ["1", "1"], "holds the one label '1'; a binary task needs"),
    "amounts": target_case("binary", list(range(9)), r"9 labels \(0, 1, 2, 3, 4, …\); a binary"),
    "gaps in an order": target_case("ordinal", [1, 2, 5], targets(1, 2, 5)),
    "an order of words": target_case("ordinal", ["low", "high"], "an ordinal task needs numbers"),
    "a line break in a label": target_case("ordinal", ["a\nb", "c"], r"holds a\\nb, c; an ordinal"),
    "two in multilabel": multilabel([0, 1, 2, 0], "holds 2 in 1 rows; .* only 0 and 1"),
    "truths in multilabel": multilabel(["True"] * 4, "holds True in 4 .* write 1 for true and 0"),
}

BOTH = lambda t: t.sample["id"].tolist() == ["12", "11"]  # noqa: E731

SAMPLES = [
    *cases(
        "sample",
        "sample",
        {
            "rows in another order": ("id,target\n12,0\n11,0\n", BOTH),
            "empty cells": ("id,target\n12,\n11,\n", BOTH),
            "another name for one column": ("id,prediction\n12,0\n11,0\n", BOTH),
            "no id column": ("target\n0\n0\n", "unknown column 'id' in .*sample.csv"),
            "a row too many": ("id,target\n11,0\n12,0\n13,0\n", "test.csv lacks 1 of .* '13'"),
            "fewer rows than test": (
                "id,target\n12,0\n",
                lambda t: t.sample["id"].tolist() == ["11", "12"] and not t.own_rows,
            ),
            "other ids": (
                "id,target\na,0\nb,0\n",
                "lacks 2 of the 2 .* '11' .it has others, such as 'a'.; expected",
            ),
            "a column too many": ("id,target,x\n11,0,0\n12,0,0\n", "has columns target, x, but"),
            "no column of values": ("id\n11\n12\n", "sample.csv has no column beside 'id'"),
            "values as text": ("id,target\n11,yes\n12,no\n", r"the sample's holds text \('yes'\)"),
        },
    ),
    Case(
        "sample: another target",
        *multilabel(
            [0, 1, 1, 0],
            "sample submission has columns target, more, but labels of this task are target, other",
            "target,more",
        ),
    ),
    Case(
        "sample: other classes",
        classes("abc", "abd"),
        "has columns a, b, d, but probabilities of this task are a, b, c; check",
        "multiclass",
    ),
    Case(
        "sample: a thousand classes",
        classes(CLASSES[:1000], CLASSES[999::-1]),
        lambda t: t.sample.shape == (2, 1001),
        "multiclass",
    ),
]

TEXTS = {
    "empty": "",
    "only emoji": "🔥👩‍👩‍👧🏳️‍🌈",
    "right to left": "\u202eשלום مرحبا\u202c",
    "combining": "Z\u0351\u036b\u0343a\u0300\u0300" * 50,
    "1 MB": "a b " * 250_000,
    "special tokens": "[CLS] a [SEP] </s> <pad> [MASK] <|endoftext|>",
    "control characters": "\x01\x07\x1b[2J\x7f\u0085\u2028",
    "line breaks": "a\r\nb\rc\nd",
    "NA": "NA",
    "quotes and commas": '"","",",\\"',
}


def read_as(text: str) -> Check:
    return texts("a", text, "b", text)


VALUES = [
    *(Case(f"ids: {name}", *case) for name, case in IDS.items()),
    *(Case(f"targets: {name}", *case) for name, case in TARGETS.items()),
    *SAMPLES,
    *(
        Case(
            f"texts: {name}",
            files(train=csv_of("id,text,target", "1234", ["a", text, "b", text], [0, 1, 0, 1])),
            read_as(text),
        )
        for name, text in TEXTS.items()
    ),
    Case(
        "tables: targets in the test table",
        files(test="id,text,target\n11,a,1\n12,b,0\n"),
        lambda t: list(t.test) == ["id", "text"],
    ),
    Case(
        "tables: another text column", files(test="id,txt\n11,a\n12,b\n"), "test.csv; did you mean"
    ),
    Case("tables: an empty test table", files(test="id,text\n"), "test.csv has no rows"),
    Case("tables: all as it should be", files(), ROWS),
]
