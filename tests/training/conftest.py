"""A tiny model and its data, and trainings of it."""

import numpy as np
import pytest
import torch

from poolblend.modeling import backbone
from poolblend.modeling.model import build_model
from poolblend.training.fit import Fit
from poolblend.training.objectives import choose_objective
from poolblend.training.options import Train
from poolblend.training.prediction import predict
from poolblend.training.recipes import active_recipes, label_weights
from rig.encoding import encode

OBJECTIVE = choose_objective("binary")
SETTINGS = dict(epochs=3, batch_size=8, lr=1e-3, head_lr=1e-2, precision="fp32")


@pytest.fixture
def data(tiny_backbone, toy_frame):
    """Tokens and labels of 64 rows."""
    frame = toy_frame("binary", 64)
    encoded = encode([frame["text"]], backbone.load_tokenizer(tiny_backbone), 16)
    return encoded, frame["target"].to_numpy()


@pytest.fixture
def build(tiny_backbone):
    """Makes a model from a seed; keyword arguments of `train:` are for its recipes."""

    def build(seed=0, dropout=0.1, mask="attention", norm="none", pooler="mean", **options):
        torch.manual_seed(seed)
        base = backbone.load(tiny_backbone)
        recipes = active_recipes(Train(**SETTINGS | options))
        for recipe in recipes:
            recipe.prepare_encoder(base.encoder)
        model, _ = build_model(
            base,
            pooler=pooler,
            pooler_args={},
            mask=mask,
            n_outputs=1,
            dropout=dropout,
            norm=norm,
        )
        for recipe in recipes:
            recipe.prepare_model(model)
        return model

    return build


@pytest.fixture
def fitting():
    """Makes a Fit; keyword arguments change its options."""

    def fitting(model, data, rows=None, objective=OBJECTIVE, seed=1, **changes):
        encoded, y = data
        rows = np.arange(len(y)) if rows is None else np.array(rows)
        options = Train(**SETTINGS | changes)
        targets, weights = objective.targets(y), label_weights(options, y)
        return Fit(model, encoded, rows, targets, objective, options, seed, weights)

    return fitting


@pytest.fixture
def without_dropout():
    """Switches off every dropout of a model, and returns it."""

    def without_dropout(model):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return model

    return without_dropout


@pytest.fixture
def predicted(data):
    """Predictions of rows by a model, all rows unless told."""

    def predicted(model, rows=None, batch_tokens=4096, precision="fp32"):
        encoded, y = data
        rows = np.arange(len(y)) if rows is None else rows
        how = dict(batch_tokens=batch_tokens, precision=precision)
        return predict(model, encoded, rows, OBJECTIVE, **how)

    return predicted


@pytest.fixture
def small_memory(monkeypatch):
    """Makes a model's device hold that many rows at most; the list of what it was given."""

    def small_memory(model, rows):
        forward, seen = model.encoder.forward, []

        def guarded(input_ids, **inputs):
            seen.append(len(input_ids))
            if len(input_ids) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(input_ids=input_ids, **inputs)

        monkeypatch.setattr(model.encoder, "forward", guarded)
        return seen

    return small_memory
