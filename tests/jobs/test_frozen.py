"""Frozen members: a head in seconds on vectors made once, a fold model like any other."""

import re
from itertools import count

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file

from poolblend import config, pipeline
from poolblend.errors import Stopped, UserError
from poolblend.jobs import frozen_states
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import open_store
from poolblend.modeling import backbone
from poolblend.store.foldfiles import FoldFiles
from poolblend.store.predictions import from_table

SVR, RIDGE = "tiny-mean-svr-s42", "tiny-mean-ridge-s42"
MEAN_SVR = "members=[{pooler: mean, head: svr}]"
THREE = "members=[{pooler: mean, head: svr}, {pooler: mean, head: ridge}, {pooler: max, head: svr}]"
WEIGHTED = "members=[{pooler: weighted, head: svr}]"
# Whatever of these reached a frozen encoder would show in its weights.
RECIPES = [
    "train.lora=2",
    "train.dropout_samples=2",
    "train.ema=0.9",
    "train.early_stopping=1",
    "train.label_smoothing=0.0",
    "train.loss=mse",
    "head.norm=batch",
]


def load(path, *sets):
    return config.load(path, ["folds.n=2", *sets])


def tensors(settings, member, fold=0):
    return load_file(open_store(settings).fold_folder(member, fold) / "model.safetensors")


def with_numbers(path):
    """The toy's tables with a column of numbers, which tells target `a`; the config's path."""
    settings = yaml.safe_load(path.read_text())
    folder = path.parent / "data"
    generator = np.random.default_rng(1)
    for name, labels in (("train", "train"), ("test", "test_labels")):
        table, labelled = (pd.read_csv(folder / f"{each}.csv") for each in (name, labels))
        table["number"] = 100 * labelled["a"] + generator.normal(size=len(labelled))
        table.to_csv(folder / f"{name}.csv", index=False)
    settings["data"]["numeric"] = ["number"]
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def pooled(monkeypatch):
    """The number of rows of each pass through an encoder."""
    passes, plain = [], frozen_states.compute_states

    def spy(model, encoded, *rest, **how):
        passes.append(len(encoded.ids))
        plain(model, encoded, *rest, **how)

    monkeypatch.setattr(frozen_states, "compute_states", spy)
    return passes


@pytest.mark.parametrize(
    ("task", "kind", "scored"),
    [
        ("binary", "logistic", "log_loss"),
        ("multiclass", "logistic", "accuracy"),
        ("multilabel", "logistic", "roc_auc_macro"),
        ("regression", "svr", "mcrmse"),
        ("regression", "ridge", "mcrmse"),
    ],
)
def test_a_frozen_member_is_blended_with_a_fine_tuned_one_and_predicts_its_oof_again(
    toy, capsys, task, kind, scored
):
    path = toy(task, metric=scored, submission="auto")
    settings = load(
        with_numbers(path) if kind == "ridge" else path,
        f"members=[{{pooler: mean, head: {kind}}}, max]",
        "blend={fitters: [equal]}",
    )
    pipeline.train(settings)
    pipeline.blend(settings)
    store, name = open_store(settings), f"tiny-mean-{kind}-s42"
    assert store.read_blend().members.keys() == {name, "tiny-max-s42"}
    assert pipeline.infer(settings).is_file()
    capsys.readouterr()
    pipeline.verify_oof(settings)
    shown = capsys.readouterr().out
    assert f"{name} fold 1" in shown
    assert float(re.search("of all: (.*)", shown)[1]) < 1e-7
    pipeline.write_vectors(settings)
    pipeline.check(settings)


def test_columns_beside_the_text_reach_the_head(toy):
    scores = {}
    for number in (False, True):
        path = toy("regression", name=f"numbers_{number}")
        settings = load(with_numbers(path) if number else path, MEAN_SVR)
        pipeline.train(settings, folds="0")
        scores[number] = open_store(settings).fold(SVR, 0).card().score
    assert scores[True] < 0.95 * scores[False]


def test_rows_are_read_once_for_all_folds_heads_and_poolers(toy, pooled):
    settings = load(
        toy("regression"),
        THREE,
        "folds.n=3",
    )
    pipeline.train(settings)
    assert pooled == [60]
    store = open_store(settings)
    assert {store.fold(name, 2).card().rows.train for name in (SVR, RIDGE)} == {40}


