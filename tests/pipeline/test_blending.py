"""Blends of members from anywhere, and what inference does with spaces, cuts and weights."""

import errno
import logging
import shutil

import numpy as np
import optuna
import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.ensembling import compact, many_rows
from poolblend.ensembling.choice import choose
from poolblend.errors import UserError
from poolblend.loading.competition import open_store
from poolblend.store import artefacts, read_folds
from poolblend.store.foldfiles import FoldFiles
from rig.edited import edit_card

FITTERS = "blend.fitters=[equal,best,convex]"


@pytest.fixture
def elsewhere(toy, tmp_path):
    """Makes a toy competition with members of other tools: config path, and the members' folder.

    The members see the truth through noise of their own; the test files see it, too.
    """

    def make(task="binary", names=("gbm", "knn", "nb"), with_test=True, **keys):
        path = toy(task, **{"blend": {}, **keys})
        settings = config.load(path)
        folder = tmp_path / "members"
        (folder / "test").mkdir(parents=True)
        targets = list(settings.data.target)
        rng = np.random.default_rng(0)
        for table, place in (("train", folder), ("test_labels", folder / "test")):
            truth = pd.read_csv(settings.data_dir / f"{table}.csv")
            for name in names:
                seen = truth[["id"]].copy()
                for target in targets:
                    noisy = truth[target] + rng.normal(0, 0.6, len(truth))
                    seen[f"pred_{target}"] = (
                        noisy if task == "regression" else 1 / (1 + np.exp(1 - 2 * noisy))
                    )
                if with_test or place == folder:
                    seen.to_csv(place / f"{name}.csv", index=False)
        return path, folder

    return make


@pytest.mark.parametrize("task", ["binary", "multilabel", "regression"])
def test_members_from_elsewhere_alone_make_a_submission(elsewhere, task):
    path, folder = elsewhere(task)
    settings = config.load(path, [FITTERS])
    blend = pipeline.blend(settings, members_from=str(folder))
    assert blend.matrix.members == ("gbm", "knn", "nb")
    submission = pd.read_csv(pipeline.infer(settings))
    assert len(submission) == 15
    assert read_folds(open_store(settings).folds_path) is not None


def test_members_from_elsewhere_join_those_trained_here(elsewhere):
    path, folder = elsewhere()
    settings = config.load(path, [FITTERS])
    pipeline.train(settings, poolers="mean")
    blend = pipeline.blend(settings, members_from=str(folder))
    assert blend.matrix.members == ("gbm", "knn", "nb", "tiny-mean-s42")
    chosen = pipeline.blend(settings, members=["nb", "tiny-mean-s42"], members_from=str(folder))
    assert chosen.matrix.members == ("nb", "tiny-mean-s42")
    pipeline.infer(settings)


def test_the_blend_of_the_test_files_is_what_is_submitted(elsewhere):
    path, folder = elsewhere("regression")
    settings = config.load(path, ["blend.fitter=equal", FITTERS])
    pipeline.blend(settings, members_from=str(folder))
    submission = pd.read_csv(pipeline.infer(settings)).set_index("id")
    tables = [pd.read_csv(file).set_index("id") for file in sorted((folder / "test").iterdir())]
    mean = sum(tables) / 3
    np.testing.assert_allclose(submission["a"], mean["pred_a"].loc[submission.index])


def test_the_order_of_rows_and_files_changes_nothing(elsewhere):
    path, folder = elsewhere()
    settings = config.load(path, ["blend.trials=20"])
    first = pipeline.blend(settings, members_from=str(folder)).card
    for file in folder.glob("*.csv"):
        pd.read_csv(file).sample(frac=1, random_state=1).to_csv(file, index=False)
    again = pipeline.blend(settings, members_from=str(folder)).card
    assert again.blenders == first.blenders
    assert again.sentence == first.sentence


