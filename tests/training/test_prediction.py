"""Predictions: in the rows' order, whatever the batches, windows, columns and the memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from poolblend.modeling import backbone
from poolblend.modeling.model import build_model
from poolblend.training.batches import collate
from poolblend.training.objectives import choose_objective
from poolblend.training.prediction import predict
from rig.encoding import encode
from rig.trainings import weights

OBJECTIVE = choose_objective("binary")
TEXTS = ["the lovely day " * n for n in (1, 9, 3, 0, 30, 2)]


@pytest.mark.parametrize("mask", ["attention", "content", "none"])
def test_a_prediction_depends_neither_on_its_batch_nor_on_the_order_of_rows(
    build, data, predicted, mask
):
    model = build(mask=mask).train()
    before, state = weights(model), torch.get_rng_state()
    straight = predicted(model)
    rows = np.random.default_rng(0).permutation(len(straight))
    np.testing.assert_allclose(predicted(model, rows, 16), straight[rows], atol=1e-6)
    assert model.training
    assert torch.equal(weights(model), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_stays_near_full(build, predicted):
    model = build()
    full, half = predicted(model), predicted(model, precision="bf16")
    assert full.dtype == half.dtype == np.float64
    assert 0 < np.abs(full - half).max() < 0.05


def test_predicting_halves_its_batches_where_memory_is_small(
    build, data, predicted, small_memory, caplog
):
    model = build()
    expected = predicted(model)
    seen = small_memory(model, 10)
    np.testing.assert_allclose(predicted(model), expected, atol=1e-6)
    assert sum(n for n in seen if n <= 10) == len(data[1])
    assert "out of memory: predicting batches of" in caplog.text
    small_memory(model, 0)
    with pytest.raises(torch.OutOfMemoryError):
        predicted(model)


def test_an_error_that_is_not_of_memory_is_not_hidden(build, data, fitting, predicted, monkeypatch):
    model = build()

    def broken(**inputs):
        raise RuntimeError("the sizes do not fit")

    monkeypatch.setattr(model.encoder, "forward", broken)
    with pytest.raises(RuntimeError, match="sizes do not fit"):
        predicted(model)
    with pytest.raises(RuntimeError, match="sizes do not fit"):
        list(fitting(model, data).run())


@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
def test_long_texts_with_columns_are_predicted_in_their_order(tiny_backbone, batch_tokens):
    base = backbone.load(tiny_backbone)
    torch.manual_seed(0)
    model, _ = build_model(
        base,
        pooler="mean",
        pooler_args={},
        mask="attention",
        n_outputs=1,
        n_columns=2,
        dropout=0.0,
        norm="none",
    )
    model.head.linear.weight.data.normal_()
    columns_NF = np.random.default_rng(0).normal(size=(len(TEXTS), 2)).astype(np.float32)
    encoded = replace(encode([TEXTS], base.tokenizer, 12, windows=(4, None)), columns_NF=columns_NF)
    rows = np.array([4, 0, 3, 5, 1])
    pred_NK = predict(model, encoded, rows, OBJECTIVE, batch_tokens=batch_tokens, precision="fp32")
    model.eval()
    with torch.inference_mode():
        alone = [model(collate(encoded, np.array([row]))).sigmoid()[:, -1] for row in rows]
    np.testing.assert_allclose(pred_NK[:, -1], torch.cat(alone).numpy(), atol=1e-6)
    assert len({*pred_NK[:, -1].round(6).tolist()}) == len(rows)
