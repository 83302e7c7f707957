"""Long texts in windows: which windows, and what poolers make of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from poolblend.modeling import backbone
from poolblend.modeling.backbone import load_tokenizer
from poolblend.modeling.model import TextModel, build_model
from poolblend.modeling.poolers import POOLERS, EncoderShape, build_pooler
from poolblend.training.batches import collate
from poolblend.training.encoding import encode
from poolblend.training.windows import Windowing
from rig.toys import FILLER

rng = np.random.default_rng(0)
TEXTS = [" ".join(rng.choice(FILLER, n)) for n in (3, 20, 1, 33, 6, 7, 55, 0, 12)]


class Lookup(nn.Module):
    """An encoder whose states tell a token's id and nothing of what stands around it."""

    def __init__(self, n_words, hidden_size=4, n_layers=2):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n_words, hidden_size) for _ in range(n_layers + 1))

    def forward(self, input_ids, attention_mask, output_hidden_states):
        states = tuple(table(input_ids) for table in self.tables)
        # What is padding must not matter: it is no number at all.
        states = tuple(x.masked_fill(attention_mask[..., None] == 0, torch.nan) for x in states)
        return SimpleNamespace(last_hidden_state=states[-1], hidden_states=states)


def all_rows(encoded):
    return collate(encoded, np.arange(len(encoded.ids)))


@pytest.mark.parametrize(("length", "overlap"), [(8, 0), (8, 2), (8, 3), (9, 5), (16, 4), (64, 9)])
def test_windows_are_those_that_the_tokenizer_makes(tiny_backbone, length, overlap):
    tokenizer = load_tokenizer(tiny_backbone)
    encoded = encode([TEXTS], tokenizer, length, windows=(overlap, None))
    for text, ids in zip(TEXTS, encoded.ids, strict=True):
        own = tokenizer(
            text, truncation=True, max_length=length, stride=overlap, return_overflowing_tokens=True
        )["input_ids"]
        windows, _, _ = encoded.windowing.cut(ids)
        assert [window.tolist() for window in windows] == own
        assert encoded.windowing.n_windows(np.array([len(ids)])) == len(own)


@given(st.integers(0, 60), st.integers(1, 12), st.integers(0, 11), st.integers(0, 2), st.booleans())
def test_a_token_is_read_where_it_is_farthest_from_where_the_text_was_cut(
    n_tokens, room, overlap, n_before, after
):
    overlap = min(overlap, room - 1)
    cutting = Windowing(room + n_before + after, overlap, n_before, int(after))
    row = np.arange(n_before + n_tokens + after)
    windows, window_T, place_T = cutting.cut(row)
    assert len(windows) == cutting.n_windows(np.array(len(row)))
    for token in range(len(row)):
        assert windows[window_T[token]][place_T[token]] == token
    for token in range(n_before, n_before + n_tokens):
        depth = [
            min(window.tolist().index(token) - n_before, window[::-1].tolist().index(token) - after)
            if token in window
            else -1
            for window in windows
        ]
        assert window_T[token] == int(np.argmax(depth))
    assert set(window_T[:n_before].tolist()) <= {0}
    assert set(window_T[n_before + n_tokens :].tolist()) <= {len(windows) - 1}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mask", ["attention", "content"])
@pytest.mark.parametrize("pooler", sorted(POOLERS))
def test_poolers_see_every_token_once(tiny_backbone, pooler, mask, side):
    tokenizer = load_tokenizer(tiny_backbone)
    tokenizer.padding_side = side
    torch.manual_seed(0)
    shape = EncoderShape(hidden_size=4, n_layers=2, vocab_size=len(tokenizer))
    model = TextModel(
        Lookup(len(tokenizer)), build_pooler(pooler, shape, {}), nn.Identity(), mask
    ).eval()
    uncut = encode([TEXTS], tokenizer, 64)
    windowed = encode([TEXTS], tokenizer, 8, windows=(2, None))
    torch.testing.assert_close(model.pool(all_rows(windowed)), model.pool(all_rows(uncut)))


@pytest.fixture
def model(tiny_backbone):
    torch.manual_seed(0)
    return build_model(
        backbone.load(tiny_backbone),
        pooler="weighted_layer",
        pooler_args={},
        mask="attention",
        n_outputs=1,
        dropout=0.0,
        norm="none",
    )[0].eval()


def test_texts_of_one_window_are_read_as_without_windows(tiny_backbone, model):
    tokenizer = load_tokenizer(tiny_backbone)
    short = [text for text in TEXTS if len(text.split()) <= 20]
    with_windows = all_rows(encode([short], tokenizer, 22, windows=(4, None)))
    assert with_windows.windows is None
    assert torch.equal(model(with_windows), model(all_rows(encode([short], tokenizer, 22))))


def test_windows_do_not_depend_on_the_rows_beside_them(tiny_backbone, model):
    encoded = encode([TEXTS], load_tokenizer(tiny_backbone), 10, windows=(3, None))
    together = model(all_rows(encoded))
    alone = torch.cat([model(collate(encoded, np.array([row]))) for row in range(len(TEXTS))])
    torch.testing.assert_close(together, alone)


def test_gradients_reach_every_window(tiny_backbone, model):
    """Its only copy of a word lies in one window: that window alone can give it a gradient."""
    tokenizer = load_tokenizer(tiny_backbone)
    words = ["lovely", "bright", "happy", "fine", "sweet", "warm"]
    text = " ".join(f"{word} the the the the" for word in words)
    encoded = encode([[text]], tokenizer, 8, windows=(1, None))
    assert encoded.n_windows_N[0] >= len(words)
    model(all_rows(encoded)).sum().backward()
    gradient = model.encoder.get_input_embeddings().weight.grad
    assert (gradient[tokenizer.convert_tokens_to_ids(words)].abs().sum(dim=1) > 0).all()