@pytest.mark.parametrize(
    "other",
    ["{pooler: concat_layers, head: svr}", "{pooler: mean, head: svr, tag: b, max_length: 8}"],
)
def test_members_that_read_other_layers_or_tokens_share_no_states(toy, pooled, other):
    settings = load(toy("regression"), f"members=[{{pooler: mean, head: svr}}, {other}]")
    pipeline.train(settings, folds="0")
    assert pooled == [60, 60]


def test_idf_is_counted_on_each_folds_own_training_rows(toy):
    settings = load(toy("regression"), WEIGHTED)
    pipeline.train(settings)
    store = open_store(settings)
    folds = pd.read_csv(store.folds_path)["fold"].to_numpy()
    texts = pd.read_csv(settings.data_dir / "train.csv")["text"]
    vocabulary = backbone.load_tokenizer(settings.path(settings.backbone.source)).get_vocab()
    for fold in (0, 1):
        df = texts[folds != fold].str.split().map(lambda words: "lovely" in words).sum()
        idf = np.log((1 + (folds != fold).sum()) / (1 + df)) + 1
        kept = tensors(settings, "tiny-weighted-svr-s42", fold)["pooler.idf_V"]
        assert kept[vocabulary["lovely"]] == pytest.approx(idf)
    pipeline.blend(settings)
    pipeline.verify_oof(settings)  # and the vectors were those of the fold's own counts


def test_the_encoder_is_the_backbones_own_whatever_the_recipes(toy):
    settings = load(toy("regression"), MEAN_SVR, *RECIPES, "train.class_weights=none")
    pipeline.train(settings, folds="0")
    encoder = backbone.load(settings.path(settings.backbone.source)).encoder.state_dict()
    assert not [name for name in tensors(settings, SVR) if name.startswith("encoder.")]
    files = open_store(settings).fold(SVR, 0)
    kept = files.base_tensors(files.card().files.base)
    assert {name.removeprefix("encoder.") for name in kept} == {*encoder}
    for name, tensor in encoder.items():
        assert kept[f"encoder.{name}"].equal(tensor), name


def test_the_card_tells_the_head_and_nothing_is_left_of_the_training(toy):
    settings = load(toy("regression"), MEAN_SVR)
    pipeline.train(settings, folds="0")
    store = open_store(settings)
    card = store.fold(SVR, 0).card()
    assert card.epochs == ()
    assert card.inputs.settings["head"] == {"kind": "svr", "C": 1.0}
    assert card.inputs.settings["train"].keys() == {"precision", "class_weights"}
    assert 0 < card.head.support_vectors <= card.rows.train
    assert len(tensors(settings, SVR)["head.support_SF"]) == card.head.support_vectors
    assert card.head.seconds <= card.seconds
    assert not list(store.root.rglob("checkpoint*"))


def test_what_a_frozen_member_does_not_learn_from_makes_it_stale_never(toy, caplog):
    path = toy("regression")
    pipeline.train(load(path, MEAN_SVR), folds="0")
    with caplog.at_level("INFO", logger="poolblend"):
        changed = ["train.epochs=9", "train.lr=1", "head.dropout=0.5", "train.attention=eager"]
        pipeline.train(load(path, MEAN_SVR, *changed), folds="0")
    assert "1 of 1 folds are finished already" in caplog.text


