"""What a training does is tried on two rows before its first epoch; fp32 where half fails."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from poolblend.jobs.trainer import Trainer
from transformers import AutoModel, AutoTokenizer

from poolblend import config, pipeline
from poolblend.doctor import examine
from poolblend.errors import PartlyFailedError, UserError
from poolblend.jobs import rehearsal
from poolblend.loading.competition import open_store
from poolblend.modeling.model import TextModel
from poolblend.training import devices

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
def anew(monkeypatch):
    """No rehearsal counts as passed because of an earlier test's."""
    monkeypatch.setattr(rehearsal, "_passed", {})


@pytest.fixture
def half(monkeypatch):
    """`auto` is bf16, as on recent GPUs and CPUs."""
    whole = devices.resolve_precision

    def resolve(precision, device):
        return "bf16" if precision == "auto" else whole(precision, device)

    for module in (devices, *USERS):
        monkeypatch.setattr(module, "resolve_precision", resolve)


def _users():
    from poolblend.jobs import foldmodels, pretrainer, trainer
    from poolblend.training import batchwise, fit

    return foldmodels, pretrainer, trainer, rehearsal, batchwise, fit


USERS = _users()


@pytest.fixture
def deberta(tmp_path, tiny_backbone):
    """Folder of a random DeBERTa of the first version, whose code does not survive bf16."""
    folder = tmp_path / "deberta"
    torch.manual_seed(0)
    settings = transformers.DebertaConfig(**DEBERTA)
    AutoModel.from_config(settings).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_backbone).save_pretrained(folder)
    return folder


def cards(store, name, n=3):
    return [store.fold_card(name, fold) for fold in range(n)]


def test_an_encoder_that_fails_in_half_precision_is_trained_and_read_in_fp32(
    toy, deberta, half, caplog
):
    settings = config.load(toy(members=["mean", "max"]), [f"backbone={deberta}"])
    store = open_store(settings)
    pipeline.train(settings)
    told = [r.getMessage() for r in caplog.records if "computes in fp32" in r.getMessage()]
    assert [each.split()[0] for each in told] == ["deberta-mean-s42", "deberta-max-s42"]
    assert "in bf16 a forward pass of deberta-mean-s42 fails (RuntimeError: value cannot" in told[0]
    for card in cards(store, "deberta-mean-s42"):
        assert (card.precision, card.fp32_only) == ("fp32", True)
        assert card.inputs.settings["train"]["precision"] == "auto"
    pipeline.train(settings)  # and nothing is stale
    pipeline.blend(settings)
    pipeline.infer(settings)
    pipeline.verify_oof(settings)


def test_fp32_that_was_fallen_back_to_gives_the_same_bits_as_fp32_that_was_asked_for(
    toy, deberta, half, tmp_path
):
    made = []
    for name in ("auto", "fp32"):
        train = {"epochs": 1, "precision": name}
        path = toy(members=["mean"], train=train)
        settings = config.load(path, [f"store={tmp_path / name}", f"backbone={deberta}"])
        pipeline.train(settings, folds="0")
        made.append(cards(open_store(settings), "deberta-mean-s42", 1)[0])
    assert made[0]["weights"] == made[1]["weights"]
    assert "fp32_only" not in made[1]


def test_a_precision_that_was_asked_for_is_refused_in_one_line(toy, deberta):
    settings = config.load(toy(train={"precision": "bf16"}), [f"backbone={deberta}"])
    with pytest.raises(UserError, match="train.precision is bf16, in which .* set train.precision"):
        pipeline.train(settings)
    assert not (settings.path(settings.store) / "models").exists()


def test_where_one_of_several_members_cannot_be_trained_the_others_are(toy, deberta, caplog):
    asked = {"pooler": "mean", "backbone": str(deberta), "train": {"precision": "bf16"}}
    settings = config.load(toy(members=[asked, "max"]))
    with pytest.raises(PartlyFailedError, match="3 of 6 folds: deberta-mean-s42 fold 0, 1, 2: "):
        pipeline.train(settings)
    assert "deberta-mean-s42 cannot be trained, the others are: train.precision" in caplog.text
    assert all(cards(open_store(settings), "tiny-max-s42"))


