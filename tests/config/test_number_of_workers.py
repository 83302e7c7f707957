"""--workers is auto or a number from 1."""

import pytest

from poolblend.config import parse_workers
from poolblend.errors import UserError


@pytest.mark.parametrize(("text", "found"), [("auto", "auto"), (" 2 ", 2), ("AUTO", "auto")])
def test_workers_are_auto_or_a_number(text, found):
    assert parse_workers(text) == found


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5", "٢", "1e3", "100000"])
def test_any_other_number_of_workers_is_refused(text):
    with pytest.raises(UserError, match="--workers .*: expected auto or a number of processes"):
        parse_workers(text)