def test_the_search_is_kept_as_a_study_only_where_it_is_asked_for(elsewhere, caplog):
    path, folder = elsewhere()
    sets = ["blend.trials=5", "blend.fitters=[optuna]", "blend.resamples=50"]
    study_path = open_store(config.load(path)).study_path
    pipeline.blend(config.load(path, sets), members_from=str(folder))
    assert not study_path.exists()
    asked = [*sets, "blend.study=true"]
    for _ in range(2):  # the second replaces the first
        report = pipeline.blend(config.load(path, asked), members_from=str(folder))
    journal = optuna.storages.journal.JournalFileBackend(str(study_path))
    storage = optuna.storages.JournalStorage(journal)
    study = optuna.load_study(study_name=None, storage=storage)
    assert study.study_name == "toy"
    assert study.direction.name == "MAXIMIZE"
    history = report.reports["optuna"].searches[""]
    assert [trial.value for trial in study.trials] == [-trial.loss for trial in history]
    names = report.matrix.members
    weights = [tuple(trial.params[name] for name in names) for trial in study.trials]
    assert weights == [trial.weights_M for trial in history]
    assert not [file for file in study_path.parent.iterdir() if file.name.startswith(".")]
    pipeline.blend(config.load(path, ["blend.study=true", FITTERS]), members_from=str(folder))
    assert "no search ran, so there is no study to write" in caplog.text


def test_folds_that_the_members_carry_are_the_ones_scored_over(elsewhere):
    path, folder = elsewhere()
    for file in folder.glob("*.csv"):
        table = pd.read_csv(file)
        table["fold"] = np.arange(len(table)) % 4 + 1
        table.to_csv(file, index=False)
    settings = config.load(path, [FITTERS])
    blend = pipeline.blend(settings, members_from=str(folder))
    assert blend.choice.n_folds == 4
    pipeline.infer(settings)
    pipeline.blend(settings, members_from=str(folder))


def test_a_member_without_test_predictions_is_refused_when_it_has_weight(elsewhere):
    path, folder = elsewhere(with_test=False)
    settings = config.load(path, ["blend.fitter=equal", FITTERS])
    pipeline.blend(settings, members_from=str(folder))
    with pytest.raises(
        UserError, match=r"member gbm has a weight of 0.333 but no test predictions"
    ):
        pipeline.infer(settings)


@pytest.mark.parametrize("spoil", ["change", "remove"])
def test_test_predictions_that_changed_since_the_blend_are_refused(elsewhere, spoil):
    path, folder = elsewhere()
    settings = config.load(path, ["blend.fitter=equal", FITTERS])
    pipeline.blend(settings, members_from=str(folder))
    file = folder / "test" / "knn.csv"
    if spoil == "remove":
        file.unlink()
    else:
        file.write_text(file.read_text().replace("0.", "0.1", 1))
    with pytest.raises(UserError, match="test predictions of member knn, is .* since the blend"):
        pipeline.infer(settings)


@pytest.mark.parametrize("place", ["store", "members_from", "elsewhere"])
def test_test_predictions_that_moved_are_found_by_name_and_hash(elsewhere, place, tmp_path):
    path, folder = elsewhere()
    settings = config.load(path, ["blend.fitter=equal", FITTERS])
    pipeline.blend(settings, members_from=str(folder))
    first = pd.read_csv(pipeline.infer(settings))
    root = tmp_path / "moved"
    shutil.copytree(tmp_path / "store", root / "store")
    shutil.move(folder, root / "store" / folder.name if place == "store" else root / "mine")
    settings = config.load(path, ["blend.fitter=equal", FITTERS, f"store={root / 'store'}"])
    if place != "members_from":
        decoy = root / "store" / "knn.csv"
        decoy.write_text("id,pred\n")  # of that name, with other bytes
    chosen = {"members_from": str(root / "mine")} if place == "members_from" else {}
    if place == "elsewhere":
        with pytest.raises(UserError, match=r"is gone since the blend, .* with --members-from"):
            pipeline.infer(settings)
    else:
        pd.testing.assert_frame_equal(pd.read_csv(pipeline.infer(settings, **chosen)), first)


