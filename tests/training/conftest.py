"""A tiny model and its data, and a training that can be killed and taken up."""

import numpy as np
import pytest
import torch

from poolblend.config.training import Train
from poolblend.loading.models import fit_options
from poolblend.modeling import backbone
from poolblend.modeling.model import build_model
from poolblend.training.fit import Fit
from poolblend.training.objectives import choose_objective
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
    """Makes a model from a seed."""

    def build(seed=0, dropout=0.1, mask="attention", norm="none", pooler="mean"):
        torch.manual_seed(seed)
        return build_model(
            backbone.load(tiny_backbone),
            pooler=pooler,
            pooler_args={},
            mask=mask,
            n_outputs=1,
            dropout=dropout,
            norm=norm,
        )[0]

    return build


@pytest.fixture
def fitting():
    """Makes a Fit; keyword arguments change its options."""

    def fitting(model, data, rows=None, **changes):
        encoded, y = data
        rows = np.arange(len(y)) if rows is None else rows
        seed = changes.pop("seed", 1)
        options = fit_options(Train(**SETTINGS | changes), seed)
        return Fit(model, encoded, rows, OBJECTIVE.targets(y), OBJECTIVE, options)

    return fitting
