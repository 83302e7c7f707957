from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from poolblend.errors import UserError
from poolblend.modeling.backbone import load_tokenizer
from poolblend.training.batches import collate
from poolblend.training.encoding import concatenated, digest
from rig.encoding import encode


def test_texts_are_cut_at_max_length_and_counted(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    encoded = encode([["lovely day", "the " * 30, "", "the " * 6]], tokenizer, 8)
    assert [len(row) for row in encoded.ids] == [4, 8, 2, 8]
    assert encoded.n_truncated == 1
    assert [row.sum() for row in encoded.content] == [2, 6, 0, 6]
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert all((row[0], row[-1]) == (cls, sep) for row in encoded.ids)


def test_no_room_beside_the_tokenizers_own_tokens_is_refused(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    assert len(encode([["lovely day"]], tokenizer, 3).ids[0]) == 3
    with pytest.raises(UserError, match="max_length is 2: no room beside the tokenizer's own"):
        encode([["lovely day"]], tokenizer, 2)


def test_a_pattern_that_gives_up_on_a_text_is_an_error_of_one_line(tiny_backbone, capfd):
    tokenizer = load_tokenizer(tiny_backbone)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    assert len(encode([["a"]], tokenizer, 8).ids[0]) == 3
    with pytest.raises(
        UserError, match="fails on a text .*retry-limit-in-match over.*; correct its pat"
    ):
        encode([["a" * 40 + "b"]], tokenizer, 8)
    capfd.readouterr()  # what Rust prints of its panic


def test_equal_tokens_and_no_others_have_one_digest(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    encoded = encode([["lovely day", "the road", "lovely day", "road the"]], tokenizer, 8)
    first, *others = (digest(encoded, np.array(rows)) for rows in ([0], [2], [1], [0, 1], [1, 0]))
    assert first["count"] == 4
    assert first == others.pop(0)
    assert len({each["sha256"] for each in (first, *others)}) == 4


@pytest.mark.parametrize(("side", "kept"), [("right", slice(7)), ("left", slice(-7, None))])
def test_columns_meet_at_one_separator_which_is_no_content(tiny_backbone, side, kept):
    tokenizer = load_tokenizer(tiny_backbone)
    tokenizer.truncation_side = side
    columns = [["lovely day", "the " * 5, ""], ["bright house", "a road", ""], ["it", "of", "on"]]
    encoded = encode(columns, tokenizer, 9)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    for i, texts in enumerate(zip(*columns, strict=True)):
        words = [word for text in texts for word in (*text.split(), "[SEP]")][:-1]
        assert encoded.ids[i].tolist() == [cls, *tokenizer.convert_tokens_to_ids(words[kept]), sep]
        assert encoded.content[i].tolist() == [
            False,
            *(word != "[SEP]" for word in words[kept]),
            False,
        ]
    assert encoded.n_truncated == 1


def test_a_separator_that_was_typed_is_content_unless_it_counts_as_a_token(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    typed = encode([["lovely [SEP] day"]], tokenizer, 16)
    assert typed.content[0].tolist() == [False, True, True, True, True, True, False]
    assert list(typed.ids[0]).count(tokenizer.sep_token_id) == 1
    joined = encode([["lovely [SEP] day"]], tokenizer, 8, special_tokens="tokens")
    assert joined.content[0].tolist() == [False, True, False, True, False]
    assert joined.ids[0].tolist() == tokenizer("lovely [SEP] day")["input_ids"]


def test_columns_of_tokens_are_joined_as_one_string(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    columns = [["lovely [CLS]", "the " * 9], ["day", "road"]]
    encoded = encode(columns, tokenizer, 8, special_tokens="tokens")
    whole = [f"{one} [SEP] {two}" for one, two in zip(*columns, strict=True)]
    alone = tokenizer(whole, truncation=True, max_length=8)["input_ids"]
    assert [row.tolist() for row in encoded.ids] == alone
    assert encoded.n_truncated == 1


def test_a_text_without_any_token_is_one_padding_token():
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 3, "[PAD]": 7}, unk_token="[PAD]")),
        pad_token="[PAD]",
    )
    encoded = encode([[""]], tokenizer, 8)
    assert encoded.ids[0].tolist() == [7]
    assert encoded.content[0].tolist() == [False]
    assert collate(encoded, np.array([0])).attention_BT.tolist() == [[True]]


@pytest.mark.parametrize(
    ("truncation", "kept"),
    [
        ("auto", "the a of in it"),
        ("head", "the a of in it"),
        ("tail", "of in it was on"),
        ("head_tail", "the a of was on"),
    ],
)
def test_the_setting_says_which_part_of_a_text_is_kept(tiny_backbone, truncation, kept):
    tokenizer = load_tokenizer(tiny_backbone)
    encoded = encode([["the a of in it was on"]], tokenizer, 7, truncation=truncation)
    assert encoded.ids[0].tolist() == tokenizer(kept)["input_ids"]
    assert encoded.n_truncated == 1


def test_auto_is_the_end_that_the_tokenizer_keeps(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    texts = ["the a of in it was on"]
    for side, other in (("left", "tail"), ("right", "head")):
        tokenizer.truncation_side = side
        auto, named = (encode([texts], tokenizer, 7, truncation=t) for t in ("auto", other))
        assert auto.ids[0].tolist() == named.ids[0].tolist()


@pytest.mark.parametrize("special_tokens", ["text", "tokens"])
def test_special_tokens_of_a_template_are_no_content(tiny_backbone, special_tokens):
    tokenizer = load_tokenizer(tiny_backbone)
    encoded = encode(
        [["lovely day"], ["road"]],
        tokenizer,
        16,
        special_tokens=special_tokens,
        between=[["[CLS]"], ["[SEP]", "[SEP]"], []],
    )
    words = ["[CLS]", "[CLS]", "lovely", "day", "[SEP]", "[SEP]", "road", "[SEP]"]
    assert tokenizer.convert_ids_to_tokens(encoded.ids[0].tolist()) == words
    own = [False, False, True, True, False, False, True, False]
    assert encoded.content[0].tolist() == own


def test_long_texts_are_kept_for_windows_and_cut_behind_the_most(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    texts = ["the " * n for n in (0, 6, 7, 14, 15)]
    whole = encode([texts], tokenizer, 8, windows=(2, None))
    assert [len(row) for row in whole.ids] == [2, 8, 9, 16, 17]
    assert whole.n_windows_N.tolist() == [1, 1, 2, 3, 4]
    assert whole.lengths_N.tolist() == [2, 8, 16, 24, 32]
    assert whole.n_truncated == 0
    three = encode([texts], tokenizer, 8, windows=(2, 3))
    assert [len(row) for row in three.ids] == [2, 8, 9, 16, 16]
    assert three.n_windows_N.max() == 3
    assert three.n_truncated == 1


def test_windows_that_cannot_move_on_are_refused(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    encode([["the"]], tokenizer, 8, windows=(5, None))
    with pytest.raises(UserError, match="windows.overlap is 6.*hold 6 tokens.*lower"):
        encode([["the"]], tokenizer, 8, windows=(6, None))


def test_windows_of_pairs_are_refused(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    with pytest.raises(UserError, match="windows read one text, data.join=pair makes two; set"):
        encode([["a"], ["b"]], tokenizer, 8, join="pair", windows=(2, None))


def test_two_tables_become_one(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    one, two = (
        replace(
            encode([texts], tokenizer, 6, windows=(1, 2)),
            columns_NF=np.full((len(texts), 1), number, dtype=np.float32),
            types=tuple(np.array([number]) for _ in texts),
        )
        for number, texts in enumerate((["lovely day", "the " * 40], ["a road", "", "the " * 40]))
    )
    both = concatenated(one, two)
    assert [row.tolist() for row in both.ids] == [row.tolist() for row in (*one.ids, *two.ids)]
    assert [row.tolist() for row in both.content] == [
        row.tolist() for row in (*one.content, *two.content)
    ]
    assert both.n_truncated == 2
    assert both.columns_NF.tolist() == [[0], [0], [1], [1], [1]]
    assert [int(row[0]) for row in both.types] == [0, 0, 1, 1, 1]
    assert (both.windowing, both.max_length) == (one.windowing, 6)


def test_tables_that_are_encoded_otherwise_do_not_become_one(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    one = encode([["a"]], tokenizer, 6)
    for changes in (
        {"pad_id": 5},
        {"max_length": 7},
        {"columns_NF": np.zeros((1, 2), dtype=np.float32)},
        {"types": (np.zeros(3),)},
    ):
        with pytest.raises(ValueError, match=f"differ in {next(iter(changes))}"):
            concatenated(one, replace(one, **changes))
