"""Predictions of rows that are read in windows, as pairs, or with extra columns."""

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

OBJECTIVE = choose_objective("binary")
TEXTS = ["the lovely day " * n for n in (1, 9, 3, 0, 30, 2)]


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
