"""Pseudo-labels for a fold are made without anything that has learned the fold's labels."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit, logit

from poolblend import pipeline
from poolblend.cards.blend import FitOptions
from poolblend.competition.metrics import make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling import compact
from poolblend.ensembling.fitting import Fitted, fit_blends
from poolblend.ensembling.honesty import compare, fits_without_folds
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import Mixture, Space
from poolblend.ensembling.options import Blend
from poolblend.errors import UserError
from poolblend.loading.competition import load_competition, open_store
from poolblend.pipeline import pseudo
from poolblend.store.predictions import from_table
from rig.edited import edit_card
from rig.fold_models import fold_models

MEMBERS = ["tiny-max-s42", "tiny-mean-s42"]


@pytest.fixture
def blended(trained):
    """Function of further config keys: the settings of a copy that was blended with them."""

    def blend(*sets, **chosen):
        settings = trained(*sets)
        pipeline.blend(settings, **chosen)
        return settings

    return blend


def test_a_folds_labels_are_its_own_models_predictions_mixed_by_its_own_weights(
    blended, monkeypatch, capsys
):
    settings = blended("blend.fitter=equal")
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
    competition = load_competition(settings, store)
    test = competition.tables.test
    models = fold_models(settings, store, test, "test")
    for fold in range(3):
        rows = np.arange(len(test))
        pred_MNK = [models.predict(member, fold, rows) for member in MEMBERS]
        mixed_NK = expit(np.tensordot(weights_FM[fold], logit(np.array(pred_MNK)), 1))
        files = store.pseudo("first")
        labels = files.read(fold, data=competition.data, task=competition.task)
        np.testing.assert_allclose(from_table(labels, test["id"], ("target",)), mixed_NK)
        sure = np.maximum(mixed_NK, 1 - mixed_NK).mean()
        assert f"fold {fold}: 8 rows, mean confidence {sure:.3f}, by " in printed
    assert f"pseudo-labels first: {store.pseudo_folder / 'first'}\n" in printed


def test_the_weights_are_those_that_the_blends_honest_score_is_of(blended, trained):
    store = open_store(blended("blend.fitter=shrunk", "blend.space=logit", "seed=5"))
    pipeline.write_pseudo_labels(trained(), "first")  # the blend's own settings count
    card, blend = store.pseudo("first").card(), store.read_blend()
    assert card.blend.blender == "shrunk"
    assert [(fold.fold, fold.without) for fold in card.folds] == [(0, 0), (1, 1), (2, 2)]
    for fold, made in enumerate(card.folds):
        weights = [made.members[name].weight if name in made.members else 0 for name in MEMBERS]
        assert weights == pytest.approx(blend.blenders["shrunk"].fold_weights[fold])
        assert made.mixture.space == "logit"
        for name, member in made.members.items():
            hashes = store.fold(name, fold).card().files
            assert (member.fold, member.weights_sha256) == (fold, hashes.weights.sha256)


def test_models_without_weight_are_not_run(blended):
    settings = blended("blend.fitter=best")
    pipeline.write_pseudo_labels(settings, "first")
    store = open_store(settings)
    for fold, made in enumerate(store.pseudo("first").card().folds):
        kept = [member for member in MEMBERS if store.test_path(member, fold).exists()]
        assert list(made.members) == kept
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


def test_of_very_many_classes_the_weights_are_those_that_the_blend_fits(monkeypatch):
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
    report = compare(*compact.compact_matrix(matrix, scorer), options).reports["convex"]
    card = SimpleNamespace(
        blender="convex",
        blenders=("equal", "best", "convex"),
        metric="log_loss",
        options=FitOptions(space="auto", weights="shared", thresholds="auto", trials=8, seed=42),
    )
    gathered = SimpleNamespace(matrix=matrix, competition=SimpleNamespace(task=task, scorer=scorer))
    for made, fitted in zip(
        pseudo._cross_fitted(card, gathered), report.fold_mixtures, strict=True
    ):
        assert made.weights_MK.shape == (3, 200)
        assert (made.weights_MK == fitted.weights_MK[:, :1]).all()
        assert len(np.unique(made.weights_MK)) > 1
        assert made.space.name == fitted.space.name


# --- what is refused -----------------------------------------------------------------------------


def test_the_same_again_changes_nothing_and_another_blend_is_refused(blended, trained, capsys):
    settings = blended("blend.fitter=equal")
    pipeline.write_pseudo_labels(settings, "first")
    folder = open_store(settings).pseudo("first").folder
    before = {path: path.read_bytes() for path in folder.iterdir()}
    pipeline.write_pseudo_labels(settings, "first")
    assert capsys.readouterr().out.endswith("first (the same labels existed)\n")
    edit_card(open_store(settings).blend_path, lambda card: card.update(blender="best"))
    with pytest.raises(UserError, match="first exist already, made in another way"):
        pipeline.write_pseudo_labels(settings, "first")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_members_from_elsewhere_are_refused_by_name(trained, tmp_path):
    settings = trained("blend.fitter=equal")
    ids = load_competition(settings, open_store(settings)).tables.train["id"]
    (tmp_path / "outside").mkdir()
    lines = "".join(f"{id},{0.2 + n % 5 / 10}\n" for n, id in enumerate(ids))
    (tmp_path / "outside" / "gbm.csv").write_text(f"id,pred\n{lines}")
    pipeline.blend(settings, members_from=str(tmp_path / "outside"))
    with pytest.raises(UserError, match=r"members from elsewhere \(gbm\), whose test predictions"):
        pipeline.write_pseudo_labels(settings, "first")
    assert open_store(settings).pseudo_names() == []


def test_ranks_are_refused_even_those_that_one_fold_alone_chose(blended, monkeypatch):
    settings = blended("blend.fitter=equal", "blend.space=plain")

    def ranked(*args):
        for fold, fitted in enumerate(fits_without_folds(*args)):
            mixture = fitted["equal"].mixture
            ranks = replace(mixture, space=replace(mixture.space, name="rank"))
            yield {"equal": Fitted(ranks if fold == 1 else mixture, {})}

    monkeypatch.setattr(pseudo, "fits_without_folds", ranked)
    with pytest.raises(UserError, match="without fold 1 the blend averages ranks"):
        pipeline.write_pseudo_labels(settings, "first")
    pipeline.blend(settings.model_copy(update={"metric": "roc_auc", "blend": rank(settings)}))
    with pytest.raises(UserError, match="the blend averages ranks, which are no labels; run blend"):
        pipeline.write_pseudo_labels(settings, "first")
    assert open_store(settings).pseudo_names() == []


def rank(settings):
    return settings.blend.model_copy(update={"space": "rank"})


def test_labels_of_members_that_were_stopped_early_are_refused(blended):
    """Which epoch they kept depends on the labels of the fold's own rows."""
    settings = blended("blend.fitter=equal")

    def stop(card):
        card["members"][MEMBERS[0]]["origin"]["stopped_early"] = True

    edit_card(open_store(settings).blend_path, stop)
    with pytest.raises(UserError, match="tiny-max-s42 was trained with early stopping on"):
        pipeline.write_pseudo_labels(settings, "first")


@pytest.mark.parametrize("name", ["", "../first", "a b", ".first", "nul"])
def test_a_name_that_is_no_part_of_a_path_is_refused(trained, name):
    with pytest.raises(UserError, match="^--pseudo-labels '.*': the name becomes part of a file"):
        pipeline.write_pseudo_labels(trained(), name)
