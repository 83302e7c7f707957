import pandas as pd
import pytest

from poolblend.pipeline import texts
from poolblend.pipeline.texts import Texts

TABLE = pd.DataFrame(
    {"title": ["lovely [SEP]", None, "a"], "body": ["day", "the road", None]}, index=[7, 3, 5]
)


@pytest.fixture
def table():
    return Texts(TABLE, "train")


def test_columns_are_read_in_the_tables_order_and_empty_cells_as_empty_texts(table, tiny_backbone):
    encoded = table.encode(tiny_backbone, "0", 16, ["title", "body"])
    tokenizer = texts.load_tokenizer(tiny_backbone)
    words = [tokenizer.convert_ids_to_tokens(row.tolist()) for row in encoded.ids]
    assert words[0][1:-1] == ["lovely", *["[UNK]"] * 3, "[SEP]", "day"]
    assert words[1:] == [["[CLS]", "[SEP]", "the", "road", "[SEP]"], ["[CLS]", "a", *["[SEP]"] * 2]]


def test_texts_are_tokenised_once_for_members_that_tokenise_alike(table, tiny_backbone):
    def encode(**changes):
        settings = {"sha256": "0", "max_length": 16, "columns": ["title"], "special_tokens": "text"}
        return table.encode(tiny_backbone, *(settings | changes).values())

    assert encode() is encode()
    others = [
        {"sha256": "1"},
        {"max_length": 8},
        {"columns": ["body"]},
        {"special_tokens": "tokens"},
    ]
    encodings = [encode(), *(encode(**changes) for changes in others)]
    assert len({id(each) for each in encodings}) == 5


def test_the_setting_says_whether_special_tokens_are_text(table, tiny_backbone):
    as_text = table.encode(tiny_backbone, "0", 16, ["title"])
    as_tokens = table.encode(tiny_backbone, "0", 16, ["title"], "tokens")
    assert [len(each.ids[0]) for each in (as_text, as_tokens)] == [6, 4]


@pytest.mark.parametrize("remote_code", [False, True])
def test_code_is_run_only_where_it_is_allowed(tiny_backbone, monkeypatch, remote_code):
    asked = []

    def load_tokenizer(folder, **given):
        asked.append(given)
        return real(folder)

    real = texts.load_tokenizer
    monkeypatch.setattr(texts, "load_tokenizer", load_tokenizer)
    Texts(TABLE, "train", remote_code).encode(tiny_backbone, "0", 16, ["title"])
    assert asked == [{"remote_code": remote_code}]


def test_the_log_says_how_many_texts_are_cut(table, tiny_backbone, caplog):
    with caplog.at_level("INFO", logger="poolblend"):
        table.encode(tiny_backbone, "0", 4, ["title", "body"])
    assert "train: 3 texts, 4 tokens on average, 66.7 % of them cut at max_length 4" in caplog.text
