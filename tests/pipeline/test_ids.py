"""Whole runs of competitions whose tables lack ids, or name them oddly: nothing is mixed up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.loading.competition import open_store
from poolblend.store import read_folds

SETS = ["members=[mean]", "folds.n=2", "train.epochs=1", "blend.fitters=[equal]"]
SETS += ["blend.fitter=equal", "blend.resamples=50"]


@pytest.fixture
def run(toy, tmp_path):
    """Changes the toy's tables by a function of name and table; trains, blends, infers: settings.

    A member from elsewhere, whose OOF file is what pandas writes of a Series, joins the blend.
    """

    def run(change, *sets, outside=True):
        path = toy(n=24, n_test=8)
        settings = config.load(path, [*SETS, *sets])
        for name in ("train", "test", "sample_submission"):
            file = settings.data_dir / f"{name}.csv"
            change(name, pd.read_csv(file, dtype=str), file)
        (tmp_path / "outside" / "test").mkdir(parents=True)
        pd.Series(np.linspace(0.1, 0.9, 24), name="pred").to_csv(tmp_path / "outside" / "oof.csv")
        sample = pd.read_csv(settings.data_dir / "sample_submission.csv")
        sample["target"] = np.linspace(0.1, 0.9, 8)
        sample.rename(columns={"Unnamed: 0": ""}).to_csv(
            tmp_path / "outside" / "test" / "oof.csv", index=False
        )
        pipeline.train(settings)
        pipeline.blend(settings, members_from=str(tmp_path / "outside") if outside else None)
        (settings.data_dir / "train.csv").unlink()
        submission = pipeline.infer(settings)
        return settings, submission

    return run


def test_train_without_ids_is_numbered_from_folds_to_submission(run):
    def change(name, table, file):
        table = table.drop(columns="id") if name == "train" else table.rename(columns={"id": "key"})
        table.to_csv(file, index=False)

    settings, submission = run(change, "data.id=null")
    store = open_store(settings)
    folds = read_folds(store.folds_path).table
    assert folds["id"].tolist() == [str(k) for k in range(24)]
    assert sorted(store.fold("tiny-mean-s42", 0).oof()["id"], key=int) == [
        id for id, fold in zip(folds["id"], folds["fold"], strict=True) if fold == 0
    ]
    sample = pd.read_csv(settings.data_dir / "sample_submission.csv")
    assert pd.read_csv(submission)["key"].tolist() == sample["key"].tolist()
    pipeline.write_vectors(settings)


def test_a_sample_in_another_order_makes_kept_predictions_of_test_without_ids_stale(run):
    def change(name, table, file):
        if name == "sample_submission":
            table.to_csv(file, index=False)
        else:
            table.drop(columns="id").to_csv(file, index=False)

    settings, submission = run(
        change, "data.id=null", "metric=log_loss", "submission=probabilities", outside=False
    )
    first = pd.read_csv(submission)
    file = settings.data_dir / "sample_submission.csv"
    pd.read_csv(file)[::-1].to_csv(file, index=False)
    again = pd.read_csv(pipeline.infer(settings))
    assert again["id"].tolist() == first["id"].tolist()[::-1]
    np.testing.assert_allclose(again["target"], first["target"], atol=1e-6)
    assert first["target"].nunique() > 1


def test_a_first_column_without_a_name_goes_without_one_into_the_submission(run):
    def change(name, table, file):
        table.drop(columns="id").to_csv(file)

    _, submission = run(change, "data.id=Unnamed: 0")
    assert submission.read_text().splitlines()[0] == ",target"
    assert pd.read_csv(submission).iloc[:, 0].tolist() == list(range(8))
