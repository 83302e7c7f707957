import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from poolblend.errors import UserError
from poolblend.modeling.backbone import load_tokenizer
from poolblend.training.batches import (
    collate,
    encode,
    padding_share,
    prediction_batches,
    training_batches,
)

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=300).map(np.array)


@given(lengths, st.integers(1, 40), st.integers(0, 5))
def test_training_batches_hold_every_row_once(lengths_N, batch_size, seed):
    batches = training_batches(lengths_N, batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths_N)))
    assert max(map(len, batches)) <= batch_size + 1


@given(lengths, st.integers(2, 40))
def test_no_training_batch_is_a_lone_row_beside_others(lengths_N, batch_size):
    batches = training_batches(lengths_N, batch_size, np.random.default_rng(0))
    assert len(batches) == 1 or min(map(len, batches)) > 1


def test_training_batches_follow_the_generator():
    lengths_N = np.arange(1, 200)
    one, same, other = (
        [batch.tolist() for batch in training_batches(lengths_N, 8, np.random.default_rng(seed))]
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_similar_lengths_meet_so_that_little_is_padded():
    rng = np.random.default_rng(0)
    lengths_N = rng.gamma(4, 8, 2000).astype(int) + 3
    batches = training_batches(lengths_N, 32, rng)
    shuffled = np.array_split(rng.permutation(2000), 63)
    assert padding_share(lengths_N, batches) < 0.08
    assert padding_share(lengths_N, shuffled) > 0.3


@given(lengths, st.integers(1, 500))
def test_prediction_batches_hold_every_row_once_and_bound_their_tokens(lengths_N, batch_tokens):
    batches = prediction_batches(lengths_N, batch_tokens)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths_N)))
    for batch in batches:
        assert len(batch) == 1 or lengths_N[batch].max() * len(batch) <= batch_tokens
    assert lengths_N[batches[0]].max() == lengths_N.max()


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


def test_collated_rows_are_padded_where_the_tokenizer_pads(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    texts = ["lovely day", "the road", "a lovely sweet house"]
    for side in ("right", "left"):
        tokenizer.padding_side = side
        encoded = encode([texts], tokenizer, 16)
        rows = np.array([2, 0])
        batch = collate(encoded, rows)
        assert batch.ids_BT.shape == (2, 6)
        for i, row in enumerate(rows):
            there = batch.attention_BT[i]
            assert batch.ids_BT[i][there].tolist() == encoded.ids[row].tolist()
            assert (batch.ids_BT[i][~there] == tokenizer.pad_token_id).all()
            assert batch.content_BT[i][there].tolist() == encoded.content[row].tolist()
        assert bool(batch.attention_BT[1, 0]) == (side == "right")
        assert collate(encoded, rows, full_width=True).ids_BT.shape == (2, 16)
