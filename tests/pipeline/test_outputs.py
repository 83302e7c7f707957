"""Where a command cannot write, it says so before the work, with advice that helps."""

import errno
import os

import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.jobs.foldmodels import FoldModels
from poolblend.loading.competition import open_store
from poolblend.store import probe
from poolblend.store.kept import KeptFile
from rig.edited import edit_card

MEMBER = "tiny-mean-s42"


@pytest.fixture
def read_only(monkeypatch):
    """Makes the folders of that name, and all in them, read-only."""

    def close(*names):
        whole = probe.TemporaryFile

        def refuse(*args, dir, **kwargs):
            if any(name in dir.parts for name in names):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))
            return whole(*args, dir=dir, **kwargs)

        monkeypatch.setattr(probe, "TemporaryFile", refuse)

    return close


@pytest.fixture
def idle(monkeypatch):
    """No model may be trained or run."""

    def work(*_, **__):
        raise AssertionError("it works before it knows where to write")

    monkeypatch.setattr("poolblend.jobs.runners.training.run", work)
    monkeypatch.setattr(FoldModels, "_run", work)
    monkeypatch.setattr("poolblend.pipeline.blending.compare", work)


def anew(finished):
    """Nothing that infer.py made is kept."""
    for fold in range(2):
        finished.store.test_path(MEMBER, fold).unlink()


@pytest.mark.parametrize("command", ["infer", "blend", "vectors", "pseudo-labels"])
def test_a_read_only_store_is_an_error_before_the_work(finished, read_only, idle, command):
    anew(finished)
    read_only("oof", "submissions")
    if command == "pseudo-labels":
        edit_card(finished.store.blend_path, _drop_outside)
    do = {
        "infer": finished.infer,
        "blend": finished.blend,
        "vectors": lambda: pipeline.write_vectors(finished.settings),
        "pseudo-labels": lambda: pipeline.write_pseudo_labels(finished.settings, "first"),
    }[command]
    with pytest.raises(UserError) as error:
        do()
    assert "cannot be written: Read-only file system; " in str(error.value)
    assert str(finished.store.root) in str(error.value)
    assert ("--set output=DIR" if command == "infer" else "set `store` to it") in str(error.value)


def _drop_outside(card):
    """The blend of the one member that was trained here."""
    card["members"] = {MEMBER: card["members"][MEMBER]}
    card["mixture"]["weights"] = [[1.0]]


def test_the_advice_helps_submissions_go_elsewhere(finished, read_only, tmp_path, caplog):
    first = finished.store.submission_path.read_bytes()
    anew(finished)
    read_only("submissions", "oof")
    settings = finished.settings.model_copy(update={"output": str(tmp_path / "working")})
    before = finished.everything().keys()
    path = pipeline.infer(settings)
    assert path == tmp_path / "working" / "submissions" / "toy" / "submission.csv"
    assert path.read_bytes() == first
    made = {name for name in finished.everything().keys() - before if "test_fold" not in name}
    assert made == set()


def test_train_tries_its_folders_before_the_first_step(toy, read_only, idle):
    settings = config.load(toy())
    open_store(settings).fold_folder("tiny-max-s42", 0).parent.mkdir(parents=True)
    read_only("models")
    with pytest.raises(UserError, match="models.* cannot be written: Read-only .* set `store`"):
        pipeline.train(settings)


def test_a_finished_run_needs_nothing_to_be_written(finished, read_only):
    before = finished.everything()
    read_only("models", "oof", "store")
    finished.train()
    assert finished.everything() == before


def test_infer_tries_the_sample_submission_before_any_model(finished, idle):
    anew(finished)
    path = finished.settings.data_dir / "sample_submission.csv"
    sample = pd.read_csv(path)
    sample.rename(columns={"target": "a"}).assign(b=0.5).to_csv(path, index=False)
    with pytest.raises(UserError, match="sample submission has columns a, b"):
        finished.infer()


def test_test_predictions_that_cannot_be_kept_are_one_warning(
    finished, monkeypatch, capsys, caplog
):
    anew(finished)

    def refuse(*_):
        raise UserError("could not write it")

    monkeypatch.setattr(KeptFile, "keep", refuse)
    capsys.readouterr()
    finished.infer()
    assert caplog.text.count("test predictions are not stored: could not write it") == 1
    card = finished.store.read_blend()
    honest = card.blenders["equal"].honest
    assert [line for line in capsys.readouterr().out.split("\n") if line] == [
        f"blend: equal of 2 of 2 members, honest log_loss {honest:.4f} ({card.provenance.written})",
        f"submission: {finished.store.submission_path} (8 rows)",
    ]


def test_an_undefined_score_is_one_short_line_a_fold(toy, caplog, tmp_path):
    path = toy(metric="roc_auc", folds={"n": 4, "groups": "part", "strategy": "group"})
    table = tmp_path / "data" / "train.csv"
    train = pd.read_csv(table).sort_values("target")
    train["part"] = range(len(train))
    train["part"] = 4 * train["part"] // len(train)  # folds of one class, and of both
    train.loc[train["part"].isin((1, 2)), "target"] = [0, 1] * (
        train["part"].isin((1, 2)).sum() // 2
    )
    train.to_csv(table, index=False)
    with caplog.at_level("INFO", logger="poolblend"):
        pipeline.train(config.load(path), poolers="mean")
    messages = [r.getMessage() for r in caplog.records if "undefined" in r.getMessage()]
    folds = [line for line in messages if MEMBER in line and "epoch" not in line]
    assert len(folds) == 2
    assert all("roc_auc undefined, all rows are of one class (" in line for line in folds)
    assert max(map(len, folds)) < 100
