"""Members without an encoder: trained, stored, checked, blended and predicted like any other."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from poolblend import config, pipeline
from poolblend.errors import PartlyFailedError, UserError
from poolblend.jobs.fold_loader import FoldLoader
from poolblend.loading.competition import load_competition, open_store
from poolblend.loading.dataset import Datasets
from poolblend.loading.models import new_objective
from poolblend.store.files import hash_file
from rig.edited import edit_card

LOGISTIC, NB = "tfidf-logistic-s42", "tfidf-nb-s42"
QUICK = ["folds.n=2", "train.epochs=1", "blend={resamples: 50, fitters: [equal, best]}"]
ALONE = [*QUICK, "members=[tfidf]", "backbone=/there/is/none"]  # of which it needs nothing


@pytest.fixture
def run(toy):
    """Function of a task and further config keys: the settings of a toy competition."""

    def settings(*sets, task="binary", n=36):
        return config.load(toy(task, n=n, n_test=8), [*ALONE, *sets])

    return settings


def all_of_it(settings, **chosen):
    """Train, blend, infer; the submission."""
    pipeline.train(settings, **chosen)
    pipeline.blend(settings)
    return pd.read_csv(pipeline.infer(settings))


def differences(settings, capsys):
    """What `--verify-oof` prints of each fold model."""
    capsys.readouterr()
    pipeline.verify_oof(settings)
    return re.findall(r"^(\S+) fold.*difference (\S+) over", capsys.readouterr().out, re.M)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_a_run_of_it_alone_needs_no_backbone_and_predicts_exactly(run, task, capsys):
    heads = "[tfidf]" if task == "regression" else "[tfidf, {model: tfidf, head: nb}]"
    settings = run(f"members={heads}", "blend.fitter=equal", task=task, n=80)
    submission = all_of_it(settings)
    found = differences(settings, capsys)
    assert len(found) == 2 * len(settings.members)
    assert {difference for _, difference in found} == {"0"}
    hidden = pd.read_csv(settings.data_dir / "test_labels.csv").set_index("id")
    predicted = submission.set_index("id").loc[hidden.index, hidden.columns]
    if task == "regression":
        assert (predicted - hidden).abs().to_numpy().mean() < 0.3
    else:
        assert (predicted.round() if task == "multilabel" else predicted).eq(
            hidden
        ).to_numpy().mean() > 0.8
    pipeline.check(settings)


def test_it_blends_with_encoders_in_workers_and_has_no_vectors(toy, capsys):
    members = "members=[mean, tfidf, {model: tfidf, head: nb}]"
    settings = config.load(toy(n=36, n_test=8), [*QUICK, members, "blend.fitter=equal"])
    pipeline.dry_run(settings)
    assert "6 folds are to be trained" in capsys.readouterr().out
    all_of_it(settings, workers=2)
    store = open_store(settings)
    card = store.read_blend()
    assert set(card.members) == {"tiny-mean-s42", LOGISTIC, NB}
    for name in (LOGISTIC, NB):
        assert sorted(f.name for f in store.fold(name, 1).folder.glob("[!.]*")) == [
            "card.json",
            "model.safetensors",
        ]
    capsys.readouterr()
    pipeline.write_vectors(settings)
    printed = capsys.readouterr().out
    assert f"no encoder, so no vectors: {LOGISTIC}, {NB}" in printed
    assert [path.parent.name for path in store.root.rglob("*vectors_fold*.parquet")] == 4 * [
        "tiny-mean-s42"
    ]


def test_a_member_without_an_encoder_alone_has_no_vectors(run):
    settings = run()
    pipeline.train(settings)
    with pytest.raises(UserError, match="no member has vectors, of those that are complete"):
        pipeline.write_vectors(settings)


def test_it_is_chosen_by_name_skipped_once_finished_and_stale_after_a_change(run, capsys):
    settings = run("members=[mean, tfidf]")
    pipeline.train(settings, poolers="tfidf")
    store = open_store(settings)
    assert store.members() == [LOGISTIC]
    before = store.fold(LOGISTIC, 0).card()
    pipeline.train(settings, poolers="tfidf")
    assert store.fold(LOGISTIC, 0).card() == before
    for sets, says in (
        (["members=[{model: {kind: tfidf, min_df: 3}}]"], "model.min_df was 2, is 3"),
        (["members=[{model: tfidf, head: {C: 7}}]"], "head.C was 3.0, is 7.0"),
        (["train.class_weights=balanced"], "train.class_weights was none, is balanced"),
        (["data.text=['{text} {text}']"], "text was"),
    ):
        changed = run(*sets)
        with pytest.raises(UserError, match=re.escape(says)):
            pipeline.train(changed)
    for sets in (
        ["max_length=9"],
        ["mask=content"],
        ["data.special_tokens=tokens"],
        ["train.lr=1"],
    ):
        pipeline.train(run(*sets))  # nothing that it reads
    assert store.fold(LOGISTIC, 0).card() == before
    with pytest.raises(UserError, match="stale"):
        pipeline.check(run("members=[{model: tfidf, head: {C: 7}}]"))


def features_of(settings, fold):
    store = open_store(settings)
    return FoldLoader().load(store.fold(LOGISTIC, fold))[1].vectorizers["words"].vocabulary_


def test_its_vocabulary_is_of_the_folds_training_rows_alone(run, tmp_path):
    settings = run("members=[{model: {min_df: 1}}]")
    path = tmp_path / "data" / "train.csv"
    table = pd.read_csv(path)
    table["text"] += [f" only{i}" for i in range(len(table))]
    table.to_csv(path, index=False)
    pipeline.train(settings)
    fold_N = load_competition(settings, open_store(settings)).fold_N
    for fold in range(2):
        own = {int(term[4:]) for term in features_of(settings, fold) if term.startswith("only")}
        assert own == set(np.flatnonzero(fold_N != fold))


def test_columns_templates_and_weights_reach_it(run, tmp_path, capsys):
    sets = ["data.numeric=[n]", "data.categorical=[c]", "data.weight=w"]
    settings = run(*sets, "folds.keep_together=none", n=60)
    settings = settings.model_copy(
        update={"data": settings.data.model_copy(update={"text": ["{c}: {text}"]})}
    )
    for name in ("train", "test"):
        path = tmp_path / "data" / f"{name}.csv"
        table = pd.read_csv(path)
        target = pd.read_csv(path.with_name("train.csv" if name == "train" else "test_labels.csv"))
        table["text"], table["c"], table["w"] = "the road", "one", 1.0 + table.index % 2
        table["n"] = 10 * target["target"]  # tells what no text does
        table.to_csv(path, index=False)
    submission = all_of_it(settings)
    hidden = pd.read_csv(settings.data_dir / "test_labels.csv")
    assert (submission["target"] == hidden["target"]).all()
    assert {difference for _, difference in differences(settings, capsys)} == {"0"}
    assert "one the" in features_of(settings, 0)
    store = open_store(settings)
    labels = Datasets(settings, load_competition(settings, store), store).labels(
        settings.resolve_members()[0], 0, new_objective(store.fold(LOGISTIC, 0).card().inputs.task)
    )
    assert len(np.unique(labels.weights)) == 2
    unweighted = settings.model_copy(
        update={"data": settings.data.model_copy(update={"weight": None})}
    )
    with pytest.raises(UserError, match="weight was w, is None"):
        pipeline.train(unweighted)


def test_pseudo_labels_come_from_it_and_reach_it(run, capsys):
    settings = run(n=60)
    all_of_it(settings)
    pipeline.write_pseudo_labels(settings, "first")
    taught = run("members=[{model: tfidf, tag: taught, pseudo: {labels: first}}]", n=60)
    pipeline.train(taught)
    store = open_store(taught)
    card = store.fold("tfidf-logistic-taught-s42", 0).card()
    assert card.rows.train == store.fold(LOGISTIC, 0).card().rows.train + 8
    assert card.inputs.pseudo_labels_sha256


def test_soft_labels_reach_it(run, tmp_path):
    path = tmp_path / "data" / "train.csv"
    settings = run("data.soft=[share]")
    table = pd.read_csv(path)
    table["share"] = 0.5
    table.to_csv(path, index=False)
    pipeline.train(settings)
    oof = open_store(settings).fold(LOGISTIC, 0).oof()
    assert np.abs(oof["pred_target"] - 0.5).max() < 0.01


def test_texts_that_hold_nothing_fail_in_one_line(run, tmp_path):
    path = tmp_path / "data" / "train.csv"
    settings = run("folds.keep_together=none")
    pd.read_csv(path).assign(text=None).to_csv(path, index=False)
    with pytest.raises(PartlyFailedError):
        pipeline.train(settings)
    note = open_store(settings).fold(LOGISTIC, 0).failure()
    assert "no word or character sequence is in 2 of the" in note.reason


@pytest.mark.parametrize("vouched", [False, True])
def test_weights_of_another_model_are_refused_in_one_line(run, vouched):
    settings = run()
    all_of_it(settings)
    files = open_store(settings).fold(LOGISTIC, 0)
    path = files.folder / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"bias_L": torch.zeros(2, dtype=torch.float64)}, path)
    if vouched:
        hashed = hash_file(path).model_dump()
        edit_card(files.folder / "card.json", lambda card: card["files"].update(weights=hashed))
    says = "do not fit its card: bias_L is float64 of shape (2,)" if vouched else "damaged"
    with pytest.raises(UserError, match=re.escape(says)) as refused:
        pipeline.verify_oof(settings)
    assert "\n" not in str(refused.value)


def test_heads_that_do_not_fit_the_task_are_refused_before_anything_is_trained(run):
    for task, head, says in (
        ("binary", "ridge", "ridge does not fit a binary task; choose logistic or nb"),
        ("regression", "nb", "nb does not fit a regression task; choose ridge"),
    ):
        with pytest.raises(UserError, match=f"head.kind: {says}"):
            pipeline.train(run(f"members=[{{model: tfidf, head: {head}}}]", task=task))
