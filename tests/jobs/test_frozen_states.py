"""The frozen part of an encoder is read once per table, whatever members and folds follow."""

import shutil
from itertools import count

import numpy as np
import pytest
from safetensors.torch import load_file

from poolblend import config, pipeline
from poolblend.errors import Stopped
from poolblend.jobs import frozen_states
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import open_store
from poolblend.store.files import UnwritableError
from poolblend.store.hidden_states import HiddenStatesFolder
from poolblend.store.predictions import from_table

PARTLY = ["train.freeze_layers=1", "members=[mean, max, weighted_layer]", "folds.n=2"]
FROZEN = ["members=[{pooler: mean, head: logistic}, {pooler: max, head: logistic}]", "folds.n=2"]
QUICK = ["blend={fitters: [equal]}"]


@pytest.fixture
def read(monkeypatch):
    """The layers and the number of rows of each reading of a table."""
    readings, plain = [], frozen_states.compute_states

    def spy(model, encoded, layers, *rest, **how):
        readings.append((layers, len(encoded.ids)))
        plain(model, encoded, layers, *rest, **how)

    monkeypatch.setattr(frozen_states, "compute_states", spy)
    monkeypatch.setattr(frozen_states, "_said", set())
    return readings


def load(toy, *sets, **keys):
    return config.load(toy(metric="log_loss", submission="probabilities", **keys), [*sets, *QUICK])


def oof(settings, member):
    store = open_store(settings)
    frames = [store.fold(member, fold).oof() for fold in range(settings.folds.n)]
    return np.concatenate([from_table(frame, frame["id"], ("target",)) for frame in frames])


def cached(settings):
    return sorted(open_store(settings).hidden_states.folder.glob("states-*.npy"))


def run(settings):
    pipeline.train(settings)
    pipeline.blend(settings)
    return pipeline.infer(settings)


@pytest.mark.parametrize(
    ("sets", "layers"), [(PARTLY, [(1,), (0, 1)]), (FROZEN, [(2,)])], ids=["partly", "frozen"]
)
def test_each_table_is_read_once_for_all_poolers_folds_and_predictions(toy, read, sets, layers):
    settings = load(toy, *sets)
    run(settings)
    assert read == [(each, n_rows) for n_rows in (60, 15) for each in layers]
    read.clear()
    pipeline.verify_oof(settings)
    run(settings)
    assert read == []
    assert len(cached(settings)) == 2 * len(layers)
    pipeline.check(settings)


@pytest.mark.parametrize("sets", [PARTLY, FROZEN], ids=["partly", "frozen"])
def test_results_are_those_without_stored_states(toy, read, caplog, tmp_path, sets):
    sets = (*sets, "train.precision=fp32")
    stored = load(toy, *sets)
    plain = load(toy, *sets, "cache_gb=0", f"store={tmp_path / 'other'}")
    with caplog.at_level("INFO", logger="poolblend"):
        submissions = [run(each).read_text() for each in (stored, plain)]
    assert len(read) == (4 if sets[:-1] == tuple(PARTLY) else 2)
    assert not cached(plain)
    for member in open_store(stored).members():
        np.testing.assert_allclose(oof(stored, member), oof(plain, member), rtol=1e-5, atol=1e-6)
    numbers = [
        np.array([line.split(",")[1] for line in text.split()[1:]], float) for text in submissions
    ]
    np.testing.assert_allclose(*numbers, rtol=1e-5, atol=1e-6)


def test_a_resumed_training_ends_in_the_same_bits_with_the_states_computed_again(
    toy, tmp_path, monkeypatch
):
    whole = load(toy, *PARTLY)
    pipeline.train(whole, folds="0", poolers="mean")
    begun = load(toy, *PARTLY, f"store={tmp_path / 'other'}")
    asked = count()
    monkeypatch.setattr(
        Watch, "due", lambda self: Stopped("a test", 130) if next(asked) > 9 else None
    )
    with pytest.raises(Stopped):
        pipeline.train(begun, folds="0", poolers="mean")
    monkeypatch.undo()
    name = "tiny-mean-s42"
    assert open_store(begun).fold(name, 0).checkpoints.newest() is not None
    shutil.rmtree(open_store(begun).hidden_states.folder)
    pipeline.train(begun, folds="0", poolers="mean")
    ends = [
        load_file(open_store(each).fold_folder(name, 0) / "model.safetensors")
        for each in (whole, begun)
    ]
    assert ends[0].keys() == ends[1].keys()
    for key, tensor in ends[0].items():
        assert tensor.equal(ends[1][key]), key


def test_damaged_states_are_computed_again(toy, read, caplog):
    settings = load(toy, *PARTLY)
    pipeline.train(settings, folds="0", poolers="mean")
    (path,) = cached(settings)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    pipeline.train(settings, folds="1", poolers="mean")
    assert len(read) == 2
    assert f"{path} is damaged; the hidden states are computed again" in caplog.text


@pytest.mark.parametrize(
    ("more", "said"),
    [("mask=none", True), ("train.freeze_layers=0", False), ("train.freeze_layers=null", False)],
)
def test_where_nothing_can_be_stored_nothing_is(toy, read, caplog, more, said):
    settings = load(toy, *PARTLY, more)
    with caplog.at_level("INFO", logger="poolblend"):
        pipeline.train(settings, folds="0", poolers="mean")
    assert read == []
    assert ("with mask=none, frozen layers are computed each time" in caplog.text) == said


def test_states_that_are_too_large_are_computed_each_time(toy, read, caplog):
    settings = load(toy, *PARTLY, "cache_gb=0.00001")
    with caplog.at_level("INFO", logger="poolblend"):
        pipeline.train(settings, poolers="mean")
    assert read == []
    assert caplog.text.count("layer 1 are not stored, but computed each time: 0.0 GB are") == 1


def test_a_store_that_cannot_be_written_means_computing_each_time(toy, read, caplog, monkeypatch):
    def full(self, inputs, shape, dtype, fill):
        raise UnwritableError(f"could not write {self.path(inputs)}: disk full")

    settings = load(toy, *PARTLY)
    monkeypatch.setattr(HiddenStatesFolder, "save", full)
    with caplog.at_level("INFO", logger="poolblend"):
        pipeline.train(settings, poolers="mean")
    assert caplog.text.count("disk full") == 1
    assert open_store(settings).fold("tiny-mean-s42", 1).card() is not None


def test_other_precisions_share_no_states(toy, read):
    sets = ["folds.n=2", "train.freeze_layers=1"]
    members = "members=[mean, {pooler: mean, tag: half, train: {precision: bf16}}]"
    settings = load(toy, *sets, members, "train.precision=fp32")
    pipeline.train(settings, folds="0")
    assert read == [((1,), 60), ((1,), 60)]
    assert len(cached(settings)) == 2