def test_thresholds_fitted_in_the_blend_decide_the_submission(elsewhere):
    path, folder = elsewhere()
    settings = config.load(path, ["blend.fitter=equal", FITTERS, "blend.thresholds=fitted"])
    result = pipeline.blend(settings, members_from=str(folder))
    assert ", with thresholds fitted on the other folds\n" in result.report
    (cut,) = result.card.mixture.cuts
    assert 0 < cut < 0.99
    place = open_store(settings).blend_path
    edit_card(place, lambda card: card["mixture"].update(cuts=[0.99]))
    assert pd.read_csv(pipeline.infer(settings))["target"].sum() == 0
    edit_card(place, lambda card: card["mixture"].update(cuts=[0.01]))
    assert (pd.read_csv(pipeline.infer(settings))["target"] == 1).all()


@pytest.mark.parametrize("space", ["plain", "logit", "rank"])
def test_a_blend_is_applied_in_the_space_it_was_fitted_in(elsewhere, space):
    path, folder = elsewhere(metric="roc_auc")
    settings = config.load(path, ["blend.fitter=equal", FITTERS, f"blend.space={space}"])
    blend = pipeline.blend(settings, members_from=str(folder))
    assert blend.used.mixture.space.name == space
    submission = pd.read_csv(pipeline.infer(settings)).set_index("id")["target"]
    names = blend.matrix.members
    test = [pd.read_csv(folder / "test" / f"{n}.csv").set_index("id")["pred_target"] for n in names]
    pred_MNK = np.stack([each.loc[submission.index] for each in test])[:, :, None]
    np.testing.assert_allclose(submission, blend.used.mixture.apply(pred_MNK)[:, 0])


def test_weights_per_output_are_in_the_card_and_in_the_submission(elsewhere):
    path, folder = elsewhere("regression")
    settings = config.load(path, ["blend.fitter=convex", "blend.weights=per_output", FITTERS])
    card = pipeline.blend(settings, members_from=str(folder)).card
    weights = np.array(card.mixture.weights)
    assert weights.shape == (3, 2)
    assert not np.allclose(weights[:, 0], weights[:, 1])
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    submission = pd.read_csv(pipeline.infer(settings)).set_index("id")
    tables = [pd.read_csv(folder / "test" / f"{n}.csv").set_index("id") for n in card.members]
    b = sum(w * t["pred_b"] for w, t in zip(weights[:, 1], tables, strict=True))
    np.testing.assert_allclose(submission["b"], b.loc[submission.index])


def test_weights_per_output_are_refused_where_the_metric_is_no_mean(elsewhere):
    path, folder = elsewhere("multilabel", metric="f1_micro")
    settings = config.load(path, ["blend.weights=per_output", FITTERS])
    with pytest.raises(
        UserError, match="f1_micro of a multilabel task is not a mean over its outputs"
    ):
        pipeline.blend(settings, members_from=str(folder))


@pytest.mark.parametrize("key", ["groups", "slices"])
def test_an_unknown_column_to_slice_or_group_by_is_refused(elsewhere, key):
    path, folder = elsewhere()
    settings = config.load(path, [f"blend.{key}=txt", FITTERS])
    with pytest.raises(
        UserError, match=f"unknown column 'txt' for blend.{key}; did you mean 'text'"
    ):
        pipeline.blend(settings, members_from=str(folder))


def test_slices_and_what_each_member_brings_are_told(elsewhere):
    path, folder = elsewhere()
    settings = config.load(path, ["blend.slices=[target]", FITTERS])
    blend = pipeline.blend(settings, members_from=str(folder))
    assert list(blend.findings.slices) == ["words of text", "target"]
    assert blend.findings.slices["target"]["rows"].sum() == 60
    assert blend.findings.refits_RM.shape[1] == 3
    assert list(blend.findings.without.index) == list(blend.matrix.members)
    assert blend.card == open_store(settings).read_blend()
    told = str(blend)
    assert "loss without it" in told
    assert "decide" in blend.card.diversity.sentence
    assert "gain over equal" in told
    assert "target" in told