def test_dry_run_and_doctor_try_it_too(toy, deberta, half, capsys):
    settings = config.load(toy(members=["mean"]), [f"backbone={deberta}"])
    pipeline.dry_run(settings)
    assert "deberta-mean-s42" in capsys.readouterr().out
    findings = [each for each in examine(settings) if each.name == "backbone"]
    assert [each.status for each in findings] == ["warn"]
    assert "computes in fp32" in findings[0].found
    asked = config.load(toy(train={"precision": "bf16"}), [f"backbone={deberta}"])
    (found,) = [each for each in examine(asked) if each.name == "backbone"]
    assert found.status == "fail"
    assert "train.precision is bf16" in found.found


def test_a_backbone_is_trained_on_further_in_fp32_where_half_fails(toy, deberta, half, caplog):
    tokenizer = AutoTokenizer.from_pretrained(deberta)
    tokenizer.add_special_tokens({"mask_token": "[UNK]"})
    tokenizer.save_pretrained(deberta)
    settings = config.load(
        toy(members=["mean"]),
        [f"backbone={{source: {deberta}, mlm: {{epochs: 1, max_length: 16}}}}"],
    )
    pipeline.train(settings, folds="0")
    store = open_store(settings)
    assert store.backbone("deberta-mlm").check().precision == "fp32"
    assert "deberta-mlm-mean-s42 computes in fp32" in caplog.text


def test_a_step_that_fails_is_one_line_before_anything_is_trained(toy, monkeypatch):
    whole = TextModel.forward

    def forward(self, batch, samples=None):
        if self.training:
            raise ValueError("You must specify exactly one of\ninput_ids or inputs_embeds")
        return whole(self, batch, samples)

    monkeypatch.setattr(TextModel, "forward", forward)
    settings = config.load(toy(members=["mean"]))
    with pytest.raises(UserError, match=r"step of tiny-mean-s42 fails \(ValueError: You"):
        pipeline.train(settings)
    assert not (settings.path(settings.store) / "models").exists()


def test_weights_that_cannot_be_saved_are_found_before_anything_is_trained(toy, monkeypatch):
    whole = TextModel.__init__

    def tied(self, *args, **keys):
        whole(self, *args, **keys)
        self.twin = self.encoder.embeddings.word_embeddings

    monkeypatch.setattr(TextModel, "__init__", tied)
    settings = config.load(toy(members=["mean"]))
    with pytest.raises(UserError, match="cannot be saved .*share memory"):
        pipeline.train(settings)


def test_a_model_that_is_another_once_loaded_is_found_before_anything_is_trained(toy, monkeypatch):
    whole = TextModel.load_state_dict

    def lossy(self, tensors, *args, **kwargs):
        changed = {k: v + 1 if k == "head.linear.bias" else v for k, v in tensors.items()}
        return whole(self, changed, *args, **kwargs)

    monkeypatch.setattr(TextModel, "load_state_dict", lossy)
    settings = config.load(toy(members=["mean"]))
    with pytest.raises(UserError, match="tiny-mean-s42 predicts otherwise once loaded: by 0."):
        pipeline.train(settings)


