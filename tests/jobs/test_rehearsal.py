"""What a training does is tried on two rows before its first epoch; fp32 where half fails."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModel, AutoTokenizer

from poolblend import config, pipeline
from poolblend.doctor import examine
from poolblend.errors import PartlyFailedError, UserError
from poolblend.jobs import rehearsal
from poolblend.loading.competition import open_store
from poolblend.modeling.model import TextModel
from poolblend.store.foldfiles import FoldFiles
from poolblend.training import devices
from rig.planned import planned

DEBERTA = dict(
    vocab_size=48,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=64,
    relative_attention=True,
    pos_att_type=["c2p", "p2c"],
    position_biased_input=False,
    type_vocab_size=0,
)


@pytest.fixture(autouse=True)
def _nothing_passed_before(monkeypatch):
    """No rehearsal counts as passed because of an earlier test's."""
    monkeypatch.setattr(rehearsal, "_passed", {})


@pytest.fixture
def half(monkeypatch):
    """`auto` is bf16, as on recent GPUs and CPUs."""
    monkeypatch.setattr(devices, "native_precision", lambda device: "bf16")


@pytest.fixture
def deberta(tmp_path, tiny_backbone):
    """Folder of a random DeBERTa of the first version, whose code does not survive bf16."""
    folder = tmp_path / "deberta"
    torch.manual_seed(0)
    settings = transformers.DebertaConfig(**DEBERTA)
    AutoModel.from_config(settings).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_backbone).save_pretrained(folder)
    return folder


def cards(settings, name, n=3):
    store = open_store(settings)
    return [store.fold(name, fold).card() for fold in range(n)]


def test_an_encoder_that_fails_in_half_precision_is_trained_and_read_in_fp32(
    toy, deberta, half, tmp_path, caplog
):
    sets = [f"backbone={deberta}", "folds.n=2", "train.epochs=1"]
    path = toy(members=["mean", "max"])
    settings = config.load(path, sets)
    pipeline.train(settings)
    logged = [line for line in caplog.messages if "computes in fp32" in line]
    assert [line.split()[0] for line in logged] == ["deberta-mean-s42", "deberta-max-s42"]
    assert "in bf16 a forward pass of deberta-mean-s42 fails (RuntimeError: value" in logged[0]
    for card in cards(settings, "deberta-mean-s42", 2):
        assert (card.precision, card.fp32_only) == ("fp32", True)
        assert card.inputs.settings["train"]["precision"] == "auto"
    pipeline.train(settings)  # nothing is stale
    pipeline.blend(settings)
    pipeline.infer(settings)
    pipeline.verify_oof(settings)
    # Its bytes are those of an fp32 that was asked for.
    asked = config.load(path, [*sets, "train.precision=fp32", f"store={tmp_path / 'asked'}"])
    pipeline.train(asked, poolers="mean", folds="0")
    (card,) = cards(asked, "deberta-mean-s42", 1)
    assert card.files.weights == cards(settings, "deberta-mean-s42", 1)[0].files.weights
    assert not card.fp32_only


def test_a_precision_that_was_asked_for_is_refused_and_other_members_are_trained(
    toy, deberta, caplog
):
    settings = config.load(toy(train={"precision": "bf16"}), [f"backbone={deberta}"])
    with pytest.raises(UserError, match="train.precision is bf16, in which .* set train.precision"):
        pipeline.train(settings)
    assert not (settings.path(settings.store) / "models").exists()
    asked = {"pooler": "mean", "backbone": str(deberta), "train": {"precision": "bf16"}}
    settings = config.load(toy(members=[asked, "max"]))
    with pytest.raises(PartlyFailedError, match="3 of 6 folds: deberta-mean-s42 fold 0, 1, 2: "):
        pipeline.train(settings)
    assert "deberta-mean-s42 cannot be trained, the others are: train.precision" in caplog.text
    assert all(cards(settings, "tiny-max-s42"))


def test_dry_run_and_doctor_try_it_too(toy, deberta, half, capsys):
    settings = config.load(toy(members=["mean"]), [f"backbone={deberta}"])
    pipeline.dry_run(settings)
    assert "deberta-mean-s42" in capsys.readouterr().out
    findings = [each for each in examine(settings) if each.name == "backbone"]
    (warned,) = [each for each in findings if each.status != "ok"]
    assert warned.status == "warn"
    assert "fp32, as half precision fails" in warned.found
    asked = config.load(toy(train={"precision": "bf16"}), [f"backbone={deberta}"])
    findings = [each for each in examine(asked) if each.name == "backbone"]
    (found,) = [each for each in findings if each.status != "ok"]
    assert found.status == "fail"
    assert "train.precision is bf16" in found.found


def test_a_backbone_is_trained_further_in_fp32_where_half_fails(toy, deberta, half, caplog):
    tokenizer = AutoTokenizer.from_pretrained(deberta)
    tokenizer.add_special_tokens({"mask_token": "[UNK]"})
    tokenizer.save_pretrained(deberta)
    settings = config.load(
        toy(members=["mean"]),
        [f"backbone={{source: {deberta}, mlm: {{epochs: 1, max_length: 16}}}}"],
    )
    pipeline.train(settings, folds="0")
    assert open_store(settings).backbone("deberta-mlm").check().precision == "fp32"
    assert "deberta-mlm-mean-s42 computes in fp32" in caplog.text


def step_fails(monkeypatch):
    whole = TextModel.forward

    def forward(self, batch, samples=None):
        if self.training:
            raise ValueError("You must specify exactly one of\ninput_ids or inputs_embeds")
        return whole(self, batch, samples)

    monkeypatch.setattr(TextModel, "forward", forward)


