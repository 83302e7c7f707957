import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolblend.store.cards import DamagedError, read_card, write_card

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("cards") / "card.json"


@given(content=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), PLAIN))
def test_a_card_reads_back_as_it_was_written(path, content):
    write_card(path, content)
    assert read_card(path) == json.loads(json.dumps(content))


def test_a_card_that_is_not_there_is_none(tmp_path):
    assert read_card(tmp_path / "card.json") is None


def test_every_flipped_bit_and_every_cut_is_found_or_changes_nothing(path):
    content = {"score": 0.8125, "name": "größe", "nested": {"seed": 42, "list": [1, 2.5, None]}}
    write_card(path, content)
    whole = path.read_bytes()
    for byte in range(len(whole)):
        for damaged in (
            whole[:byte],
            *(
                whole[:byte] + bytes([whole[byte] ^ 1 << bit]) + whole[byte + 1 :]
                for bit in range(8)
            ),
        ):
            path.write_bytes(damaged)
            try:
                assert read_card(path) == content
            except DamagedError:
                continue


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"text"', b"\xff\x00", b"{}", b"[" * 9999])
def test_what_is_no_card_is_damaged(tmp_path, content):
    path = tmp_path / "card.json"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="card.json is damaged"):
        read_card(path)


def test_a_value_edited_by_hand_is_found(path):
    write_card(path, {"weight": 0.25})
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.raises(DamagedError):
        read_card(path)
