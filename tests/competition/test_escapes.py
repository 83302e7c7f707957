"""Laws of CSV whose quotes follow a backslash: read as it was meant, and nothing else is."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolblend.competition.delimited import with_doubled_quotes
from poolblend.competition.files import read_table

PIECES = ["a", "b ", '"', "\\", ",", "\n", '\\"', '""', "é", "\\alpha", "\\\\", "{"]
rows = st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), min_size=1, max_size=5)
ANY = Path("any.csv")


def spark(texts: list[str]) -> bytes:
    """A column of numbers and one of texts, as Spark writes them by default."""
    cells = []
    for text in texts:
        if any(letter in text for letter in '",\n') or not text:
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            cells.append(f'"{escaped}"')
        else:
            cells.append(text)
    lines = ["n,text,more", *(f"{n},{cell},1" for n, cell in enumerate(cells))]
    return ("\n".join(lines) + "\n").encode()


def python(texts: list[str], **form: object) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, **({"lineterminator": "\n"} | form))  # type: ignore[arg-type]
    writer.writerows([["n", "text", "more"], *([n, text, 1] for n, text in enumerate(texts))])
    return file.getvalue().encode()


def read(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


@settings(deadline=None)
@given(rows)
def test_texts_that_spark_wrote_are_read_as_they_were(texts: list[str]) -> None:
    # Quotes and a following letter leave no doubt of the dialect; without, a file may be either.
    texts = [*texts, 'he said "yes, indeed" and left']
    found = read(with_doubled_quotes(ANY, spark(texts)))
    assert [row[1] for row in found[1:]] == texts


@settings(deadline=None)
@given(rows)
def test_texts_that_python_wrote_with_an_escape_are_read_as_they_were(texts: list[str]) -> None:
    texts = [*texts, 'he said "yes, indeed" and left', 'a "quote"']
    content = python(texts, doublequote=False, escapechar="\\")
    assert [row[1] for row in read(with_doubled_quotes(ANY, content))[1:]] == texts


@settings(deadline=None)
@given(rows, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.sampled_from(["\n", "\r\n"]))
def test_a_file_of_doubled_quotes_stays_as_it_is(texts: list[str], quoting: int, end: str) -> None:
    content = python(texts, quoting=quoting, lineterminator=end)
    assert with_doubled_quotes(ANY, content) == content


def test_a_file_is_said_to_escape_its_quotes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "train.csv"
    path.write_bytes(b"\xef\xbb\xbf\n" + spark(['a "b", c', "C:\\dir\\", "two\nlines", 'd "e"']))
    assert read_table(path)["text"].tolist() == ['a "b", c', "C:\\dir\\", "two\nlines", 'd "e"']
    assert "quotes after a backslash are read as quotes, in 2 cells" in caplog.text
    caplog.clear()
    path.write_bytes(python(['a "b", c', "C:\\dir\\", 'G\\"odel']))
    assert read_table(path)["text"].tolist() == ['a "b", c', "C:\\dir\\", 'G\\"odel']
    assert not caplog.text