def test_one_member_is_taken_as_it_is(elsewhere):
    path, folder = elsewhere(names=("gbm",))
    settings = config.load(path)
    blend = pipeline.blend(settings, members_from=str(folder))
    assert list(blend.reports) == ["equal"]
    assert str(blend).count("gbm") == 2
    assert "nothing to blend" in str(blend)
    pipeline.infer(settings)


def with_one_value(folder, name, *columns):
    table = pd.read_csv(folder / f"{name}.csv")
    table[list(columns)] = 0.4
    table.to_csv(folder / f"{name}.csv", index=False)


def test_a_member_constant_in_one_output_is_said_and_does_not_stop_the_blend(elsewhere):
    path, folder = elsewhere("regression", metric="pearson")
    with_one_value(folder, "knn", "pred_a")
    settings = config.load(path, [FITTERS])
    blend = pipeline.blend(settings, members_from=str(folder))
    assert "undefined" in str(blend)
    assert blend.card.members["knn"].score is None


def test_a_collapsed_member_is_named_and_left_out_of_the_blend(elsewhere, caplog):
    path, folder = elsewhere("regression", metric="pearson")
    with_one_value(folder, "knn", "pred_a", "pred_b")
    blend = pipeline.blend(config.load(path, [FITTERS]), members_from=str(folder))
    assert blend.matrix.members == ("gbm", "nb")
    said = "knn predicts the same for all rows in every fold (it has collapsed)"
    assert said in str(blend)
    assert "make its file again" in blend.card.left_out["knn"]
    assert "member knn is left out: it predicts the same for all rows" in caplog.text


def test_a_collapsed_member_that_is_named_is_blended(elsewhere, caplog):
    path, folder = elsewhere("regression", metric="pearson")
    with_one_value(folder, "knn", "pred_a", "pred_b")
    settings = config.load(path, [FITTERS])
    blend = pipeline.blend(settings, members=["gbm", "knn"], members_from=str(folder))
    assert "undefined" in str(blend)
    assert blend.card.members["knn"].score is None
    assert blend.card.left_out == {}
    assert "member knn predicts the same for all rows in every fold" in caplog.text


def test_members_that_have_all_collapsed_are_refused(elsewhere):
    path, folder = elsewhere(names=("gbm", "nb"))
    for name in ("gbm", "nb"):
        with_one_value(folder, name, "pred_target")
    with pytest.raises(UserError, match=r"no member to blend: gbm predicts .* \(2 such members\)"):
        pipeline.blend(config.load(path, [FITTERS]), members_from=str(folder))


def test_a_member_trained_here_that_collapsed_in_one_fold_is_left_out_with_that_fold(
    toy, monkeypatch
):
    settings = config.load(toy("multilabel", blend={}), [FITTERS])
    pipeline.train(settings)
    read = FoldFiles.oof

    def collapsed(files):
        table = read(files)
        if (files.member, files.fold) == ("tiny-max-s42", 1):
            rng = np.random.default_rng(0)
            predicted = [column for column in table if column.startswith("pred_")]
            table[predicted] = 0.3 + rng.normal(0, 1e-7, (len(table), len(predicted)))
        return table

    monkeypatch.setattr(FoldFiles, "oof", collapsed)
    blend = pipeline.blend(settings)
    assert blend.matrix.members == ("tiny-mean-s42",)
    said = blend.card.left_out["tiny-max-s42"]
    assert "for all rows in fold 1 of 3" in said
    assert "train.py --fold 1 --overwrite" in said