def test_a_tokenizer_that_is_another_once_loaded_is_found_before_anything_is_trained(
    toy, monkeypatch
):
    from poolblend.store.foldfiles import FoldFiles

    whole = FoldFiles.save

    class Lossy:
        def save_pretrained(self, folder):
            path = Path(folder) / "tokenizer.json"
            core = json.loads(path.read_text(encoding="utf-8"))
            core["pre_tokenizer"] = {"type": "WhitespaceSplit"}
            path.write_text(json.dumps(core), encoding="utf-8")

    monkeypatch.setattr(
        FoldFiles,
        "save",
        lambda self, *, parts, **told: whole(self, parts=(*parts, Lossy()), **told),
    )
    settings = config.load(toy(members=["mean"]))
    with pytest.raises(
        UserError, match="saved tokenizer of tiny-mean-s42 reads 'A text, to .* otherwise"
    ):
        pipeline.train(settings)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_every_recipe_and_head_is_tried_and_leaves_nothing(toy, task, tmp_path, monkeypatch):
    head = "ridge" if task == "regression" else "logistic"
    members = [
        {"pooler": "mean", "head": head},
        {"pooler": "max", "tag": "a", "train": {"lora": 4, "ema": 0.9}},
        {"pooler": "weighted_layer", "tag": "b", "train": {"awp": 0.1, "rdrop": 0.5}},
        {"pooler": "cls", "tag": "c", "head": {"norm": "batch"}, "windows": {"overlap": 2}},
        {"pooler": "mean", "tag": "d", "train": {"swa_epochs": 2, "accumulation": 3}},
        {"pooler": "gem", "tag": "e", "train": {"gradient_checkpointing": True}, "mask": "content"},
    ]
    settings = config.load(toy(task, members=members))
    from poolblend.loading.competition import load_competition
    from poolblend.loading.models import check_members

    competition = load_competition(settings, open_store(settings), make_folds=True)
    resolved = settings.resolve_members()
    before = sorted(tmp_path.rglob("*"))
    state = torch.random.get_rng_state()
    located = check_members(settings, resolved)
    found = rehearsal.rehearse_all(settings, competition.task, resolved, located)
    assert found.unable == {}
    assert set(found.precisions.values()) == {"auto"}
    assert torch.equal(torch.random.get_rng_state(), state)
    assert sorted(tmp_path.rglob("*")) == before


def test_only_members_with_something_to_do_are_tried(toy, monkeypatch):
    settings = config.load(toy(members=["mean", "max"]))
    pipeline.train(settings, poolers="mean")
    tried = []
    monkeypatch.setattr(rehearsal, "_passed", {})
    whole = rehearsal.rehearse
    monkeypatch.setattr(
        rehearsal,
        "rehearse",
        lambda config, task, member, *a, **k: (
            tried.append(member.name) or whole(config, task, member, *a, **k)
        ),
    )
    pipeline.train(settings)
    assert tried == ["tiny-max-s42"]
    tried.clear()
    pipeline.train(settings)
    assert tried == []


def test_a_divergence_in_training_is_no_failure_of_the_rehearsal(toy):
    wild = {"epochs": 1, "lr": 1e30, "head_lr": None, "clip": None, "warmup": 0}
    with pytest.raises(PartlyFailedError, match="became"):
        pipeline.train(config.load(toy(members=["mean"], train=wild)))


def test_a_model_from_another_machine_is_run_in_fp32_where_half_fails_here(
    toy, deberta, request, caplog
):
    settings = config.load(toy(members=["mean"], train={"epochs": 1}), [f"backbone={deberta}"])
    with pytest.MonkeyPatch.context() as patch:
        for module in (devices, *USERS):
            patch.setattr(module, "resolve_precision", lambda *_: "fp32")
        pipeline.train(settings)
        pipeline.blend(settings)
    assert not any("fp32_only" in card for card in cards(open_store(settings), "deberta-mean-s42"))
    request.getfixturevalue("half")
    pipeline.infer(settings)
    assert "deberta-mean-s42 fold 0 computes in fp32: in bf16 it fails (value cannot" in caplog.text


def test_the_same_weights_come_out_with_and_without_a_rehearsal(toy, tmp_path, monkeypatch):
    made = []
    for name in ("with", "without"):
        if name == "without":
            monkeypatch.setattr(Trainer, "precisions", {}, raising=False)
            queue = __import__("poolblend.pipeline.training", fromlist=["queue"])
            monkeypatch.setattr(queue, "_rehearse", lambda *_: None)
        settings = config.load(toy(members=["mean"]), [f"store={tmp_path / name}"])
        pipeline.train(settings)
        made.append([card.files.weights for card in cards(open_store(settings), "tiny-mean-s42")])
    assert made[0] == made[1]
