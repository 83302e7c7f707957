"""Members with frozen layers share one copy of their backbone: the same predictions, less disk."""

import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.jobs.bases import keep_base
from poolblend.loading.competition import load_competition, open_store
from poolblend.loading.models import locate_backbone
from poolblend.modeling.adapters import changed_weights
from poolblend.store.backbones import BackboneFiles
from poolblend.store.foldfiles import WEIGHTS, FoldFiles, hashed_files, write_card
from rig.fold_models import fold_models
from rig.masked import write_masked_encoder
from rig.toys import write_toy

HALF, RIDGE, WHOLE = "tiny-mean-half-s42", "tiny-max-logistic-s42", "tiny-mean-s42"
SETS = [
    "members=[{pooler: mean, tag: half, train: {freeze_layers: 1}}, "
    "{pooler: max, head: logistic}, mean]",
    "folds.n=2",
    "train.epochs=1",
]


@pytest.fixture
def settings(toy):
    return config.load(toy(n=24, n_test=8, metric="log_loss", submission="probabilities"), SETS)


def weights(settings, member, fold=0):
    return load_file(open_store(settings).fold_folder(member, fold) / WEIGHTS)


def bases(settings):
    return sorted(path for path in open_store(settings).bases_folder.glob("[!.]*"))


def predicted(settings, store):
    test = load_competition(settings, store).tables.test
    models = fold_models(settings, store, test, "test")
    members = [(member, fold) for member in (HALF, RIDGE, WHOLE) for fold in (0, 1)]
    return {place: models.predict(*place, np.arange(len(test))) for place in members}


def make_whole(store, member, fold):
    """Write a slim fold as earlier versions and --standalone do."""
    files = store.fold(member, fold)
    card = files.card()
    save_file(files.base_tensors(card.files.base) | files.tensors(), files.folder / WEIGHTS)
    hashes = card.files.model_copy(
        update={"weights": hashed_files(files.folder)[WEIGHTS], "base": None}
    )
    write_card(files.folder / "card.json", card.model_copy(update={"files": hashes}))


def test_slim_folds_predict_the_bits_of_whole_ones(settings, tmp_path):
    pipeline.train(settings)
    store = open_store(settings)
    (base,) = bases(settings)
    kept = load_file(base / WEIGHTS)
    assert base.name.startswith("tiny-")
    assert len(weights(settings, WHOLE)) == len(kept) + 2
    assert store.fold(WHOLE, 0).card().files.base is None
    assert not [name for name in weights(settings, RIDGE) if name.startswith("encoder.")]
    half = weights(settings, HALF)
    frozen = kept.keys() - {name.removeprefix("encoder.") for name in half}
    assert {name.split(".")[0] for name in frozen} == {"embeddings", "encoder"}
    assert {".".join(name.split(".")[:3]) for name in frozen if "layer" in name.split(".")} == {
        "encoder.layer.0"
    }
    slim = predicted(settings, store)
    for member in (HALF, RIDGE):
        for fold in (0, 1):
            make_whole(store, member, fold)
    shutil.rmtree(store.bases_folder)
    whole = predicted(settings, store)
    assert all(np.array_equal(slim[place], whole[place]) for place in slim)


def test_standalone_models_are_whole_and_have_the_same_weights(settings, tmp_path):
    pipeline.train(settings, folds="0")
    elsewhere = settings.model_copy(update={"store": str(tmp_path / "alone")})
    pipeline.train(elsewhere, folds="0", standalone=True)
    store = open_store(elsewhere)
    assert not store.bases_folder.exists()
    for member in (HALF, RIDGE, WHOLE):
        alone, slim = weights(elsewhere, member), weights(settings, member)
        assert all(alone[name].equal(tensor) for name, tensor in slim.items())
        assert len(alone) >= len(weights(settings, WHOLE))
        assert store.fold(member, 0).check().files.base is None


def test_two_processes_that_need_a_base_write_it_once(settings, monkeypatch):
    store, (member, *_) = open_store(settings), settings.resolve_members()
    located = locate_backbone(settings, member.backbone)
    both, written, save = Barrier(2), [], BackboneFiles.save

    def counted(self, **given):
        written.append(self.name)
        save(self, **given)

    def keep(_):
        both.wait(timeout=60)
        return keep_base(settings, store, member, located)

    monkeypatch.setattr(BackboneFiles, "save", counted)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(keep, range(2))
    assert one == other == store.base(written[0]).as_base()
    assert len(written) == 1


def test_a_store_moved_to_a_read_only_place_is_read_with_its_bases(settings, tmp_path):
    pipeline.train(settings)
    pipeline.blend(settings)
    first = pipeline.infer(settings).read_bytes()
    moved = tmp_path / "moved"
    shutil.copytree(open_store(settings).root, moved)
    for path in moved.rglob("test_fold*"):
        path.unlink()
    shutil.rmtree(open_store(settings).root)
    (moved / "models").chmod(0o555)
    elsewhere = settings.model_copy(update={"store": str(moved)})
    assert pipeline.infer(elsewhere).read_bytes() == first
    pipeline.check(elsewhere)
    (moved / "models").chmod(0o755)
    (base,) = bases(elsewhere)
    shutil.rmtree(base)
    line = f"{base / WEIGHTS} is .*gone.*; it holds the frozen part of .*: copy the folder {base}"
    for command in (pipeline.infer, pipeline.verify_oof, pipeline.train):
        for path in moved.rglob("test_fold*"):
            path.unlink()
        with pytest.raises(UserError, match=line) as caught:
            command(elsewhere)
        assert "\n" not in str(caught.value)