def many_classes(folder, n=160, n_classes=80):
    """A competition of many classes with members' OOF and test files; config, and the classes."""
    rng = np.random.default_rng(0)
    names = [f"c{k:02d}" for k in range(n_classes)]
    ids = [f"r{i:03d}" for i in range(n)]
    texts = [f"text of number {i}" for i in range(n)]
    labels = [names[i % n_classes] for i in range(n)]
    train = pd.DataFrame({"id": ids, "text": texts, "label": labels})
    train.to_csv(folder / "train.csv", index=False)
    train[["id", "text"]].to_csv(folder / "test.csv", index=False)
    train[["id", "label"]].to_csv(folder / "sample_submission.csv", index=False)
    (folder / "members" / "test").mkdir(parents=True)
    for name in ("gbm", "knn", "nb"):
        true_NK = train["label"].to_numpy()[:, None] == np.array(names)
        logits = 2 * rng.normal(size=true_NK.shape) + 4 * true_NK
        pred = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        table = pd.DataFrame(pred, columns=[f"pred_{each}" for each in names])
        table.insert(0, "id", ids)
        table.to_csv(folder / "members" / f"{name}.csv", index=False)
        table.to_csv(folder / "members" / "test" / f"{name}.csv", index=False)
    path = folder / "many.yaml"
    path.write_text(
        f"task: multiclass\nmetric: accuracy\nsubmission: labels\nstore: '{folder}/store'\n"
        f"data: {{dir: '{folder}', target: label}}\nfolds: {{n: 3, strategy: plain}}\n"
        "blend: {trials: 10, resamples: 50}\n",
        encoding="utf-8",
    )
    return path, names