def weights_share_memory(monkeypatch):
    whole = TextModel.__init__

    def tied(self, *args, **keys):
        whole(self, *args, **keys)
        self.twin = self.encoder.embeddings.word_embeddings

    monkeypatch.setattr(TextModel, "__init__", tied)


def loaded_weights_differ(monkeypatch):
    whole = TextModel.load_state_dict

    def lossy(self, tensors, *args, **kwargs):
        changed = {k: v + 1 if k == "head.linear.bias" else v for k, v in tensors.items()}
        return whole(self, changed, *args, **kwargs)

    monkeypatch.setattr(TextModel, "load_state_dict", lossy)


def saved_tokenizer_differs(monkeypatch):
    whole = FoldFiles.save

    class Lossy:
        def save_pretrained(self, folder):
            path = Path(folder) / "tokenizer.json"
            core = json.loads(path.read_text(encoding="utf-8"))
            core["pre_tokenizer"] = {"type": "WhitespaceSplit"}
            path.write_text(json.dumps(core), encoding="utf-8")

    def save(self, *, parts, **given):
        whole(self, parts=(*parts, Lossy()), **given)

    monkeypatch.setattr(FoldFiles, "save", save)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (step_fails, r"step of tiny-mean-s42 fails \(ValueError: You"),
        (weights_share_memory, "cannot be saved .*share memory"),
        (loaded_weights_differ, "tiny-mean-s42 predicts otherwise once loaded: by 0."),
        (saved_tokenizer_differs, "saved tokenizer of tiny-mean-s42 reads 'A text, .* otherwise"),
    ],
)
def test_what_would_fail_later_is_one_line_before_anything_is_trained(
    toy, monkeypatch, fault, line
):
    fault(monkeypatch)
    settings = config.load(toy(members=["mean"]))
    with pytest.raises(UserError, match=line):
        pipeline.train(settings)
    assert not (settings.path(settings.store) / "models").exists()


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
def test_every_recipe_and_head_is_tried_and_leaves_nothing(toy, task, tmp_path):
    head = "ridge" if task == "regression" else "logistic"
    members = [
        {"pooler": "mean", "head": head},
        {"pooler": "max", "tag": "a", "train": {"lora": 4, "ema": 0.9}},
        {"pooler": "weighted_layer", "tag": "b", "train": {"awp": 0.1, "rdrop": 0.5}},
        {"pooler": "cls", "tag": "c", "head": {"norm": "batch"}, "windows": {"overlap": 2}},
        {"pooler": "mean", "tag": "d", "train": {"swa_epochs": 2, "accumulation": 3}},
        {"pooler": "gem", "tag": "e", "train": {"gradient_checkpointing": True}, "mask": "content"},
    ]
    context, _, jobs = planned(config.load(toy(task, members=members)))
    before, state = sorted(tmp_path.rglob("*")), torch.random.get_rng_state()
    rehearsed, unable = rehearsal.rehearse_jobs(context, jobs)
    assert unable == {}
    assert rehearsed == jobs  # in the precision that each was to have
    assert torch.equal(torch.random.get_rng_state(), state)
    assert sorted(tmp_path.rglob("*")) == before


def test_only_members_with_something_to_do_are_tried(toy, monkeypatch):
    settings = config.load(toy(members=["mean", "max"], train={"epochs": 1}))
    tried, whole = [], rehearsal.try_fold
    monkeypatch.setattr(
        rehearsal, "try_fold", lambda job, *how: tried.append(job.member.name) or whole(job, *how)
    )
    pipeline.train(settings, poolers="mean")
    pipeline.train(settings)
    assert tried == ["tiny-mean-s42", "tiny-max-s42"]
    monkeypatch.setattr(rehearsal, "_passed", {})
    pipeline.train(settings)
    assert len(tried) == 2


def test_a_divergence_in_training_is_no_failure_of_the_rehearsal(toy):
    wild = {"epochs": 1, "lr": 1e30, "head_lr": None, "clip": None, "warmup": 0}
    with pytest.raises(PartlyFailedError, match="became"):
        pipeline.train(config.load(toy(members=["mean"], train=wild)), folds="0")


def test_a_model_trained_in_fp32_elsewhere_is_run_in_fp32_where_auto_is_half(
    toy, deberta, request, caplog
):
    keys = {"train": {"epochs": 1}, "folds": {"n": 2}}
    settings = config.load(toy(members=["mean"], **keys), [f"backbone={deberta}"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "native_precision", lambda device: "fp32")
        pipeline.train(settings)
        pipeline.blend(settings)
    assert not any(card.fp32_only for card in cards(settings, "deberta-mean-s42", 2))
    request.getfixturevalue("half")
    caplog.clear()
    pipeline.infer(settings)
    pipeline.verify_oof(settings)
    assert "computes in fp32" not in caplog.text  # half precision, in which it fails, is not tried


def test_the_same_weights_come_out_with_and_without_a_rehearsal(toy, tmp_path, monkeypatch):
    made = []
    for name in ("with", "without"):
        settings = config.load(toy(members=["mean"]), [f"store={tmp_path / name}"])
        pipeline.train(settings, folds="0")
        made.append(cards(settings, "tiny-mean-s42", 1)[0].files.weights)
        monkeypatch.setattr("poolblend.pipeline.training.rehearse_jobs", lambda _, jobs: (jobs, {}))
    assert made[0] == made[1]
