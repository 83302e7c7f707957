"""One model of all rows per member, beside the fold models: trained, shown, used in their place."""

import json

import numpy as np
import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.cards.fold_names import REFIT
from poolblend.errors import UserError
from poolblend.loading.competition import load_competition, open_store
from poolblend.pipeline import bundling
from rig.fold_models import fold_models
from rig.wheels import write_wheels

pytestmark = pytest.mark.usefixtures("_imported")
MEMBERS = (
    "members=[mean, {pooler: max, head: logistic}, tfidf, {pooler: mean, tag: half, "
    "train: {freeze_layers: 1}}]"
)
NAMES = ["tfidf-logistic-s42", "tiny-max-logistic-s42", "tiny-mean-half-s42", "tiny-mean-s42"]
SETS = [
    MEMBERS,
    "folds.n=2",
    "train.epochs=1",
    "blend={resamples: 50, fitter: equal, space: plain}",
]


@pytest.fixture
def settings(toy):
    return config.load(toy(n=36, n_test=9, metric="log_loss", submission="probabilities"), SETS)


def predicted(settings, member, fold):
    store = open_store(settings)
    test = load_competition(settings, store).tables.test
    return fold_models(settings, store, test, "test").predict(member, fold, np.arange(len(test)))


def test_the_submission_is_the_blend_of_models_that_have_seen_all_rows(settings, capsys, caplog):
    pipeline.train(settings)
    pipeline.blend(settings)
    by_folds = pd.read_csv(pipeline.infer(settings))
    with caplog.at_level("INFO"):
        pipeline.train(settings, folds="refit")
    assert "models of all rows have no score" in caplog.text
    store = open_store(settings)
    for name in NAMES:
        card = store.fold(name, REFIT).check()
        assert (card.rows.train, card.rows.valid, card.score) == (36, 0, None)
        assert len(store.fold(name, REFIT).oof()) == 0
    capsys.readouterr()
    path = pipeline.infer(settings, refit=True)
    said = capsys.readouterr().out
    assert f"by models of all rows: {', '.join(NAMES)}; the score is that of their folds'" in said
    expected_N = np.mean([predicted(settings, name, REFIT)[:, 0] for name in NAMES], axis=0)
    np.testing.assert_allclose(pd.read_csv(path)["target"], expected_N, atol=1e-6)
    assert json.loads(path.with_suffix(".json").read_text())["refit"] == NAMES
    again = pd.read_csv(pipeline.infer(settings))
    pd.testing.assert_frame_equal(again, by_folds)
    assert (again["target"] - expected_N).abs().max() > 1e-4
    pipeline.check(settings)
    assert "refit" in {path.name for path in store.fold_folder(NAMES[0], 0).parent.iterdir()}


def test_the_same_command_trains_nothing_twice_and_the_board_shows_both(settings, capsys, caplog):
    pipeline.train(settings)
    pipeline.blend(settings)
    pipeline.train(settings, poolers="tfidf", folds="refit")
    card = open_store(settings).fold_folder(NAMES[0], REFIT) / "card.json"
    before = card.read_bytes()
    pipeline.train(settings, folds="refit")
    assert card.read_bytes() == before
    shown = pipeline.board(settings)
    assert "refit: the same by the model of all rows" in shown
    assert "  refit  " in shown
    members = json.loads(pipeline.board(settings, as_json=True))["members"]
    for row in members:  # the hidden states of frozen layers are computed once for any number
        own, shared = row["predict_seconds"] - row["shared_seconds"], row["shared_seconds"]
        assert row["refit_seconds"] == pytest.approx(own / 2 + shared, rel=1e-6)
    assert sum(row["shared_seconds"] > 0 for row in members) == 2


def test_only_members_with_weight_are_trained_unless_they_are_named(settings):
    pipeline.train(settings)
    pipeline.blend(settings, members=NAMES[:2])
    pipeline.train(settings, folds="refit")
    store = open_store(settings)
    trained = [name for name in NAMES if store.fold(name, REFIT).card() is not None]
    assert trained == NAMES[:2]
    pipeline.train(settings, poolers="mean", folds="refit")
    assert all(store.fold(name, REFIT).card() for name in NAMES)