def test_a_lost_base_is_written_again_by_training_one_fold(settings, monkeypatch):
    pipeline.train(settings)
    (base,) = bases(settings)
    before = (base / WEIGHTS).read_bytes()
    (base / WEIGHTS).write_bytes(before[:-1] + b"#")
    with pytest.raises(UserError, match="damaged"):
        pipeline.check(settings)
    trained, save = [], FoldFiles.save

    def counted(self, **given):
        if "trial" not in self.folder.parts:
            trained.append((self.member, self.fold))
        save(self, **given)

    monkeypatch.setattr(FoldFiles, "save", counted)
    pipeline.train(settings, overwrite=True)
    assert trained == [(HALF, 0)]
    assert (base / WEIGHTS).read_bytes() == before
    pipeline.check(settings)


def test_folds_above_a_backbone_trained_further_stand_on_that_one(tmp_path):
    source = write_masked_encoder(tmp_path / "tiny")
    members = "members=[{pooler: mean, train: {freeze_layers: 0}}]"
    mlm = "backbone.mlm={epochs: 1, max_length: 16}"
    path = write_toy(tmp_path, source, n=24, n_test=8)
    settings = config.load(path, [members, mlm, "folds.n=2", "train.epochs=1"])
    pipeline.train(settings)
    store, name = open_store(settings), "tiny-mlm-mean-s42"
    base = store.fold(name, 0).card().files.base
    assert base == store.backbone("tiny-mlm").as_base()
    assert base.folder == "backbones/tiny-mlm"
    assert not store.bases_folder.exists()
    assert "encoder.embeddings.word_embeddings.weight" not in weights(settings, name)
    pipeline.blend(settings)
    pipeline.verify_oof(settings)


def test_each_base_is_read_once_for_the_folds_that_stand_on_it(settings, monkeypatch):
    pipeline.train(settings)
    reads, read = [], FoldFiles.base_tensors

    def counted(self, base):
        reads.append(base.folder)
        return read(self, base)

    monkeypatch.setattr(FoldFiles, "base_tensors", counted)
    store = open_store(settings)
    predicted(settings, store)
    assert len(reads) == 1


class TestAdapters:
    """A fold model trained by low-rank adapters holds these, not the weights that they change."""

    ADAPTED = "tiny-max-lora-s42"

    @pytest.fixture
    def adapted(self, toy):
        member = "members=[{pooler: max, tag: lora, train: {lora: {r: 2, alpha: 12}, lr: 0.02}}]"
        path = toy(n=24, n_test=8, metric="log_loss", submission="probabilities")
        return config.load(path, [member, "folds.n=2", "train.epochs=1"])

    def predictions(self, settings):
        store = open_store(settings)
        test = load_competition(settings, store).tables.test
        models = fold_models(settings, store, test, "test")
        return [models.predict(self.ADAPTED, fold, np.arange(len(test))) for fold in (0, 1)]

    def test_they_predict_the_bits_of_merged_weights_without_peft(
        self, adapted, tmp_path, monkeypatch, capsys
    ):
        pipeline.train(adapted)
        alone = adapted.model_copy(update={"store": str(tmp_path / "alone")})
        pipeline.train(alone, standalone=True)
        slim, whole = weights(adapted, self.ADAPTED), weights(alone, self.ADAPTED)
        changed = changed_weights({name for name in slim if ".lora_" in name})
        assert changed
        assert slim.keys() & whole.keys() == {n for n in whole if not n.startswith("encoder.")}
        (base,) = bases(adapted)
        pretrained = load_file(base / WEIGHTS)
        assert all(not whole[n].equal(pretrained[n.removeprefix("encoder.")]) for n in changed)
        monkeypatch.setitem(sys.modules, "peft", None)
        both = zip(self.predictions(adapted), self.predictions(alone), strict=True)
        assert all(np.array_equal(one, other) for one, other in both)
        pipeline.blend(adapted)
        pipeline.verify_oof(adapted)
        found = re.findall(r"difference (\S+) over", capsys.readouterr().out)
        assert found == ["0", "0"]

    def test_half_of_an_adapter_is_refused_in_a_line(self, adapted, monkeypatch):
        pipeline.train(adapted)
        pipeline.blend(adapted)
        whole = FoldFiles.tensors

        def lacking(self):
            tensors = whole(self)
            del tensors[next(name for name in tensors if name.endswith(".lora_B"))]
            return tensors

        monkeypatch.setattr(FoldFiles, "tensors", lacking)
        with pytest.raises(UserError, match=f"the weights of {self.ADAPTED} fold 0 do not fit"):
            pipeline.verify_oof(adapted)

    def test_an_adapter_of_a_member_without_lora_is_refused_in_a_line(self, settings, monkeypatch):
        pipeline.train(settings)
        pipeline.blend(settings)
        own, weight = FoldFiles.tensors, "encoder.encoder.layer.0.output.dense.weight"
        rank = torch.zeros(2, 2)
        more = {f"{weight}.lora_A": rank, f"{weight}.lora_B": rank}
        monkeypatch.setattr(FoldFiles, "tensors", lambda self: own(self) | more)
        with pytest.raises(UserError, match="do not fit its card: 'adapters of a member without"):
            pipeline.verify_oof(settings)
