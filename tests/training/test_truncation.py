import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolblend.training.encoding import share_room, truncate

rooms = st.integers(1, 30)


@pytest.mark.parametrize(
    ("truncation", "kept"), [("head", "abcde"), ("tail", "cdefg"), ("head_tail", "abcfg")]
)
def test_the_named_part_is_kept(truncation, kept):
    assert "".join(truncate("abcdefg", 5, truncation)) == kept
    assert "".join(truncate("abcdefg", 7, truncation)) == "abcdefg"
    assert len(truncate("abcdefg", 0, truncation)) == 0


@given(st.integers(0, 40), st.integers(0, 40), rooms)
def test_the_longer_of_two_is_cut_first(one, two, room):
    kept = [
        min(n, given) for n, given in zip((one, two), share_room([one, two], room), strict=True)
    ]
    lengths = [one, two]
    while sum(lengths) > room:
        lengths[lengths[1] >= lengths[0]] -= 1
    assert sum(kept) == min(one + two, room)
    assert sorted(kept) == sorted(lengths)


def test_of_two_that_are_cut_the_longer_keeps_the_odd_token():
    assert share_room([9, 8], 5) == [3, 2]
    assert share_room([8, 9], 5) == [2, 3]
    assert share_room([9], 5) == [5]
