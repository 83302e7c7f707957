"""Fixtures: a tiny random encoder and toy competitions, all made here; nothing is downloaded."""

import gc
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test may reach a hub
os.environ["TQDM_DISABLE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: more threads only wait for each other

from functools import partial

import pytest

from rig import toys
from rig.finished import finished, kept  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory):
    """Folder of a random BERT of two layers, hidden size 16, with a word-level tokenizer."""
    folder = tmp_path_factory.mktemp("backbones") / "tiny"
    toys.write_encoder(folder)
    return folder


@pytest.fixture(scope="session")
def toy_frame():
    """Function of a task's kind and n: n texts, with targets that their words tell."""
    return toys.toy_frame


@pytest.fixture(scope="session")
def _imported():
    """Import everything heavy and put it out of the garbage collector's sight.

    Each fold collects garbage to give its model's memory back; among all that pytest holds, that
    would take most of the tests' time.
    """
    import poolblend.pipeline.blending
    import poolblend.pipeline.inference
    import poolblend.pipeline.training  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _checkpoint_after_each_epoch(monkeypatch):
    """Toy epochs take no second, and are worth no checkpoint otherwise."""
    checkpointing = sys.modules.get("poolblend.jobs.checkpointing")
    if checkpointing is not None:
        monkeypatch.setattr(checkpointing, "WORTH", 0.0)


@pytest.fixture
def toy(_imported, tmp_path, tiny_backbone):
    """Makes a toy competition and its config file; returns the config's path."""
    return partial(toys.write_toy, tmp_path, tiny_backbone)
