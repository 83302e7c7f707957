"""Pseudo-labels for a fold are made without anything that has learned the fold's labels."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit, logit

from poolblend import config, pipeline
from poolblend.competition.metrics import make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling import compact
from poolblend.ensembling.fitting import Fitted, fit_blends
from poolblend.ensembling.honesty import compare, fits_without_folds
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import Mixture, Space
from poolblend.ensembling.options import Blend
from poolblend.errors import UserError
from poolblend.jobs.best_epoch import BestEpoch
from poolblend.jobs.blend_plan import fold_models
from poolblend.loading.competition import describe_task, load_competition, open_store
from poolblend.pipeline import pseudo
from poolblend.store.predictions import from_table
from rig import toys

MEMBERS = ["tiny-max-s42", "tiny-mean-s42"]


@pytest.fixture(scope="module")
def trained(_imported, tiny_backbone, tmp_path_factory):
    """A toy competition with two members trained, kept for all tests."""
    place = tmp_path_factory.mktemp("trained")
    path = toys.write_toy(place, tiny_backbone, n=36, n_test=8, metric="log_loss")
    pipeline.train(config.load(path))
    return place


@pytest.fixture
def make(trained, tmp_path):
    """Blends under some settings in a copy of the store; the settings."""

    def blend(*sets, **chosen):
        if not (tmp_path / "store").exists():
            shutil.copytree(trained / "store", tmp_path / "store")
        quick = ["blend={resamples: 50, fitters: [equal,best]}"]
        places = [f"store={tmp_path / 'store'}", *quick]
        settings = config.load(trained / "toy.yaml", [*places, *sets])
        pipeline.blend(settings, **chosen)
        return settings

    return blend


def here(settings):
    competition = load_competition(settings, open_store(settings))
    told = {key: competition.data[key] for key in ("train_sha256", "folds_sha256")}
    return {**told, "task": describe_task(competition.task)}


def test_a_folds_labels_are_its_own_models_predictions_mixed_by_its_own_weights(
    make, monkeypatch, capsys
):
    settings = make("blend.fitter=equal")
    weights_FM = np.array([[0.3, 0.7], [0.6, 0.4], [0.9, 0.1]])
    space, none_K = Space("logit", "binary"), np.zeros(1)
    fits = [
        {"equal": Fitted(Mixture(space, weights_M[:, None], none_K), {})}
        for weights_M in weights_FM
    ]
    monkeypatch.setattr(pseudo, "fits_without_folds", lambda *_: fits)
    pipeline.write_pseudo_labels(settings, "first")
    printed = capsys.readouterr().out
    store = open_store(settings)
    test = load_competition(settings, store).tables.test
    models = fold_models(settings, store, test, "test")
    for fold in range(3):
        rows = np.arange(len(test))
        pred_MNK = [models.predict(member, fold, rows) for member in MEMBERS]
        mixed_NK = expit(np.tensordot(weights_FM[fold], logit(np.array(pred_MNK)), 1))
        labels = store.read_pseudo("first", fold, **here(settings))
        np.testing.assert_allclose(from_table(labels, test["id"], ("target",)), mixed_NK)
        sure = np.maximum(mixed_NK, 1 - mixed_NK).mean()
        assert f"fold {fold}: 8 rows, mean confidence {sure:.3f}, by " in printed
    assert f"pseudo-labels first: {store.pseudo_folder / 'first'}\n" in printed


def test_the_weights_are_those_that_the_blends_honest_score_is_of(make):
    settings = make("blend.fitter=shrunk", "blend.space=logit", "seed=5")
    store = open_store(settings)
    others = config.load(settings.data_dir.parent / "toy.yaml", [f"store={store.root}"])
    pipeline.write_pseudo_labels(others, "first")  # the blend's own settings count
    told = store.read_blend()["blenders"]["shrunk"]
    for fold, made in enumerate(store.pseudo("first").card()["folds"]):
        weights = [made["members"].get(member, {"weight": 0})["weight"] for member in MEMBERS]
        assert weights == pytest.approx(told["fold_weights"][fold])
        assert made["mixture"]["space"] == "logit"


def test_the_card_says_what_made_them(make):
    settings = make("blend.fitter=equal")
    store = open_store(settings)
    pipeline.write_pseudo_labels(settings, "first")
    card = store.pseudo("first").card()
    assert {key: card[key] for key in here(settings)} == here(settings)
    assert card["blend"]["blender"] == "equal"
    for fold, told in enumerate(card["folds"]):
        assert told["fold"] == told["without"] == fold
        assert told["members"] == {
            member: {
                "fold": fold,
                "weight": 0.5,
                "weights_sha256": store.fold_card(member, fold)["weights"]["sha256"],
            }
            for member in MEMBERS
        }


def test_models_without_weight_are_not_run(make):
    settings = make("blend.fitter=best")
    pipeline.write_pseudo_labels(settings, "first")
    store = open_store(settings)
    for fold, told in enumerate(store.pseudo("first").card()["folds"]):
        kept = [member for member in MEMBERS if store.test_path(member, fold).exists()]
        assert list(told["members"]) == kept
        assert len(kept) == 1


# --- weights -------------------------------------------------------------------------------------

BINARY = Task("binary", ("t",), (0, 1))
SCORER = make_scorer("log_loss", BINARY)
OPTIONS = Blend(trials=8)


def seen():
    """Binary labels, and three members that see their signal through noise of their own."""
    rng = np.random.default_rng(0)
    signal_N = rng.normal(size=160)
    y = (signal_N + 0.5 * rng.normal(size=160) > 0).astype(np.int64)
    oof_MN = expit(2 * signal_N + np.array([[0.9], [1.1], [1.4]]) * rng.normal(size=(3, 160)))
    ids_N, fold_N = np.arange(160).astype(str), np.arange(160) % 4
    return OofMatrix(ids_N, fold_N, y, oof_MN[:, :, None], ("a", "b", "c"), ("t",))


@pytest.mark.parametrize("blender", ["convex", "greedy", "stack", "optuna"])
def test_the_weights_of_a_fold_are_those_of_its_honest_score_and_do_not_see_its_labels(blender):
    given = seen()
    y = np.where(given.fold_N == 2, 1 - given.y, given.y)
    before, after = (
        [
            fitted[blender].mixture.to_json()
            for fitted in fits_without_folds([blender], matrix, SCORER, OPTIONS)
        ]
        for matrix in (given, replace(given, y=y))
    )
    report = compare(given, SCORER, OPTIONS.model_copy(update={"fitters": [blender]}))
    assert before == [m.to_json() for m in report.reports[blender].fold_mixtures]
    assert after[2] == before[2]
    for fold in (0, 1, 3):
        assert after[fold] != before[fold]
    in_sample, poisoned = (
        fit_blends([blender], matrix, SCORER, OPTIONS)[blender].mixture
        for matrix in (given, replace(given, y=y))
    )
    assert poisoned.to_json() != in_sample.to_json()


def test_of_very_many_classes_the_weights_are_those_that_the_blend_fits(monkeypatch, tmp_path):
    monkeypatch.setattr(compact, "LARGE", 10_000)
    rng = np.random.default_rng(0)
    y = rng.integers(200, size=120)
    oof_MNK = rng.random((3, 120, 200))
    oof_MNK[:, np.arange(120), y] += 40 * rng.random((3, 120)) ** 4
    oof_MNK /= oof_MNK.sum(axis=2, keepdims=True)
    task = Task("multiclass", ("t",), tuple(range(200)))
    scorer = make_scorer("log_loss", task)
    ids_N, fold_N = np.arange(120).astype(str), np.arange(120) % 3
    matrix = OofMatrix(ids_N, fold_N, y, oof_MNK, ("a", "b", "c"), task.outputs)
    options = Blend(fitters=["equal", "best", "convex"])
    report = compare(*compact.compacted(matrix, scorer), options).reports["convex"]
    settings = {"space": "auto", "weights": "shared", "thresholds": "auto", "trials": 8}
    card = {
        "blender": "convex",
        "blenders": {"equal": {}, "best": {}, "convex": {}},
        "metric": "log_loss",
        "config": {"blend": settings, "seed": 42},
    }
    gathered = SimpleNamespace(matrix=matrix, competition=SimpleNamespace(task=task))
    store = SimpleNamespace(blend_path=tmp_path)
    for made, fitted in zip(
        pseudo._cross_fitted(store, card, gathered), report.fold_mixtures, strict=True
    ):
        assert made.weights_MK.shape == (3, 200)
        assert (made.weights_MK == fitted.weights_MK[:, :1]).all()
        assert len(np.unique(made.weights_MK)) > 1
        assert made.space.name == fitted.space.name


# --- what is refused -----------------------------------------------------------------------------


def test_the_same_again_changes_nothing_and_another_blend_is_refused(make, capsys):
    settings = make("blend.fitter=equal")
    pipeline.write_pseudo_labels(settings, "first")
    folder = open_store(settings).pseudo("first").folder
    before = {path: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    pipeline.write_pseudo_labels(settings, "first")
    assert capsys.readouterr().out.endswith("first (kept earlier, the same)\n")
    other = make("blend.fitter=best")
    with pytest.raises(UserError, match="first are there already, made otherwise"):
        pipeline.write_pseudo_labels(other, "first")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_members_from_elsewhere_are_refused_by_name(make, tmp_path):
    settings = make("blend.fitter=equal")
    ids = load_competition(settings, open_store(settings)).tables.train["id"]
    (tmp_path / "outside").mkdir()
    lines = "".join(f"{id},{0.2 + n % 5 / 10}\n" for n, id in enumerate(ids))
    (tmp_path / "outside" / "gbm.csv").write_text(f"id,pred\n{lines}")
    make("blend.fitter=equal", members_from=str(tmp_path / "outside"))
    with pytest.raises(UserError, match=r"members from elsewhere \(gbm\), whose test predictions"):
        pipeline.write_pseudo_labels(settings, "first")
    assert open_store(settings).pseudo_names() == []


def test_ranks_are_refused(make):
    settings = make("blend.space=rank", "metric=roc_auc", "blend.fitter=equal")
    with pytest.raises(UserError, match="the blend averages ranks, which are no labels; run blend"):
        pipeline.write_pseudo_labels(settings, "first")


def test_ranks_that_one_fold_alone_chose_are_refused(make, monkeypatch):
    settings = make("blend.fitter=equal")

    def ranked(*args):
        for fold, fitted in enumerate(fits_without_folds(*args)):
            mixture = fitted["equal"].mixture
            ranks = replace(mixture, space=replace(mixture.space, name="rank"))
            yield {"equal": Fitted(ranks if fold == 1 else mixture, {})}

    monkeypatch.setattr(pseudo, "fits_without_folds", ranked)
    with pytest.raises(UserError, match="without fold 1 the blend averages ranks"):
        pipeline.write_pseudo_labels(settings, "first")
    assert open_store(settings).pseudo_names() == []


def test_models_trained_since_the_blend_are_refused(make):
    settings = make("blend.fitter=equal")
    store = open_store(settings)
    card = store.read_blend()
    card["members"][MEMBERS[0]]["folds"][1]["weights_sha256"] = "0" * 64
    store.write_blend(card)
    with pytest.raises(UserError, match="tiny-max-s42 fold 1 was trained again after the blend"):
        pipeline.write_pseudo_labels(settings, "first")


@pytest.mark.parametrize("name", ["", "../first", "a b", ".first", "nul"])
def test_a_name_that_is_no_part_of_a_path_is_refused(trained, name):
    settings = config.load(trained / "toy.yaml")
    with pytest.raises(UserError, match="^--pseudo-labels '.*': the name becomes part of a file"):
        pipeline.write_pseudo_labels(settings, name)


def test_before_any_blend_it_is_said_what_to_run(trained):
    with pytest.raises(UserError, match="run blend.py first"):
        pipeline.write_pseudo_labels(config.load(trained / "toy.yaml"), "first")


@pytest.mark.parametrize("known", [True, False])
def test_labels_of_members_that_were_stopped_early_are_refused(toy, monkeypatch, known):
    """Which epoch they kept depends on the labels of the fold's own rows, flattering or not."""
    if not known:  # as of a label so rare that no half of the rows has a score
        monkeypatch.setattr(BestEpoch, "optimism", lambda self, seed: None)
    settings = config.load(toy(), ["folds.n=2", "members=[max]", "train.early_stopping=1"])
    pipeline.train(settings)
    blend = pipeline.blend(settings)
    assert (f"members, and blends of them: {MEMBERS[0]} (unknown)." in str(blend)) != known
    with pytest.raises(UserError, match="tiny-max-s42 was stopped early, by the labels of"):
        pipeline.write_pseudo_labels(settings, "first")