@pytest.mark.parametrize(
    ("changed", "line"), [("head.C=2", "head.C was 1.0"), ("train.precision=bf16", "precision was")]
)
def test_what_it_does_learn_from_makes_it_stale(toy, changed, line):
    path = toy("regression")
    pipeline.train(load(path, MEAN_SVR), folds="0")
    with pytest.raises(UserError, match=rf"{SVR} fold 0 is stale: .*{line}"):
        pipeline.train(load(path, MEAN_SVR, changed), folds="0")


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (
            ["members=[max, {pooler: attention, head: svr}]"],
            "member tiny-attention-svr-s42: pooler 'attention' has weights to train, and with "
            "head.kind=svr only the head is trained; choose one of cls, cls_mean, concat_layers, "
            "last, max, .*pooler_output, weighted$",
        ),
        (["members=[{pooler: gem, head: ridge}]"], "pooler 'gem' has weights to train"),
        (
            ["members=[{pooler: weighted, pooler_args: {by: features}, head: svr}]"],
            "pooler 'weighted' has weights to train",
        ),
        (["members=[{pooler: mean, head: logistic}]"], "logistic does not fit a regression task"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(toy, pooled, sets, line):
    settings = load(toy("regression"), *sets)
    with pytest.raises(UserError, match=line):
        pipeline.train(settings)
    assert not open_store(settings).members()
    assert not pooled


def test_an_encoders_own_pooler_qualifies_where_it_was_trained(toy, tiny_backbone, tmp_path):
    path = toy("regression")
    own = ["members=[{pooler: pooler_output, head: svr}]"]
    settings = load(path, *own)
    pipeline.train(settings, folds="0")
    dense = load_file(tiny_backbone / "model.safetensors")["pooler.dense.weight"]
    assert tensors(settings, "tiny-pooler_output-svr-s42")["pooler.dense.weight"].equal(dense)
    base = backbone.load(tiny_backbone)
    for part in (base.encoder, base.tokenizer):
        part.save_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match="'pooler_output': the encoder has no trained pooler"):
        pipeline.train(load(path, *own, f"backbone={tmp_path / 'bare'}"))


def test_pseudo_labels_join_a_frozen_members_rows(toy, pooled):
    path = toy("binary", metric="log_loss", submission="probabilities")
    plain = load(path, "members=[{pooler: mean, head: logistic}]")
    pipeline.train(plain)
    pipeline.blend(plain)
    pipeline.write_pseudo_labels(plain, "first")
    pooled.clear()
    joined = load(
        path,
        "members=[{pooler: mean, head: logistic, pseudo: {labels: first}, tag: more}]",
    )
    pipeline.train(joined)
    assert pooled == [60 + 15]
    name = "tiny-mean-logistic-more-s42"
    assert open_store(joined).fold(name, 0).card().rows.train == 30 + 15
    heads = [
        tensors(settings, member)["head.linear.weight"]
        for settings, member in ((plain, "tiny-mean-logistic-s42"), (joined, name))
    ]
    assert not heads[0].equal(heads[1])
    pipeline.blend(joined, members=[name])
    pipeline.verify_oof(joined)


def test_a_stop_while_rows_are_pooled_leaves_nothing_and_the_same_command_continues(
    toy, monkeypatch
):
    settings, asked = load(toy("regression"), MEAN_SVR, "batch_tokens=64"), count()

    def due(self):
        return Stopped("stopped by a test", 130) if next(asked) > 3 else None

    monkeypatch.setattr(Watch, "due", due)
    with pytest.raises(Stopped):
        pipeline.train(settings)
    monkeypatch.undo()
    store = open_store(settings)
    assert not store.members()
    pipeline.train(settings)
    ids = pd.read_csv(settings.data_dir / "train.csv")["id"]
    oof = pd.concat([store.fold(SVR, fold).oof() for fold in (0, 1)])
    assert np.isfinite(from_table(oof, ids, ("a", "b"))).all()


def test_two_runs_end_in_the_same_bits(toy, tmp_path):
    kept = []
    for place in ("a", "b"):
        settings = load(toy("regression"), MEAN_SVR, f"store={tmp_path / place}")
        pipeline.train(settings, folds="1")
        kept.append(tensors(settings, SVR, 1))
    assert all(kept[0][name].equal(kept[1][name]) for name in kept[0])


def test_weights_that_lack_the_support_vectors_are_refused_in_a_line(toy, monkeypatch):
    settings = load(toy("regression"), MEAN_SVR)
    pipeline.train(settings)
    pipeline.blend(settings)
    whole = FoldFiles.tensors
    monkeypatch.setattr(
        FoldFiles,
        "tensors",
        lambda self: {k: v for k, v in whole(self).items() if "support" not in k},
    )
    with pytest.raises(UserError, match=f"the weights of {SVR} fold 0 do not fit its card"):
        pipeline.verify_oof(settings)
