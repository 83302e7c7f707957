"""When the end of an epoch is worth a checkpoint."""

import pytest

from poolblend import config, pipeline
from poolblend.jobs import checkpointing
from poolblend.store.checkpoints import Checkpoints


@pytest.mark.parametrize(("worth", "written"), [(0.0, 12), (1e6, 0)])
def test_short_epochs_are_trained_again_rather_than_written(toy, monkeypatch, worth, written):
    steps, save = [], Checkpoints.save
    monkeypatch.setattr(checkpointing, "WORTH", worth)
    monkeypatch.setattr(
        Checkpoints, "save", lambda self, step, *rest: (steps.append(step), save(self, step, *rest))
    )
    settings = config.load(toy(), ["train.epochs=2"])
    pipeline.train(settings)
    assert len(steps) == written
