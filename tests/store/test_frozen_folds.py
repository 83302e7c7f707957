import pandas as pd
import pytest

from poolblend.cards.folds import FoldSettings
from poolblend.errors import UserError
from poolblend.store import DamagedError, read_folds, write_folds

SETTINGS = FoldSettings(strategy="plain", seed=42, groups=None, keep_together="none", bins=None)
TABLE = pd.DataFrame({"id": ["0001", "NA", "x"], "fold": [0, 1, 0]})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "input" / "folds.csv"


def test_folds_read_back_with_their_ids_as_they_were(path):
    assert read_folds(path) is None
    write_folds(path, TABLE, SETTINGS)
    folds = read_folds(path)
    assert folds.table.to_dict("list") == TABLE.to_dict("list")
    assert folds.card.settings == SETTINGS


def test_folds_without_a_card_are_their_users_own(path):
    path.parent.mkdir()
    path.write_text("id,fold\na,1\nb,0\n")
    assert read_folds(path).card is None


@pytest.mark.parametrize(
    "content",
    ["id,fold\na,x\n", "id\na\n", "", "id,fold\na,99999999999999999999999\n", 'id,fold\na\n"\n'],
)
def test_a_broken_folds_file_is_refused_by_name(path, content):
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(UserError, match=r"folds.csv is not a table of id, fold"):
        read_folds(path)


@pytest.mark.parametrize("content", ["id,fold\n0001,1\nNA,1\nx,0\n", "id,fold\n", ""])
def test_folds_that_are_not_those_made_are_refused(path, content):
    write_folds(path, TABLE, None)
    path.write_text(content)
    with pytest.raises(
        DamagedError, match=r"folds.csv is not the file that was made there.*delete folds.json"
    ):
        read_folds(path)
    path.with_suffix(".json").unlink()
    if content.count("\n") > 1:
        assert read_folds(path).table["fold"].tolist() == [1, 1, 0]


def test_a_damaged_card_of_the_folds_is_named(path):
    write_folds(path, TABLE, SETTINGS)
    card = path.with_suffix(".json")
    whole = card.read_bytes()
    for damaged in (whole.replace(b"42", b"43"), whole[:-20], b"\xff", b"[]", b""):
        card.write_bytes(damaged)
        with pytest.raises(
            DamagedError, match=r"folds.json is damaged.*or delete it to use folds.csv"
        ):
            read_folds(path)