def test_fold_models_stand_in_for_members_that_have_none(settings, caplog):
    pipeline.train(settings)
    pipeline.blend(settings)
    with pytest.raises(UserError, match="no member of the blend has a model of all rows; run tr"):
        pipeline.infer(settings, refit=True)
    pipeline.train(settings, poolers="tfidf", folds="refit")
    with caplog.at_level("INFO"):
        path = pipeline.infer(settings, refit=True)
    assert f"no model of all rows: {', '.join(NAMES[1:])}; those of the folds are used" in (
        caplog.text
    )
    means = [np.mean([predicted(settings, name, k)[:, 0] for k in (0, 1)], 0) for name in NAMES[1:]]
    expected_N = np.mean([predicted(settings, NAMES[0], REFIT)[:, 0], *means], axis=0)
    np.testing.assert_allclose(pd.read_csv(path)["target"], expected_N, atol=1e-6)


def test_a_bundle_of_them_needs_no_fold_model_and_no_flag(settings, tmp_path):
    pipeline.train(settings)
    pipeline.blend(settings)
    pipeline.train(settings, folds="refit")
    expected = pd.read_csv(pipeline.infer(settings, refit=True))
    wheels = tmp_path / "wheels"
    write_wheels(wheels, bundling.LACKING)
    with pytest.raises(UserError, match="--fp16 compares predictions of out-of-fold rows"):
        pipeline.bundle(settings, tmp_path / "bundle", wheels=wheels, half=True, refit=True)
    folder = pipeline.bundle(settings, tmp_path / "bundle", wheels=wheels, refit=True)
    there = settings.model_copy(update={"store": str(folder / "dataset")})
    assert not list((folder / "dataset" / "models").rglob("fold*"))
    pipeline.infer(there, out=tmp_path / "there.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "there.csv"), expected, atol=1e-6)


def test_models_of_other_settings_than_the_folds_are_refused(settings):
    pipeline.train(settings)
    pipeline.blend(settings)
    train = settings.train.model_copy(update={"lr": 5e-4})
    other = settings.model_copy(update={"train": train})
    pipeline.train(other, poolers="mean", folds="refit")
    with pytest.raises(UserError, match="tiny-mean-.*refit and its folds were trained differently"):
        pipeline.infer(settings, refit=True)


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("train.early_stopping=1", "no row is left that could choose its epoch"),
        ("pseudo.labels=first", "its pseudo-labels are made for each fold"),
    ],
)
def test_members_that_learn_from_a_folds_rows_have_none(toy, key, line):
    settings = config.load(toy(n=24, n_test=6), [key])
    with pytest.raises(UserError, match=f"--fold refit: no member gets .*: {line}"):
        pipeline.train(settings, folds="refit")


def test_a_blend_of_older_fold_models_is_refused(settings):
    pipeline.train(settings)
    pipeline.blend(settings)
    other = settings.model_copy(update={"head": settings.head.model_copy(update={"dropout": 0.3})})
    pipeline.train(other, poolers="mean", overwrite=True)
    pipeline.train(other, poolers="mean", folds="refit")
    with pytest.raises(UserError, match="tiny-mean-.* fold 0 was trained again after the blend"):
        pipeline.infer(other, refit=True)


def test_check_and_dry_run_know_them(settings, capsys):
    pipeline.train(settings)
    pipeline.blend(settings, members=NAMES[:1])
    capsys.readouterr()
    pipeline.dry_run(settings, folds="refit")
    said = capsys.readouterr().out
    assert "1 fold is to be trained" in said
    assert NAMES[0] in said
    assert NAMES[3] not in said
    pipeline.train(settings, folds="refit")
    train = settings.data_dir / "train.csv"
    train.write_text(train.read_text().replace("lovely", "pretty"))
    with pytest.raises(UserError, match="9 stale"):
        pipeline.check(settings)


def test_check_says_how_to_train_them_again(settings):
    pipeline.train(settings)
    pipeline.blend(settings)
    other = settings.model_copy(update={"head": settings.head.model_copy(update={"dropout": 0.3})})
    pipeline.train(other, poolers="mean", folds="refit")
    with pytest.raises(
        UserError, match="2 stale .* repair it: python train.py --fold refit --over"
    ):
        pipeline.check(settings)
    pipeline.train(settings, poolers="mean", folds="refit", overwrite=True)
    pipeline.check(settings)


def test_predictions_of_any_rows_are_made_with_them(settings):
    pipeline.train(settings)
    pipeline.blend(settings)
    pipeline.train(settings, folds="refit")
    test = pd.read_csv(settings.data_dir / "test.csv")
    found_N = pipeline.predict(settings, test, refit=True)["pred_target"]
    submitted_N = pd.read_csv(pipeline.infer(settings, refit=True))["target"]
    np.testing.assert_allclose(found_N, submitted_N, atol=1e-6)
