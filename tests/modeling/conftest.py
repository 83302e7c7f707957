"""Tiny encoders of many families, each written and read once."""

import copy
import functools
import json
import shutil

import pytest
import torch

from poolblend.modeling import backbone
from poolblend.modeling.model import Batch, build_model
from rig import families


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory, tiny_backbone):
    """Function of a family's name and the side of its padding: a folder of its tiny encoder."""
    place = tmp_path_factory.mktemp("families")

    @functools.cache
    def folder(name, side="right"):
        path = place / f"{name}-{side}"
        if side == "right":
            families.write_family(path, name, tiny_backbone)
        else:
            shutil.copytree(folder(name), path)
            stated = path / "tokenizer_config.json"
            stated.write_text(json.dumps(json.loads(stated.read_text()) | {"padding_side": side}))
        return path

    return folder


@pytest.fixture(scope="session")
def family_model(family_folder):
    """Function of a family's name: a model of its own, weights as saved and seed set.

    Options are those of build_model, and `side`.
    """
    loaded = functools.cache(lambda name, side: backbone.load(family_folder(name, side)))

    def model(name, *, pooler="mean", side="right", **options):
        base = copy.deepcopy(loaded(name, side))
        torch.manual_seed(0)
        settings = dict(pooler_args={}, mask="attention", n_outputs=2, dropout=0.0, norm="none")
        return build_model(base, pooler=pooler, **settings | options)[0]

    return model


@pytest.fixture(scope="session")
def rows():
    """Function of lengths: random rows of token ids, each behind a first token."""

    def make(*lengths):
        random = torch.Generator().manual_seed(0)
        return [
            torch.cat([torch.tensor([2]), torch.randint(4, 36, (n,), generator=random)])
            for n in lengths
        ]

    return make


@pytest.fixture(scope="session")
def padded():
    """Function of rows: a Batch of them, padded on a side by an id, with more columns if wished."""

    def make(rows, *, side="right", pad=1, extra=0):
        width = max(map(len, rows)) + extra
        ids_BT = torch.full((len(rows), width), pad)
        attention_BT = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, row in enumerate(rows):
            at = slice(width - len(row), width) if side == "left" else slice(len(row))
            ids_BT[i, at], attention_BT[i, at] = row, True
        return Batch(ids_BT, attention_BT, attention_BT)

    return make
