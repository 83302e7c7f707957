"""Long texts in windows: which windows, and what poolers make of them."""

import tracemalloc
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
from poolblend.training.windows import Windowing
from rig.encoding import encode
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


def pool_and_gradients(model, batch):
    model.zero_grad()
    vectors = model.pool(batch)
    vectors.square().sum().backward()
    gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    return vectors.detach(), gradients


@pytest.mark.parametrize("window_tokens", [1, 25, 60])
def test_windows_read_in_passes_give_the_same_vectors_and_gradients(
    tiny_backbone, model, window_tokens
):
    encoded = encode([TEXTS], load_tokenizer(tiny_backbone), 10, windows=(3, None))
    rows, sizes = np.arange(len(TEXTS)), []
    expected = pool_and_gradients(model, collate(encoded, rows))
    batch = collate(encoded, rows, window_tokens=window_tokens)
    model.encoder.register_forward_pre_hook(
        lambda _, __, inputs: sizes.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    torch.testing.assert_close(pool_and_gradients(model, batch), expected, rtol=1e-4, atol=1e-6)
    assert max(sizes) <= max(window_tokens, 10)
    # Each pass is read once more for its gradients, rather than kept.
    assert len(sizes) == 2 * -(-len(batch.windows.ids_WT) // batch.windows.most)


def test_dropout_is_the_same_where_a_pass_is_read_again(tiny_backbone, model):
    model.train()
    for module in model.encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    text = " ".join(FILLER * 3)
    encoded = encode([[text]], load_tokenizer(tiny_backbone), 10, windows=(3, None))
    batch = collate(encoded, np.array([0]), window_tokens=20)
    torch.manual_seed(1)
    vectors, found = pool_and_gradients(model, batch)
    word = model.encoder.get_input_embeddings().weight
    step = 1e-3 * found["encoder.embeddings.word_embeddings.weight"]
    step /= step.norm() * 10
    with torch.no_grad():
        word += step
    torch.manual_seed(1)
    moved = model.pool(batch).square().sum() - vectors.square().sum()
    slope = (found["encoder.embeddings.word_embeddings.weight"] * step).sum()
    assert moved.item() == pytest.approx(slope.item(), rel=0.2)


def test_only_a_row_of_very_many_windows_is_read_in_passes(tiny_backbone):
    encoded = encode([TEXTS], load_tokenizer(tiny_backbone), 10, windows=(3, None))
    most = int(encoded.n_windows_N.max()) * 10
    rows = np.arange(len(TEXTS))
    assert collate(encoded, rows, window_tokens=most).windows.most is None
    assert collate(encoded, rows, window_tokens=most - 1).windows.most == most // 10 - 1
    assert collate(encoded, rows).windows.most is None


def test_cutting_takes_memory_in_proportion_to_the_text():
    peaks = []
    for n_tokens in (10_000, 40_000):
        row = np.arange(n_tokens)
        tracemalloc.start()
        Windowing(16, 2, 1, 1).cut(row)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 6 * peaks[0]
