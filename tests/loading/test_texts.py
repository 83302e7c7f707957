"""A table's texts become tokens as the member's settings say, once for members that read alike."""

import pandas as pd
import pytest

from poolblend.loading import texts
from poolblend.loading.texts import Texts
from poolblend.text_spec import TextSpec, Windows

TABLE = pd.DataFrame(
    {"title": ["lovely [SEP]", None, "a"], "body": ["day", "the road", None]}, index=[7, 3, 5]
)
BOTH = ("title", "body")


@pytest.fixture
def encode(tiny_backbone):
    """Encodes the table by the tiny backbone's tokenizer; `settings` are those of a TextSpec."""
    table = Texts(TABLE, "train")

    def encode(text, max_length=16, tokenizer_sha256="0", **settings):
        spec = TextSpec(text=text, max_length=max_length, **settings)
        return table.encode(tiny_backbone, tokenizer_sha256, spec)

    return encode


@pytest.fixture
def words(encode, tiny_backbone):
    """The table's texts as words, special tokens among them."""
    tokenizer = texts.load_tokenizer(tiny_backbone)

    def words(*text, **settings):
        rows = encode(text, **settings).ids
        return [" ".join(tokenizer.convert_ids_to_tokens(row.tolist())) for row in rows]

    return words


def test_columns_are_read_in_the_tables_order_and_empty_cells_as_empty_texts(words):
    assert words(*BOTH) == [
        "[CLS] lovely [UNK] [UNK] [UNK] [SEP] day [SEP]",
        "[CLS] [SEP] the road [SEP]",
        "[CLS] a [SEP] [SEP]",
    ]


def test_texts_are_tokenised_once_for_members_that_tokenise_alike(encode):
    title = ("title",)
    assert encode(title) is encode(title)
    others = [
        encode(title),
        encode(title, tokenizer_sha256="1"),
        encode(title, max_length=8),
        encode(("body",)),
        encode(("{body}",)),
        encode(title, special_tokens="tokens"),
        encode(title, truncation="tail"),
        encode(title, windows=Windows(overlap=2)),
        encode(title, windows=Windows(overlap=2, most=3)),
    ]
    assert len({id(each) for each in others}) == 9


@pytest.mark.parametrize("remote_code", [False, True])
def test_code_is_run_only_where_it_is_allowed(tiny_backbone, monkeypatch, remote_code):
    asked = []

    def load_tokenizer(folder, **given):
        asked.append(given)
        return real(folder)

    real = texts.load_tokenizer
    monkeypatch.setattr(texts, "load_tokenizer", load_tokenizer)
    spec = TextSpec(text=("title",), max_length=16)
    Texts(TABLE, "train", remote_code).encode(tiny_backbone, "0", spec)
    assert asked == [{"remote_code": remote_code}]


def test_the_log_says_how_many_texts_are_cut_and_how_many_windows_are_read(encode, caplog):
    with caplog.at_level("INFO", logger="poolblend"):
        encode(BOTH, 4)
        encode(BOTH, 4, windows=Windows(overlap=1, most=3))
    cut, windows = caplog.messages
    assert cut == "train: 3 texts, 4 tokens on average, 66.7 % of them cut at max_length 4"
    assert "33.3 % of them cut at max_length 4, 2.0 windows per text, 3 at most" in windows


def test_a_templates_special_tokens_are_tokens_and_its_cells_are_text(words):
    assert words("{title} [SEP] in {body}") == [
        "[CLS] lovely [UNK] [UNK] [UNK] [SEP] in day [SEP]",
        "[CLS] [SEP] in the road [SEP]",
        "[CLS] a [SEP] in [SEP]",
    ]
    as_tokens = words("{title} [SEP] in {body}", special_tokens="tokens")
    assert as_tokens[0] == "[CLS] lovely [SEP] [SEP] in day [SEP]"
    # A part without columns stands in every row.
    assert words("the day [SEP] {body}")[1:] == [
        "[CLS] the day [SEP] the road [SEP]",
        "[CLS] the day [SEP] [SEP]",
    ]


def test_no_space_is_left_around_a_templates_parts(encode, monkeypatch):
    """Byte-level tokenizers tell a word behind a space from one at the beginning."""
    asked, real = {}, texts.encode

    def spy(columns, tokenizer, spec, between=None):
        asked.update(columns=columns, between=between)
        return real(columns, tokenizer, spec, between)

    monkeypatch.setattr(texts, "encode", spy)
    encode(("{title} [SEP] in {body}",))
    assert asked["columns"] == [["lovely [SEP]", "", "a"], ["in day", "in the road", "in"]]
    assert asked["between"] == [[], ["[SEP]"], []]