def test_very_many_classes_are_blended_by_the_likeliest_and_scored_by_all(
    tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    path, names = many_classes(tmp_path)
    settings = config.load(path)
    monkeypatch.setattr(compact, "LARGE", 10_000)
    monkeypatch.setattr(compact, "KEPT", 20)
    monkeypatch.setattr(compact, "SAMPLED", 8)
    blend = pipeline.blend(settings, members_from=str(tmp_path / "members"))
    assert "on the 20 most likely of each row's" in caplog.text
    assert "stack" not in blend.reports
    assert "stack, which fits weights for each output, is not compared" in caplog.text
    assert blend.matrix.oof_MNK.shape == (3, 160, len(names))
    assert np.shape(blend.card.mixture.weights) == (3, len(names))
    used = blend.used
    scorer = blend.comparison.scorer
    assert used.honest == scorer.score(blend.matrix.y, used.honest_pred_NK)
    assert blend.card.choice.honest == used.honest
    assert blend.card.diversity.q_statistic is not None
    monkeypatch.setattr(compact, "LARGE", 10**9)
    plain = pipeline.blend(settings, members_from=str(tmp_path / "members"))
    assert plain.comparison.form == blend.comparison.form
    for name in ("equal", "best"):
        assert plain.reports[name].honest == blend.reports[name].honest
    weights_M = blend.reports["convex"].weights_M
    assert weights_M == pytest.approx(plain.reports["convex"].weights_M, abs=0.1)
    pipeline.infer(settings)


@pytest.fixture
def many_rows_here(tmp_path, monkeypatch):
    """Settings of a competition of 600 rows, more than are fitted on, and the members' folder."""
    path, _ = many_classes(tmp_path, n=600, n_classes=4)
    monkeypatch.setattr(many_rows, "IN_MEMORY", 2000)
    monkeypatch.setattr(many_rows, "SAMPLE", 150 * 3 * 4)
    monkeypatch.setattr(many_rows, "LOOKED_AT", 90 * 3 * 4)
    return config.load(path, ["blend.space=plain"]), str(tmp_path / "members")


def test_of_very_many_rows_a_sample_is_fitted_and_all_are_scored(
    many_rows_here, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    settings, folder = many_rows_here
    blend = pipeline.blend(settings, members_from=folder)
    assert "weights are fitted on a sample of 150 rows; blends are scored on all 600" in caplog.text
    card = blend.card
    assert (card.rows, card.fitted_rows, card.compared_rows) == (600, 150, 90)
    said = "a sample of 90 of 600 rows; weights are fitted on one of 150, blends are scored on all"
    assert said in " ".join(str(blend).split())
    assert len(blend.used.honest_inputs) == len(blend.matrix.y) == 90
    assert not [
        file for file in settings.path(settings.store).rglob("cache/**/*") if file.is_file()
    ]
    pipeline.infer(settings)
    monkeypatch.setattr(many_rows, "IN_MEMORY", 10**9)
    plain = pipeline.blend(settings, members_from=folder)
    assert plain.card.fitted_rows is plain.card.compared_rows is None
    assert plain.card.blenders["equal"].honest == blend.card.blenders["equal"].honest
    assert plain.card.choice.honest == pytest.approx(blend.card.choice.honest, abs=0.02)


def test_what_all_rows_choose_is_looked_into(many_rows_here, monkeypatch):
    """Where the sample alone would choose another blender."""
    settings, folder = many_rows_here
    monkeypatch.setattr(many_rows, "choose", lambda whole, _, **how: choose(whole, "convex", **how))
    blend = pipeline.blend(settings, members_from=folder)
    assert blend.card.blender == blend.choice.blender == "convex"
    assert all("convex" in table for table in blend.findings.slices.values())
    assert "convex scores" in str(blend)


def test_a_collapsed_member_among_very_many_rows_is_left_out(many_rows_here):
    settings, folder = many_rows_here
    table = pd.read_csv(f"{folder}/nb.csv")
    table[[name for name in table if name.startswith("pred_")]] = 0.25
    table.to_csv(f"{folder}/nb.csv", index=False)
    blend = pipeline.blend(settings, members_from=folder)
    assert blend.matrix.members == ("gbm", "knn")
    assert blend.card.fitted_rows < blend.card.rows


def test_a_disk_too_full_for_very_many_rows_is_said_in_one_line(many_rows_here, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    settings, folder = many_rows_here
    monkeypatch.setattr(artefacts, "TemporaryFile", lambda dir: Full())
    with pytest.raises(UserError, match=r"could not write .* GB of predictions .* No space left"):
        pipeline.blend(settings, members_from=folder)


def test_an_ordinal_competition_runs_through_with_cut_points(toy, tmp_path):
    path = toy("binary", blend={})
    settings = config.load(path)
    for table in ("train", "test_labels", "sample_submission"):
        file = settings.data_dir / f"{table}.csv"
        frame = pd.read_csv(file)
        frame["target"] = (frame["target"] * 2 + np.arange(len(frame)) % 2).astype(int)
        frame.to_csv(file, index=False)
    settings = config.load(
        path, ["task=ordinal", "metric=qwk", "blend.thresholds=fitted", FITTERS, "members=[mean]"]
    )
    pipeline.train(settings)
    blend = pipeline.blend(settings)
    assert len(blend.card.mixture.cuts) == 3
    submission = pd.read_csv(pipeline.infer(settings))
    assert set(submission["target"]) <= {0, 1, 2, 3}


def test_fitted_thresholds_are_refused_where_nothing_is_decided(elsewhere):
    path, folder = elsewhere(metric="log_loss", submission="probabilities")
    settings = config.load(path, ["blend.thresholds=fitted"])
    with pytest.raises(UserError, match="blend.thresholds=fitted does nothing with log_loss"):
        pipeline.blend(settings, members_from=str(folder))


def test_groups_are_drawn_whole_for_every_interval(elsewhere):
    path, folder = elsewhere()
    train = pd.read_csv(config.load(path).data_dir / "train.csv")
    train["prompt"] = np.arange(len(train)) // 2 % 15
    train.to_csv(config.load(path).data_dir / "train.csv", index=False)
    told = []
    for sets in ([], ["blend.groups=prompt"]):
        settings = config.load(path, [FITTERS, "blend.slices=[target]", *sets])
        told.append(pipeline.blend(settings, members_from=str(folder)))
    by_rows, by_groups = told
    assert by_rows.matrix.group_N is None
    assert by_groups.matrix.group_N is not None
    assert by_groups.choice.over_member["convex"] != by_rows.choice.over_member["convex"]
    assert not by_groups.findings.scores["low"].equals(by_rows.findings.scores["low"])
    assert by_rows.findings.slices["target"]["low"].notna().any()
    assert by_groups.findings.slices["target"]["low"].isna().all()  # fewer than 30 groups


def test_the_groups_of_the_folds_are_drawn_whole_too(elsewhere):
    path, folder = elsewhere()
    table = config.load(path).data_dir / "train.csv"
    train = pd.read_csv(table)
    train.assign(prompt=np.arange(len(train)) % 12).to_csv(table, index=False)
    groups = []
    for name in ("auto", "null"):
        settings = config.load(path, [FITTERS, "folds.groups=prompt", f"blend.groups={name}"])
        groups.append(pipeline.blend(settings, members_from=str(folder)).matrix.group_N)
    assert len(set(groups[0])) == 12
    assert groups[1] is None


@pytest.mark.parametrize(("values", "said"), [(1, "holds one value"), (3, "rough")])
def test_few_groups_are_refused_or_said(elsewhere, caplog, values, said):
    path, folder = elsewhere()
    file = config.load(path).data_dir / "train.csv"
    train = pd.read_csv(file)
    train["prompt"] = np.arange(len(train)) % values
    train.to_csv(file, index=False)
    settings = config.load(path, [FITTERS, "blend.groups=prompt"])
    if values == 1:
        with pytest.raises(UserError, match=said):
            pipeline.blend(settings, members_from=str(folder))
    else:
        pipeline.blend(settings, members_from=str(folder))
        assert said in caplog.text


def test_a_refused_member_leaves_no_folds_behind(elsewhere):
    path, folder = elsewhere()
    whole = (folder / "knn.csv").read_text()
    (folder / "knn.csv").write_text("\n".join(whole.splitlines()[:-1]) + "\n")
    settings = config.load(path, [FITTERS])
    with pytest.raises(UserError, match="knn.csv cannot be blended: 1 of 60 ids"):
        pipeline.blend(settings, members_from=str(folder))
    assert read_folds(open_store(settings).folds_path) is None
    (folder / "knn.csv").write_text(whole)
    pipeline.blend(settings, members_from=str(folder))


def test_a_file_that_is_not_named_is_not_read(elsewhere):
    path, folder = elsewhere()
    (folder / "junk.csv").write_text("nothing,of\nthe,kind\n")
    settings = config.load(path, [FITTERS])
    blend = pipeline.blend(settings, members=["gbm", "knn"], members_from=str(folder))
    assert blend.matrix.members == ("gbm", "knn")
    with pytest.raises(UserError, match="junk.csv"):
        pipeline.blend(settings, members_from=str(folder))


def test_test_files_of_other_rows_are_refused_when_blending(elsewhere):
    path, folder = elsewhere()
    file = folder / "test" / "knn.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:-2]) + "\n")
    with pytest.raises(UserError, match="knn.csv cannot be blended: 2 of 15 ids"):
        pipeline.blend(config.load(path, [FITTERS]), members_from=str(folder))


@pytest.mark.parametrize("name", ["rows", "gain", "low", "equal", "convex", "best"])
def test_a_member_may_have_any_name(elsewhere, name):
    path, folder = elsewhere()
    settings = config.load(path, ["blend.fitter=convex", FITTERS])
    expected = pipeline.blend(settings, members_from=str(folder))
    for place in (folder, folder / "test"):
        (place / "gbm.csv").rename(place / f"{name}.csv")
    renamed = pipeline.blend(settings, members_from=str(folder))
    for column, table in expected.findings.slices.items():
        pd.testing.assert_frame_equal(renamed.findings.slices[column], table)
    assert [*table.columns] == ["rows", "best member", "equal", "convex", "gain", "low", "high"]


def test_rows_may_be_sliced_by_their_ids(elsewhere):
    path, folder = elsewhere()
    settings = config.load(path, [FITTERS, "blend.slices=[id]"])
    assert (
        pipeline.blend(settings, members_from=str(folder)).findings.slices["id"]["rows"].sum() == 60
    )
