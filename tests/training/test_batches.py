import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolblend.modeling.backbone import load_tokenizer
from poolblend.training.batches import (
    collate,
    padding_share,
    prediction_batches,
    training_batches,
)
from poolblend.training.encoding import Encoded
from poolblend.training.windows import Windowing
from rig.encoding import encode

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
        assert batch.padded
        assert not collate(encoded, rows[:1]).padded


def encoded_of(rows, **settings):
    ids = tuple(np.array(row, dtype=np.int32) for row in rows)
    content = tuple(np.ones(len(row), dtype=bool) for row in rows)
    settings = {"n_truncated": 0, "pad_id": 9, "pad_left": False, "max_length": 8} | settings
    return Encoded(ids=ids, content=content, **settings)


@pytest.mark.parametrize("left", [False, True])
def test_what_a_row_has_besides_its_tokens_comes_with_it(left):
    types = (np.array([0, 1]), np.array([1, 1, 1]), np.array([0, 0, 1, 1]))
    columns_NF = np.arange(6, dtype=np.float32).reshape(3, 2)
    encoded = encoded_of(
        [[1, 2], [3, 4, 5], [6, 7, 8, 1]], pad_left=left, types=types, columns_NF=columns_NF
    )
    batch = collate(encoded, np.array([2, 0]))
    padded = [0, 0, 0, 1] if left else [0, 1, 0, 0]
    assert batch.types_BT.tolist() == [[0, 0, 1, 1], padded]
    assert batch.columns_BF.tolist() == [[4, 5], [0, 1]]
    assert batch.columns_BF.dtype.is_floating_point
    bare = collate(encoded_of([[1, 2]]), np.array([0]))
    assert (bare.types_BT, bare.columns_BF, bare.windows) == (None, None, None)


def windowed(lengths_N, left=False):
    """Rows of so many tokens, all different; windows of 8 with one token before and after."""
    starts = np.cumsum([0, *lengths_N])[:-1]
    rows = [np.arange(start, start + n) + 100 for start, n in zip(starts, lengths_N, strict=True)]
    return encoded_of(rows, pad_left=left, windowing=Windowing(8, 2, 1, 1))


row_lengths = st.lists(st.integers(2, 60), min_size=1, max_size=8)


@given(row_lengths, st.booleans())
def test_every_token_is_read_where_it_stands_in_the_windows(lengths_N, left):
    encoded = windowed(lengths_N, left)
    batch = collate(encoded, np.arange(len(lengths_N)))
    if batch.windows is None:
        assert max(lengths_N) <= 8
        return
    windows = batch.windows
    read_BT = windows.ids_WT.flatten()[windows.at_BT]
    assert (read_BT == batch.ids_BT)[batch.attention_BT].all()
    assert windows.attention_WT.flatten()[windows.at_BT][batch.attention_BT].all()
    assert len(windows.ids_WT) == encoded.n_windows_N.sum()
    assert (windows.ids_WT[~windows.attention_WT] == 9).all()
    assert (windows.ids_WT[windows.attention_WT] >= 100).all()


@given(row_lengths, st.integers(1, 200))
def test_batches_of_windows_bound_the_tokens_that_are_computed(lengths_N, batch_tokens):
    encoded = windowed(lengths_N)
    for rows in prediction_batches(encoded.lengths_N, batch_tokens):
        batch = collate(encoded, rows)
        read = batch.ids_BT if batch.windows is None else batch.windows.ids_WT
        assert len(rows) == 1 or read.numel() <= batch_tokens
        share = padding_share(encoded.lengths_N[rows], [np.arange(len(rows))], max_length=8)
        assert share == pytest.approx(1 - encoded.lengths_N[rows].sum() / read.numel())


def test_windows_cannot_be_padded_to_full_width():
    with pytest.raises(ValueError, match="full width"):
        collate(windowed([20]), np.array([0]), full_width=True)
