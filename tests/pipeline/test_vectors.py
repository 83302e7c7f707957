"""Stored vectors are what each fold model's head sees, a file per fold and table."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from poolblend import pipeline
from poolblend.errors import UserError
from poolblend.jobs.foldmodels import FoldModels
from poolblend.loading.competition import load_competition, open_store
from rig.edited import edit_card
from rig.fold_models import fold_models

DOCUMENT = Path(__file__).parents[2] / "docs" / "vectors.md"
MEMBERS = ["tiny-max-s42", "tiny-mean-s42"]


@pytest.fixture
def settings(trained):
    return trained("blend.fitter=best")


def files(settings):
    return sorted(open_store(settings).root.rglob("*vectors_fold*.parquet"))


def test_the_head_makes_the_stored_predictions_of_the_stored_vectors(settings):
    pipeline.write_vectors(settings)
    store = open_store(settings)
    competition = load_competition(settings, store)
    for table in ("train", "test"):
        frame = getattr(competition.tables, table)
        models = fold_models(settings, store, frame, table)
        for member in MEMBERS:
            kept = store.vectors(member, 1, table).check()[1]
            assert kept["id"].tolist() == frame["id"].tolist()
            fold = store.fold(member, 1)
            head = models.loader.load(fold)[1].eval().head
            with torch.inference_mode():
                logits_NK = head(torch.from_numpy(np.stack(kept["vector"]))).numpy()
            pred_NK = models.predict(member, 1, np.arange(len(frame)))
            np.testing.assert_allclose(expit(logits_NK), pred_NK, rtol=1e-5)
            if table == "train":
                np.testing.assert_array_equal(kept["fold"], competition.fold_N)


def test_rows_come_in_their_own_order_whatever_the_batches(settings):
    store = open_store(settings)
    train = load_competition(settings, store).tables.train
    models = fold_models(settings, store, train, "train")
    together = models.vectors(MEMBERS[0], 0, np.arange(30))
    assert together.dtype == np.float32
    models.batch_tokens = 1
    rows = np.array([7, 3, 29])
    np.testing.assert_allclose(
        models.vectors(MEMBERS[0], 0, rows), together[rows], rtol=1e-4, atol=1e-6
    )


def test_without_a_blend_all_complete_members_are_taken(settings, capsys):
    store = open_store(settings)
    (store.fold_folder(MEMBERS[1], 1) / "card.json").unlink()
    pipeline.write_vectors(settings)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == (
        "vectors of the members that are complete, as there is no blend card: tiny-max-s42"
    )
    folder = store.oof_path(MEMBERS[0], 0).parent
    assert printed[1:] == [
        *(f"{folder}/vectors_fold{fold}.parquet: 36 x 16" for fold in range(3)),
        *(f"{folder}/test_vectors_fold{fold}.parquet: 8 x 16" for fold in range(3)),
    ]
    assert len(files(settings)) == 6


def test_of_a_blend_members_without_weight_are_not_run(settings, capsys):
    blend = pipeline.blend(settings)
    (used,) = (name for name, member in blend.card.members.items() if member.weight)
    capsys.readouterr()
    pipeline.write_vectors(settings)
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"vectors of the members that have weight in the blend: {used}"
    assert {path.parent.name for path in files(settings)} == {used}


def test_whole_files_are_left_alone_and_damaged_or_outdated_ones_made_again(
    settings, capsys, monkeypatch
):
    pipeline.write_vectors(settings)
    before = {path: path.read_bytes() for path in files(settings)}
    open_store(settings).vectors(MEMBERS[0], 1, "train").path.write_bytes(b"")
    made = []
    vectors = FoldModels.vectors

    def counted(self, member, fold, *args):
        made.append(f"{member} {self.texts.name} {fold}")
        return vectors(self, member, fold, *args)

    monkeypatch.setattr(FoldModels, "vectors", counted)
    capsys.readouterr()
    pipeline.write_vectors(settings)
    assert {path: path.read_bytes() for path in files(settings)} == before
    assert made == ["tiny-max-s42 train 1"]
    assert capsys.readouterr().out.count("(kept earlier)") == 11
    path = settings.data_dir / "test.csv"
    frame = pd.read_csv(path)
    frame["text"] = frame["text"].to_numpy()[::-1]
    frame.to_csv(path, index=False)
    pipeline.write_vectors(settings)
    changed = {path.name for path in files(settings) if path.read_bytes() != before[path]}
    assert changed == {f"test_vectors_fold{fold}.parquet" for fold in range(3)}


@pytest.mark.parametrize("lacking", ["train.csv", "folds.csv"])
def test_without_the_train_table_or_the_folds_the_test_rows_are_pooled(settings, capsys, lacking):
    pipeline.blend(settings)
    path = open_store(settings).folds_path
    path = settings.data_dir / lacking if lacking == "train.csv" else path
    path.unlink()
    pipeline.write_vectors(settings)
    assert (
        f"there is no {path}: only vectors of the test rows are written" in capsys.readouterr().out
    )
    assert {path.name for path in files(settings)} == {
        f"test_vectors_fold{fold}.parquet" for fold in range(3)
    }


def test_models_of_another_train_table_or_trained_since_the_blend_are_refused(settings):
    """The column `fold` would not say which rows a model has seen."""
    pipeline.blend(settings)

    def change(card):
        for member in card["members"].values():
            member["origin"]["folds"][1]["weights_sha256"] = "0" * 64

    blend_path = open_store(settings).blend_path
    edit_card(blend_path, change)
    with pytest.raises(UserError, match="fold 1 was trained again after the blend"):
        pipeline.write_vectors(settings)
    blend_path.unlink()
    path = settings.data_dir / "train.csv"
    path.write_text(path.read_text().replace("lovely", "sweet"))
    with pytest.raises(UserError, match="fold 0 was trained on other data: train has changed"):
        pipeline.write_vectors(settings)
    assert files(settings) == []


def test_before_any_training_the_error_says_what_to_run(settings):
    shutil.rmtree(open_store(settings).root)
    with pytest.raises(UserError, match=r"no member of run toy is complete; run train.py first"):
        pipeline.write_vectors(settings)


def test_the_documents_snippets_run_and_give_what_they_say(settings, monkeypatch):
    pipeline.write_vectors(settings)
    store = open_store(settings)
    (store.root / "input" / "mine").mkdir()
    shutil.copy(settings.data_dir / "train.csv", store.root / "input" / "mine" / "train.csv")
    monkeypatch.chdir(store.root)
    snippets = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    names: dict = {}
    for snippet in snippets:
        run = snippet.replace("oof/mine/roberta-base-mean-s42", f"oof/toy/{MEMBERS[1]}")
        exec(run, names)  # the document is ours
    train, test = (store.vectors(MEMBERS[1], 0, name).check()[1] for name in ("train", "test"))
    a, b = test["vector"][3], np.stack(train["vector"])
    cosine_N = b @ a / np.linalg.norm(b, axis=1) / np.linalg.norm(a)
    assert names["test"]["nearest"][3] == train["id"][cosine_N.argmax()]
    assert names["test"]["cosine"][3] == pytest.approx(cosine_N.max(), rel=1e-5)
    assert sorted(names["oof"]["id"]) == sorted(train["id"])
    assert names["submission"]["id"].tolist() == test["id"].tolist()
