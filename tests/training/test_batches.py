import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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
    encoded = encode(["lovely day", "the " * 30, "", "the " * 6], tokenizer, 8)
    assert [len(row) for row in encoded.ids] == [4, 8, 2, 8]
    assert encoded.n_truncated == 1
    assert [row.sum() for row in encoded.content] == [2, 6, 0, 6]
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert all((row[0], row[-1]) == (cls, sep) for row in encoded.ids)


def test_the_separator_between_columns_is_no_content(tiny_backbone):
    encoded = encode(["lovely [SEP] day"], load_tokenizer(tiny_backbone), 8)
    assert encoded.content[0].tolist() == [False, True, False, True, False]


def test_a_text_without_any_token_is_one_padding_token():
    class Bare:
        pad_token_id, sep_token_id, padding_side = 7, None, "right"

        def __call__(self, texts, **_):
            class Encoding(dict):
                encodings = None

            return Encoding(input_ids=[[] for _ in texts], special_tokens_mask=[[] for _ in texts])

    encoded = encode([""], Bare(), 8)
    assert encoded.ids[0].tolist() == [7]
    assert collate(encoded, np.array([0])).attention_BT.tolist() == [[True]]


def test_collated_rows_are_padded_where_the_tokenizer_pads(tiny_backbone):
    tokenizer = load_tokenizer(tiny_backbone)
    texts = ["lovely day", "the road", "a lovely sweet house"]
    for side in ("right", "left"):
        tokenizer.padding_side = side
        encoded = encode(texts, tokenizer, 16)
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
