"""Encoders held in bf16 or fp16: decoders with adapters, frozen encoders, one base for all."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.jobs.bases import keep_base
from poolblend.jobs.fold_loader import FoldLoader
from poolblend.loading.competition import load_competition, open_store
from poolblend.loading.models import locate_backbone
from poolblend.modeling import backbone
from poolblend.store.checkpoints import Checkpoints
from poolblend.store.foldfiles import WEIGHTS
from poolblend.training import devices
from rig import toys
from rig.families import write_family
from rig.fold_models import fold_models

pytest.importorskip("peft")
pytestmark = pytest.mark.usefixtures("_imported")

QUICK = {"folds": {"n": 2}, "metric": "log_loss", "submission": "probabilities", "max_length": 24}
LORA = {"epochs": 1, "batch_size": 8, "lr": 0.02, "lora": {"r": 2, "alpha": 12.0}}


def written(folder, words, family="qwen3", **keys):
    write_family(folder / family, family, words)
    source = keys.pop("backbone", {"source": str(folder / family), "dtype": "bf16"})
    members = [{"pooler": "last", "train": LORA}]
    given = {"members": members, "train": {"epochs": 1}, **QUICK, **keys}
    path = toys.write_toy(folder, folder / family, n=24, n_test=6, **given)
    return config.load(path, [f"backbone={json.dumps(source)}"])


def predicted(settings, member, folds=(0, 1)):
    store = open_store(settings)
    test = load_competition(settings, store).tables.test
    models = fold_models(settings, store, test, "test")
    return [models.predict(member, fold, np.arange(len(test))) for fold in folds]


@pytest.mark.parametrize("family", ["qwen3", "gemma", "llama"])
def test_a_decoder_in_bf16_trains_blends_and_infers_from_adapters_over_one_base(
    tmp_path, tiny_backbone, family, monkeypatch
):
    settings = written(tmp_path, tiny_backbone, family)
    pipeline.train(settings)
    pipeline.blend(settings)
    pipeline.infer(settings)
    pipeline.verify_oof(settings)
    store, member = open_store(settings), f"{family}-last-s42"
    (base,) = store.bases_folder.glob("[!.]*")
    kept, own = load_file(base / WEIGHTS), load_file(store.fold_folder(member, 0) / WEIGHTS)
    assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in own.values()} == {torch.float32}
    assert all(name.startswith("head.") or ".lora_" in name for name in own)
    half = predicted(settings, member)
    # A CPU that emulates bf16 holds the same weights in fp32, to which adapters are added.
    monkeypatch.setattr(devices, "computes_in", lambda dtype, device: dtype == "fp32")
    for one, other in zip(half, predicted(settings, member), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=0.02)


def test_five_folds_over_one_base_have_its_memory_once(tmp_path, tiny_backbone, monkeypatch):
    settings = written(tmp_path, tiny_backbone, folds={"n": 5})
    pipeline.train(settings)
    monkeypatch.setattr("poolblend.jobs.fold_loader.dtype_here", lambda dtype: dtype)
    store, loader, places, built = open_store(settings), FoldLoader(), [], []
    build = backbone.build
    monkeypatch.setattr(backbone, "build", lambda *a, **k: built.append(1) or build(*a, **k))
    for fold in range(5):
        _, model = loader.load(store.fold("qwen3-last-s42", fold))
        places.append([weight.data_ptr() for weight in model.encoder.parameters()])
    assert places == places[:1] * 5
    assert built == [1]


def test_the_decoder_is_not_read_again_to_be_stored(tmp_path, tiny_backbone, monkeypatch):
    settings, reads, load = written(tmp_path, tiny_backbone), [], backbone.load
    monkeypatch.setattr(backbone, "load", lambda *a, **k: reads.append(a) or load(*a, **k))
    pipeline.train(settings, folds="0")
    (base,) = open_store(settings).bases_folder.glob("[!.]*")
    pipeline.check(settings)
    one, before = (base / WEIGHTS).read_bytes(), len(reads)
    (base / WEIGHTS).unlink()
    located = locate_backbone(settings, settings.resolve_members()[0].backbone)
    keep_base(settings, open_store(settings), settings.resolve_members()[0], located)
    assert (base / WEIGHTS).read_bytes() == one  # what reading it anew writes
    assert before == len(reads) - 1 == 3  # a timed step, the trial, the training


def test_recomputed_activations_give_the_same_adapters(tmp_path, tiny_backbone):
    found = []
    for on in (False, True):
        members = [{"pooler": "last", "train": {**LORA, "gradient_checkpointing": on}}]
        (folder := tmp_path / str(on)).mkdir()
        settings = written(folder, tiny_backbone, members=members)
        pipeline.train(settings, folds="0")
        found.append(load_file(open_store(settings).fold_folder("qwen3-last-s42", 0) / WEIGHTS))
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-3) for name in found[0])


def test_a_standalone_fold_predicts_the_same(tmp_path, tiny_backbone):
    settings = written(tmp_path, tiny_backbone)
    pipeline.train(settings)
    alone = settings.model_copy(update={"store": str(tmp_path / "alone")})
    pipeline.train(alone, standalone=True)
    assert not open_store(alone).bases_folder.exists()
    both = (predicted(each, "qwen3-last-s42") for each in (settings, alone))
    assert all(np.array_equal(one, other) for one, other in zip(*both, strict=True))


@pytest.mark.parametrize("more", [{}, {"early_stopping": 1}, {"ema": 0.9}, {"swa_epochs": 2}])
def test_a_checkpoint_holds_what_learns_alone(tmp_path, tiny_backbone, monkeypatch, more):
    names, save = set(), Checkpoints.save

    def noted(self, step, tensors, make_card):
        names.update(name for name in tensors if "encoder." in name)
        save(self, step, tensors, make_card)

    monkeypatch.setattr(Checkpoints, "save", noted)
    members = [{"pooler": "last", "train": {**LORA, "epochs": 2, **more}}]
    settings = written(tmp_path, tiny_backbone, members=members)
    pipeline.train(settings, folds="0")
    assert names
    assert all(".lora_" in name for name in names)


def test_a_frozen_encoder_in_bf16_has_states_of_its_own(tmp_path, tiny_backbone):
    members = [{"pooler": "mean", "head": "logistic"}]
    members += [{**members[0], "tag": "half", "backbone": {"dtype": "bf16"}}]
    settings = written(
        tmp_path, tiny_backbone, backbone={"source": str(tiny_backbone)}, members=members
    )
    pipeline.train(settings)
    pipeline.blend(settings)
    pipeline.verify_oof(settings)
    store = open_store(settings)
    assert len(list(store.bases_folder.glob("[!.]*"))) == 2
    half, whole = (
        store.fold(f"tiny-mean-logistic{tag}-s42", 0).oof()["pred_target"] for tag in ("-half", "")
    )
    assert 0 < (half - whole).abs().max() < 0.05


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"members": ["mean"]}, "dtype=bf16 is for weights that do not learn: set train.lora"),
        (
            {"members": [{"pooler": "mean", "train": {"freeze_layers": 1}}]},
            "dtype=bf16 is for weights that do not learn",
        ),
        (
            {"backbone": {"source": "tiny", "dtype": "bf16", "mlm": {"epochs": 1}}},
            "backbone.mlm trains weights, which backbone.dtype=bf16 is not for",
        ),
    ],
)
def test_a_training_of_weights_in_half_precision_is_refused(tmp_path, tiny_backbone, keys, line):
    with pytest.raises(UserError, match=line):
        written(tmp_path, tiny_backbone, **keys)


def test_fp16_is_refused_on_a_cpu_before_anything_is_trained(tmp_path, tiny_backbone):
    settings = written(tmp_path, tiny_backbone)
    source = settings.backbone.model_copy(update={"dtype": "fp16"})
    with pytest.raises(UserError, match="dtype is fp16, which is for GPUs"):
        pipeline.train(settings.model_copy(update={"backbone": source}))


@pytest.mark.parametrize(
    ("device", "said"),
    [("cpu", "this machine's cpu .* set it to fp32"), ("cuda", "Tesla T4 .* set it to fp16")],
)
def test_a_machine_that_emulates_bf16_is_warned_of(monkeypatch, caplog, device, said):
    monkeypatch.setattr(devices, "choose_device", lambda: torch.device(device))
    monkeypatch.setattr(devices, "computes_in", lambda dtype, device: dtype == "fp32")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    devices._warn_once.cache_clear()
    devices.check_dtype("fp32")
    assert not caplog.messages
    devices.check_dtype("bf16")
    assert re.search(said, caplog.text)


def test_another_dtype_makes_finished_folds_stale(tmp_path, tiny_backbone):
    settings = written(tmp_path, tiny_backbone)
    pipeline.train(settings)
    source = settings.backbone.model_copy(update={"dtype": "fp32"})
    with pytest.raises(UserError, match="backbone_dtype was bf16, is None"):
        pipeline.train(settings.model_copy(update={"backbone": source}))
