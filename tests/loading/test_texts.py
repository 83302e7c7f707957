import pandas as pd
import pytest

from poolblend.loading import texts
from poolblend.loading.texts import Texts

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
        settings = {
            "tokenizer_sha256": "0",
            "max_length": 16,
            "text": ["title"],
            "special_tokens": "text",
        }
        return table.encode(tiny_backbone, **settings | changes)

    assert encode() is encode()
    others = [
        {"tokenizer_sha256": "1"},
        {"max_length": 8},
        {"text": ["body"]},
        {"text": ["{body}"]},
        {"special_tokens": "tokens"},
        {"truncation": "tail"},
        {"windows": (2, None)},
        {"windows": (2, 3)},
    ]
    encodings = [encode(), *(encode(**changes) for changes in others)]
    assert len({id(each) for each in encodings}) == 9


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


def words(encoded, folder):
    tokenizer = texts.load_tokenizer(folder)
    return [" ".join(tokenizer.convert_ids_to_tokens(row.tolist())) for row in encoded.ids]


def test_a_templates_special_tokens_are_tokens_and_its_cells_are_text(table, tiny_backbone):
    encoded = table.encode(tiny_backbone, "0", 16, ["{title} [SEP] in {body}"])
    assert words(encoded, tiny_backbone) == [
        "[CLS] lovely [UNK] [UNK] [UNK] [SEP] in day [SEP]",
        "[CLS] [SEP] in the road [SEP]",
        "[CLS] a [SEP] in [SEP]",
    ]


def test_cells_are_tokens_in_a_template_too_where_the_setting_says_so(table, tiny_backbone):
    encoded = table.encode(tiny_backbone, "0", 16, ["{title} [SEP] in {body}"], "tokens")
    assert words(encoded, tiny_backbone)[0] == "[CLS] lovely [SEP] [SEP] in day [SEP]"


def test_a_part_of_a_template_without_columns_stands_in_every_row(table, tiny_backbone):
    encoded = table.encode(tiny_backbone, "0", 16, ["the day [SEP] {body}"])
    assert words(encoded, tiny_backbone)[1:] == [
        "[CLS] the day [SEP] the road [SEP]",
        "[CLS] the day [SEP] [SEP]",
    ]


@pytest.fixture
def given(monkeypatch):
    """What the tokenising is asked for."""
    asked = {}

    def encode(columns, tokenizer, max_length, **settings):
        asked.update(settings, columns=columns)
        return real(columns, tokenizer, max_length)

    real = texts.encode
    monkeypatch.setattr(texts, "encode", encode)
    return asked


def test_settings_of_pairs_truncation_and_windows_arrive(table, tiny_backbone, given):
    settings = {"join": "pair", "truncation": "head_tail", "windows": (2, 3)}
    table.encode(tiny_backbone, "0", 16, ["title", "body"], "tokens", **settings)
    columns = [["lovely [SEP]", "", "a"], ["day", "the road", ""]]
    told = {"special_tokens": "tokens", "between": None, "columns": columns}
    assert given == settings | told


def test_no_space_is_left_around_a_templates_parts(table, tiny_backbone, given):
    """Byte-level tokenizers tell a word behind a space from one at the beginning."""
    table.encode(tiny_backbone, "0", 16, ["{title} [SEP] in {body}"])
    assert given["columns"] == [["lovely [SEP]", "", "a"], ["in day", "in the road", "in"]]
    assert given["between"] == [[], ["[SEP]"], []]


def test_the_log_tells_of_windows(table, tiny_backbone, caplog):
    with caplog.at_level("INFO", logger="poolblend"):
        table.encode(tiny_backbone, "0", 4, ["title", "body"], windows=(1, 3))
    assert "33.3 % of them cut at max_length 4, 2.0 windows per text, 3 at most" in caplog.text
