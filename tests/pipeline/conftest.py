"""A toy competition with two members trained, made once for all tests of what infer.py keeps."""

import shutil

import pytest

from poolblend import config, pipeline
from rig import toys


@pytest.fixture(scope="session")
def trained_place(_imported, tiny_backbone, tmp_path_factory):
    """The folder of the competition, of its config toy.yaml, and of its store."""
    place = tmp_path_factory.mktemp("trained")
    path = toys.write_toy(place, tiny_backbone, n=36, n_test=8, metric="log_loss")
    pipeline.train(config.load(path))
    return place


@pytest.fixture
def trained(trained_place, tmp_path):
    """Function of further config keys: the settings of a copy that may be changed."""
    for folder in ("store", "data"):
        shutil.copytree(trained_place / folder, tmp_path / folder)

    def settings(*sets):
        places = [f"store={tmp_path / 'store'}", f"data.dir={tmp_path / 'data'}"]
        quick = ["blend={resamples: 50, fitters: [equal,best]}"]
        return config.load(trained_place / "toy.yaml", [*places, *quick, *sets])

    return settings
