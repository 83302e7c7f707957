"""The texts that a masked language model learns from, its held-out loss, and its going on."""

import numpy as np
import pytest
import torch

from poolblend.modeling import backbone
from poolblend.modeling.masked_lm import load_masked_lm
from poolblend.training.fit import Fit
from poolblend.training.masked import OWN_LOSS, distinct_pieces, held_out_loss
from poolblend.training.options import Train
from rig.encoding import encode
from rig.masked import write_masked_encoder
from rig.trainings import Killed, kill_after, weights, written

OPTIONS = Train(batch_size=8, lr=1e-2, head_lr=None, precision="fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_masked_encoder(tmp_path_factory.mktemp("masked") / "tiny")


@pytest.fixture
def tokens(folder):
    """Function of texts: as token ids, those longer than `length` in windows."""

    def tokens(texts, length=8, windows=(0, None)):
        return encode([texts], backbone.load_tokenizer(folder), length, windows=windows)

    return tokens


@pytest.fixture
def begin(folder, tokens, toy_frame):
    """Makes the same training anew each time."""
    encoded = tokens(toy_frame("binary", 40)["text"].tolist(), 16)

    def begin():
        torch.manual_seed(0)
        _, model = load_masked_lm(folder, share=0.15)
        rows = np.arange(40)
        return Fit(model, encoded, rows, OWN_LOSS.targets(rows), OWN_LOSS, OPTIONS, seed=1)

    return begin


def loss_of(fit):
    rows = np.arange(40)
    return held_out_loss(fit.model, fit.encoded, rows, seed=0, batch_tokens=200, precision="fp32")


def test_a_long_text_is_read_in_pieces_each_of_its_tokens_once(folder, tokens):
    tokenizer = backbone.load_tokenizer(folder)
    text = "the road was sour then cold and dark in a house of seven"
    pieces = distinct_pieces(tokens([text]), tokenizer.all_special_ids)
    assert pieces.windowing is None
    assert pieces.lengths_N.tolist() == [8, 8, 3]
    told = [tokenizer.convert_ids_to_tokens(row.tolist()) for row in pieces.ids]
    assert {(piece[0], piece[-1]) for piece in told} == {("[CLS]", "[SEP]")}
    assert " ".join(word for piece in told for word in piece[1:-1]) == text
    assert [row.tolist() for row in pieces.content] == [
        [False, *[True] * (len(piece) - 2), False] for piece in told
    ]


def test_what_is_there_twice_or_holds_no_word_is_no_row_of_its_own(folder, tokens):
    special = backbone.load_tokenizer(folder).all_special_ids
    texts = ["warm day", "", "unheard", "warm day", "cold day"]
    for windows in (None, (0, None)):
        kept = distinct_pieces(tokens(texts, windows=windows), special)
        assert len(kept.ids) == len(kept.content) == 2
        assert [row.tolist() for row in kept.ids] == [
            tokens([text]).ids[0].tolist() for text in ("warm day", "cold day")
        ]


def test_pairs_keep_their_types(folder, tokens):
    tokenizer = backbone.load_tokenizer(folder)
    encoded = encode([["a day", "a day"], ["cold", "cold"]], tokenizer, 12, join="pair")
    kept = distinct_pieces(encoded, tokenizer.all_special_ids)
    assert [row.tolist() for row in kept.types] == [encoded.types[0].tolist()]


def test_the_held_out_loss_hides_the_same_tokens_and_no_draw_is_lost(begin):
    fit = begin()
    state = torch.get_rng_state()
    before = loss_of(fit)
    assert loss_of(fit) == before
    assert torch.equal(torch.get_rng_state(), state)
    for _ in fit.run():
        pass
    assert loss_of(fit) < before - 0.1
    assert fit.model.training


@pytest.mark.parametrize("n", [1, 5, 7])
def test_a_killed_training_is_taken_up_to_the_same_bits(begin, n):
    whole = begin()
    for _ in whole.run():
        pass
    killed = begin()
    with pytest.raises(Killed):
        for _ in killed.run(after_step=kill_after(n)):
            pass
    state = written(killed.state())
    taken_up = begin()
    taken_up.restore(state)
    for _ in taken_up.run():
        pass
    assert torch.equal(weights(taken_up.model), weights(whole.model))
    language = taken_up.model.language
    assert language.get_output_embeddings().weight is language.get_input_embeddings().weight


def test_a_state_holds_each_tensor_once(begin):
    fit = begin()
    held = [name for name in fit.state().tensors if name.startswith("model.")]
    assert len(held) == len(list(fit.model.named_parameters()))
