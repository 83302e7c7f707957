"""Laws of templates: cells are put in as they are, and what names no column is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolblend.competition.templates import fill, is_template, text_columns
from rig.tables import refused


@pytest.mark.parametrize(
    ("text", "template"),
    [
        (["{a}"], True),
        (["{a} [SEP] {b}"], True),
        (["a"], False),
        (["a", "b"], False),
        (["{a}", "b"], False),
    ],
)
def test_one_entry_with_a_brace_is_a_template(text: list[str], template: bool) -> None:
    assert is_template(text) is template


def test_columns_are_named_once_in_order_of_first_use() -> None:
    assert text_columns(["{b} and {a c}, {b}"]) == ["b", "a c"]
    assert text_columns(["b", "a"]) == ["b", "a"]
    assert text_columns(["a"]) == ["a"]


def test_each_row_is_filled_with_its_own_cells() -> None:
    columns = {"a": ["1", ""], "b": ["x", "y"], "c": ["-", "-"]}
    assert fill("<{b}|{a}|{b}>", columns) == ["<x|1|x>", "<y||y>"]
    assert fill("{a}", columns) == ["1", ""]


def test_two_braces_are_one() -> None:
    assert fill("{{{a}}} {{b}}", {"a": ["1"]}) == ["{1} {b}"]


def test_a_template_without_fields_is_the_same_text_in_every_row() -> None:
    assert fill(" [SEP] ", {"a": ["1", "2"]}) == [" [SEP] "] * 2


@given(st.lists(st.text(), min_size=1))
def test_cells_are_never_read_as_templates(cells: list[str]) -> None:
    braced = [f"{{b}}{cell}{{" for cell in cells]
    filled = fill("{a}-{a}", {"a": braced})
    assert filled == [f"{cell}-{cell}" for cell in braced]


@pytest.mark.parametrize(
    ("template", "place"),
    [
        ("{a", "{a"),
        ("{a} b}", "}"),
        ("{}", "{}"),
        ("x {a.b}", "{a.b}"),
        ("{a!r}", "{a!r}"),
        ("{a:>3}", "{a:>3}"),
        ("{a[0]}", "{a[0]}"),
        ("{a} {b{c}}", "{b{c}}"),
    ],
)
def test_a_malformed_template_is_refused_with_the_place(template: str, place: str) -> None:
    with refused(f"template '{template}' is malformed at '{place}': expected a column's name"):
        text_columns([template])


def test_a_template_of_no_column_is_refused() -> None:
    with refused("template '{{text}}' names no column; write one in braces"):
        text_columns(["{{text}}"])


def test_an_unknown_column_names_the_nearest() -> None:
    with refused("unknown column 'txt' in template '{txt}'; did you mean 'text'?"):
        fill("{txt}", {"text": ["x"]})
