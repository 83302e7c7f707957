"""Stored hidden states: put in row by row, read batch by batch, in a training and a prediction."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from poolblend.modeling import backbone
from poolblend.modeling.frozen import pass_over
from poolblend.modeling.model import build_model
from poolblend.training.batches import collate
from poolblend.training.encoding import rows_sha256, starts_of_rows
from poolblend.training.hidden_states import HiddenStates, stored_dtype
from poolblend.training.prediction import compute_states, pooled_vectors
from rig.encoding import encode
from rig.toys import FILLER

HOW = dict(batch_tokens=64, precision="fp32")


def stored(model, encoded, depth, precision="fp32"):
    """The table with the states of the model's first `depth` layers."""
    layers, starts_N1 = model.stored_layers(depth), starts_of_rows(encoded)
    x_SLH = np.zeros((starts_N1[-1], len(layers), 16), stored_dtype(precision))

    def put(token, values_SLH):
        x_SLH[token : token + len(values_SLH)] = values_SLH

    compute_states(model, encoded, layers, starts_N1, put, **HOW | {"precision": precision})
    return replace(encoded, states=HiddenStates(layers, x_SLH, starts_N1))


def texts(*lengths):
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(FILLER, n)) for n in lengths]


@pytest.fixture
def make(tiny_backbone):
    """A model that is not trained, and its tokenizer."""

    def make(pooler="mean", **options):
        torch.manual_seed(0)
        base = backbone.load(tiny_backbone)
        settings = dict(pooler_args={}, mask="attention", n_outputs=1)
        model, _ = build_model(base, pooler=pooler, **settings | options)
        return model.eval(), base.tokenizer

    return make


@pytest.mark.parametrize("windows", [None, (2, None), (0, 3)])
@pytest.mark.parametrize("pooler", ["mean", "weighted_layer"])
@pytest.mark.parametrize("depth", [1, 2])
def test_rows_and_windows_are_pooled_as_without_stored_states(make, depth, pooler, windows):
    model, tokenizer = make(pooler)
    encoded = encode([texts(3, 20, 1, 33, 6, 0)], tokenizer, 10, windows=windows)
    plain = pooled_vectors(model, encoded, np.arange(6), **HOW)
    given = stored(model, encoded, depth)
    model.passed_over = pass_over(model.encoder, depth) if depth < 2 else None
    for rows in (np.arange(6), np.array([4, 3]), np.array([5])):
        found = pooled_vectors(model, given, rows, **HOW)
        np.testing.assert_allclose(found, plain[rows], rtol=1e-5, atol=1e-6)


def test_rows_that_are_read_without_padding_are_stored_so(make):
    model, tokenizer = make()
    model.equal_lengths = True
    encoded = encode([texts(3, 5, 3, 1)], tokenizer, 10)
    plain = pooled_vectors(model, encoded, np.arange(4), **HOW)
    given = stored(model, encoded, 1)
    model.passed_over = pass_over(model.encoder, 1)
    found = pooled_vectors(model, given, np.arange(4), **HOW)
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("left", [False, True])
def test_a_batch_holds_each_rows_states_beside_zeros(make, left):
    model, tokenizer = make()
    encoded = replace(encode([texts(3, 1)], tokenizer, 10), pad_left=left)
    given = stored(model, encoded, 2)
    batch = collate(given, [1, 0])
    x_BTH = batch.states.x_LBTH[0]
    assert not x_BTH[~batch.attention_BT].any()
    alone = collate(given, [0]).states.x_LBTH[0, 0]
    assert x_BTH[1].equal(alone)


def test_in_bf16_half_the_bytes_hold_the_rounded_states(make):
    model, tokenizer = make()
    encoded = encode([texts(3, 20, 1)], tokenizer, 10)
    half, full = stored(model, encoded, 2, "bf16").states, stored(model, encoded, 2).states
    assert half.x_SLH.nbytes * 2 == full.x_SLH.nbytes
    everything = torch.ones(1, len(full.x_SLH), dtype=torch.bool)
    found, expected = (each.of_rows(range(3), everything).x_LBTH for each in (half, full))
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, rtol=0.02, atol=0.02)
    assert not found.equal(expected)


def test_the_hash_of_rows_tells_other_tokens_types_and_windows(make):
    _, tokenizer = make()
    rows = texts(3, 20, 1)
    encoded = encode([rows], tokenizer, 10)
    same = encode([rows], tokenizer, 10)
    others = [
        encode([rows[::-1]], tokenizer, 10),
        encode([rows], tokenizer, 9),
        encode([rows], tokenizer, 10, windows=(2, None)),
        encode([rows, rows], tokenizer, 10, join="pair"),
        replace(encoded, types=encoded.ids),
    ]
    hashes = [rows_sha256(each) for each in (encoded, *others)]
    assert rows_sha256(same) == hashes[0]
    assert len(set(hashes)) == len(hashes)


def test_states_that_are_not_finite_are_refused(make):
    model, tokenizer = make()
    with torch.no_grad():
        model.encoder.encoder.layer[0].output.dense.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        stored(model, encode([texts(3)], tokenizer, 10), 1)


@pytest.mark.parametrize("recipe", [{}, {"ema": 0.5}, {"rdrop": 1.0}, {"swa_epochs": 2}])
def test_a_training_on_stored_states_ends_where_one_without_does(
    build, data, fitting, predicted, recipe
):
    ends = []
    for use in (False, True):
        options = dict(freeze_layers=1, **recipe)
        model = build(**options)
        encoded, y = data
        if use:
            encoded = stored(model, encoded, 1)
            model.passed_over = pass_over(model.eval().encoder, 1)
        torch.manual_seed(7)
        fit = fitting(model, (encoded, y), **options)
        losses = [epoch.loss for epoch in fit.run()]
        with fit.evaluated() as kept:
            ends.append((losses, pooled_vectors(kept, encoded, np.arange(8), **HOW)))
    np.testing.assert_allclose(ends[0][0], ends[1][0], rtol=1e-5)
    np.testing.assert_allclose(ends[0][1], ends[1][1], rtol=1e-4, atol=1e-5)
