"""The main job on toy competitions: train, blend, infer, through the functions the scripts call."""

import numpy as np
import pandas as pd
import pytest
import torch

from poolblend import config, pipeline
from poolblend.cards.submission import SubmissionCard
from poolblend.errors import UserError
from poolblend.loading.competition import load_competition, open_store
from poolblend.store.cards import read_card
from rig import runs

TASKS = ("binary", "multiclass", "multilabel", "regression")


def run_all(path, sets=()):
    settings = config.load(path, sets)
    pipeline.train(settings)
    blend = pipeline.blend(settings)
    return settings, blend, pipeline.infer(settings)


def stored(settings):
    """Bytes of every OOF file and model, by name."""
    root = open_store(settings).root
    files = [*root.rglob("fold*.parquet"), *root.rglob("*.safetensors")]
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(files)}


@pytest.mark.parametrize("task", TASKS)
def test_the_main_job_ends_in_a_submission_like_the_sample(toy, task, capsys):
    path = toy(task, folds={"n": 2})
    sets = ["train.precision=auto", "data.test_labels=test_labels.csv"]
    settings, blend, path = run_all(path, sets)
    assert "submission against the hidden labels: " in capsys.readouterr().out
    submission = pd.read_csv(path)
    sample = pd.read_csv(settings.data_dir / "sample_submission.csv")
    assert list(submission.columns) == list(sample.columns)
    assert submission["id"].tolist() == sample["id"].tolist()
    assert (submission.dtypes == sample.dtypes).all()
    assert blend.matrix.oof_MNK.shape[:2] == (2, 60)
    assert not np.isnan(blend.matrix.oof_MNK).any()
    card = read_card(path.with_suffix(".json"), SubmissionCard)
    assert card.weights.keys() <= set(blend.matrix.members)
    assert card.rows == len(sample)
    pipeline.verify_oof(settings)
    assert "largest difference of all: 0\n" in capsys.readouterr().out


def test_the_same_command_gives_the_same_bytes_and_a_fold_alone_those_of_a_fold_among_all(
    toy, tmp_path, caplog
):
    sets = ("folds.n=2", "train.precision=auto")
    first, second = (config.load(toy(), [f"store={tmp_path / name}", *sets]) for name in "ab")
    pipeline.train(first, poolers="max", folds="1")
    alone = stored(first)
    assert len(alone) == 2
    with caplog.at_level("INFO", logger="poolblend"):
        pipeline.train(first)
    assert "1 of 4 folds are finished already" in caplog.text
    pipeline.train(second)
    assert alone.items() <= stored(first).items()
    assert stored(first) == stored(second)
    assert len(stored(first)) == 8


def test_a_fold_whose_settings_or_data_changed_is_named_and_kept(toy):
    settings = config.load(toy())
    pipeline.train(settings, poolers="mean", folds="0")
    before = stored(settings)
    # To trade memory for time makes nothing stale.
    pipeline.train(
        config.load(toy(), ["train.gradient_checkpointing=true"]), poolers="mean", folds="0"
    )
    changed = config.load(toy(), ["train.lr=0.002", "max_length=12"])
    with pytest.raises(
        UserError,
        match=r"tiny-mean-s42 fold 0 is stale: max_length was 16, is 12; train.lr was 0.001, is",
    ):
        pipeline.train(changed, poolers="mean", folds="0")
    assert stored(settings) == before
    tagged = config.load(toy(), ["members=[{pooler: mean, tag: slow, train: {lr: 0.0001}}]"])
    pipeline.train(tagged, folds="0")
    assert open_store(tagged).members() == ["tiny-mean-s42", "tiny-mean-slow-s42"]
    pipeline.train(changed, poolers="mean", folds="0", overwrite=True)
    assert not before.items() <= stored(settings).items()
    pipeline.train(settings, poolers="mean", folds="1,2")
    with pytest.raises(
        UserError,
        match="fold 0 and fold 1 were trained differently: max_length was 12, is 16; train.lr was",
    ):
        pipeline.blend(settings)
    path = settings.data_dir / "train.csv"
    path.write_text(path.read_text().replace("lovely", "sweet", 1))
    with pytest.raises(UserError, match="fold 1 is stale: train has changed"):
        pipeline.train(settings, poolers="mean", folds="1")


def test_probabilities_are_submitted_where_metric_config_or_sample_want_them(toy):
    sets = ["folds.n=2", "train.epochs=1"]
    settings, _, path = run_all(toy(), [*sets, "metric=roc_auc"])

    def submitted(*more):
        return pd.read_csv(pipeline.infer(config.load(toy(), [*sets, *more])))["target"]

    def probabilities(values):
        return ((values > 0) & (values < 1)).all()

    assert probabilities(pd.read_csv(path)["target"])
    assert probabilities(submitted())  # by the blend card's metric, whatever the config's
    assert set(submitted("submission=labels")) <= {0, 1}
    pipeline.blend(config.load(toy(), sets))
    assert set(submitted()) <= {0, 1}
    sample = settings.data_dir / "sample_submission.csv"
    pd.read_csv(sample).assign(target=0.5).to_csv(sample, index=False)
    loaded = config.load(settings.data_dir.parent / "toy.yaml", sets)
    assert probabilities(pd.read_csv(pipeline.infer(loaded))["target"])


def test_the_blend_card_holds_weights_and_both_scores_of_every_blender(toy):
    settings = config.load(toy(), ["folds.n=2"])
    pipeline.train(settings)
    blend = pipeline.blend(settings)
    card = open_store(settings).read_blend()
    assert card == blend.card
    assert sum(entry.weight for entry in card.members.values()) == pytest.approx(1)
    assert {"equal", "best", "convex", "optuna"} <= card.blenders.keys()
    searched = card.blenders["optuna"].in_sample
    assert all(searched >= entry.in_sample for entry in card.blenders.values())
    for member in card.members.values():
        assert len(member.fold_scores) == len(member.origin.folds) == 2
    assert card.sentence in " ".join(str(blend).split())
    asked = pipeline.blend(config.load(toy(), ["folds.n=2", "blend.fitter=best"]))
    assert asked.card.blender == "best"
    assert sorted(entry.weight for entry in asked.card.members.values()) == [0, 1]


def forget_predictions(run):
    for file in run.store.root.rglob("test_fold*"):
        file.unlink()


def test_inference_needs_neither_the_train_table_nor_the_backbone_and_keeps_predictions(
    finished, monkeypatch
):
    first = finished.infer().read_bytes()
    settings = finished.settings
    (settings.data_dir / "train.csv").unlink()
    forget_predictions(finished)
    backbone = settings.backbone.model_copy(update={"source": "nobody/has-this"})
    elsewhere = settings.model_copy(update={"backbone": backbone})
    assert pipeline.infer(elsewhere).read_bytes() == first

    def refuse(*_, **__):
        raise AssertionError("a model was loaded again")

    monkeypatch.setattr("poolblend.jobs.fold_loader.FoldLoader.load", refuse)
    assert finished.infer().read_bytes() == first


def test_a_model_reads_the_text_columns_it_was_trained_on(finished):
    settings = finished.settings
    path = settings.data_dir / "test.csv"
    pd.read_csv(path).assign(other="road").to_csv(path, index=False)
    first = finished.infer().read_bytes()
    forget_predictions(finished)
    data = settings.data.model_copy(update={"text": ("other",)})
    assert pipeline.infer(settings.model_copy(update={"data": data})).read_bytes() == first


def test_a_store_that_cannot_be_written_still_infers(finished, monkeypatch, caplog):
    def refuse(*_):
        raise UserError("could not write: read-only")

    forget_predictions(finished)
    monkeypatch.setattr("poolblend.store.kept.KeptFile.keep", refuse)
    assert finished.infer().is_file()
    assert "test predictions are not stored: could not write: read-only" in caplog.text


def test_what_cannot_be_inferred_from_is_refused_before_a_submission_is_written(finished):
    settings, store = finished.settings, finished.store
    forget_predictions(finished)
    store.submission_path.unlink()
    data = settings.data.model_copy(update={"test_labels": "test.csv"})
    with pytest.raises(UserError, match="test.csv has no column 'target', which scoring needs"):
        pipeline.infer(settings.model_copy(update={"data": data}))
    weights = store.fold_folder("tiny-mean-s42", 0) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=f"{weights} is damaged"):
        finished.infer()
    weights.write_bytes(whole)
    train = settings.train.model_copy(update={"lr": 0.002})
    changed = settings.model_copy(update={"train": train})
    pipeline.train(changed, folds="0", overwrite=True)
    with pytest.raises(
        UserError, match="fold 0 was trained again after the blend; run blend.py again"
    ):
        pipeline.infer(changed)
    assert not store.submission_path.exists()


@pytest.mark.parametrize("learning", ["balanced", "smoothed", "logistic"])
def test_a_class_that_a_folds_models_never_saw_has_a_probability_all_the_same(
    toy, tmp_path, learning
):
    path = toy("multiclass", metric="log_loss")
    file = tmp_path / "data" / "train.csv"
    table = pd.read_csv(file)
    table.loc[:2, "target"] = ["rare", "twice", "twice"]
    table.to_csv(file, index=False)
    classes = ["bad", "good", "odd", "rare", "twice"]
    sample = pd.read_csv(tmp_path / "data" / "test.csv")[["id"]]
    sample.assign(**dict.fromkeys(classes, 0.2)).to_csv(
        tmp_path / "data" / "sample_submission.csv", index=False
    )
    keys = {
        "balanced": "{pooler: mean, train: {class_weights: balanced}}",
        "smoothed": "{pooler: mean, train: {label_smoothing: 0.1}}",
        "logistic": "{pooler: mean, head: logistic}",
    }
    settings, blend, submission = run_all(path, [f"members=[{keys[learning]}]"])
    competition = load_competition(settings, open_store(settings))
    (own,) = np.flatnonzero(competition.y == 3)
    assert competition.task.outputs == tuple(classes)
    (pred_NK,) = blend.matrix.oof_MNK
    assert (pred_NK > 1e-4).all()
    assert pred_NK[own, 3] < 0.3  # its models knew nothing of it
    np.testing.assert_allclose(pred_NK.sum(axis=1), 1, atol=1e-6)
    assert (pd.read_csv(submission)[classes] > 1e-4).all(axis=None)
    with pytest.raises(UserError, match="class 'rare' of column 'target' has 1 rows, fewer than"):
        pipeline.train(
            config.load(path, ["folds.rare=refuse", "run=other", f"data.dir={settings.data_dir}"])
        )


@pytest.fixture
def essays(toy, tmp_path):
    """Texts by humans and by AI, whose sample submission shows three rows of a larger test."""
    path = toy("binary", n=24, members=["mean"], metric="roc_auc", folds={"n": 2})
    data = tmp_path / "data"
    train = pd.read_csv(data / "train.csv")
    train["target"] = train["target"].map({0: "human", 1: "AI"})
    train.to_csv(data / "train.csv", index=False)
    test = pd.read_csv(data / "test.csv")
    test[:3].to_csv(data / "test.csv", index=False)
    sample = pd.DataFrame({"id": test["id"][2::-1], "generated": 0.1, "Usage": "Public"})
    sample.to_csv(data / "sample_submission.csv", index=False)
    return path, data, test


def test_two_words_and_a_hidden_test_end_in_probabilities_of_the_positive_label(essays, caplog):
    path, data, test = essays
    caplog.set_level("INFO")
    settings, blend, visible = run_all(path)
    assert blend.card.positive == ("AI", "'AI' is known as a positive label")
    assert "Positive label: 'AI' ('AI' is known as a positive label)." in str(blend)
    fold_card = open_store(settings).fold("tiny-mean-s42", 0).card()
    assert fold_card.positive.label == "AI"
    shown = pd.read_csv(visible)
    assert shown["id"].tolist() == test["id"][2::-1].tolist()
    # The competition puts the hidden test there, beside the same sample.
    test.to_csv(data / "test.csv", index=False)
    caplog.clear()
    hidden = pd.read_csv(pipeline.infer(settings))
    assert len([line for line in caplog.messages if "holds 12 ids that" in line]) == 1
    assert hidden.columns.tolist() == ["id", "generated", "Usage"]
    assert hidden["id"].tolist() == test["id"].tolist()
    assert set(hidden["Usage"]) == {"Public"}
    both = shown.merge(hidden, on="id")
    np.testing.assert_allclose(both["generated_x"], both["generated_y"], atol=1e-6)
    # One minus it where the column is to hold the other label; the sample's rows where asked for.
    sets = ["submission.ids=sample", "submission.columns={generated: human}"]
    written = pipeline.infer(config.load(path, sets))
    other = pd.read_csv(written)
    assert other["id"].tolist() == shown["id"].tolist()
    np.testing.assert_allclose(other["generated"], 1 - shown["generated"], atol=1e-6)
    card = read_card(written.with_suffix(".json"), SubmissionCard)
    assert card.positive.label == "AI"
    assert card.columns == {"generated": "human", "Usage": "copy"}


def test_a_sample_that_shows_three_labels_a_cell_gets_three(toy, tmp_path):
    path = toy("multiclass", n=24, members=["mean"], folds={"n": 2})
    data = tmp_path / "data" / "sample_submission.csv"
    sample = pd.read_csv(data)
    sample.assign(target="bad odd good").to_csv(data, index=False)
    _, _, written = run_all(path)
    cells = pd.read_csv(written)["target"].str.split()
    assert {tuple(sorted(cell)) for cell in cells} == {("bad", "good", "odd")}
    first = pipeline.infer(config.load(path, ["submission.top=1"]))
    assert pd.read_csv(first)["target"].tolist() == [cell[0] for cell in cells]


def test_other_train_ids_are_refused_before_anything_is_trained(toy):
    settings = config.load(toy())
    pipeline.train(settings, poolers="mean", folds="0")
    toy(n=50)
    with pytest.raises(
        UserError,
        match=r"folds.csv was made from other train ids: it lacks 0 of them, and holds 10",
    ):
        pipeline.train(settings, poolers="mean", folds="1")


def test_a_blend_without_the_sample_of_the_training_is_told_so(toy):
    pipeline.train(config.load(toy(), ["data.sample_rows=40"]), poolers="mean")
    lacking = r"it lacks 20 of them \(such as '[^']+'\), and holds 0 others; give the same --set .*"
    with pytest.raises(UserError, match=lacking + r"data\.sample_rows"):
        pipeline.blend(config.load(toy()))


def test_folds_are_made_once_and_then_only_read(toy):
    settings = config.load(toy())
    pipeline.train(settings, poolers="mean", folds="0")
    path = open_store(settings).folds_path
    before = path.read_bytes()
    pipeline.train(settings, poolers="max", folds="0")
    for change, told in (
        ("folds.seed=7", "folds.seed was 42, is 7"),
        ("folds.strategy=plain", "folds.strategy was stratified, is plain"),
    ):
        with pytest.raises(
            UserError, match=f"folds.csv was made with other settings: {told}; restore these"
        ):
            pipeline.train(config.load(toy(), [change]), poolers="max", folds="0", overwrite=True)
    assert path.read_bytes() == before
    with pytest.raises(UserError, match=r"holds the folds 0, 1, 2, the config asks for folds.n=4"):
        pipeline.train(config.load(toy(), ["folds.n=4"]), poolers="max", folds="0")


@pytest.mark.parametrize(
    ("poolers", "folds", "line"),
    [
        ("maxx", "0", "unknown pooler 'maxx'; did you mean 'max'"),
        ("max", "3", "--fold 3: out of range; the folds are 0 to 2"),
        ("max", "-1", "--fold -1: out of range"),
        ("max", "one", "--fold one: expected a number, a comma list, all or refit"),
    ],
)
def test_a_wrong_pooler_or_fold_is_refused(toy, poolers, folds, line):
    with pytest.raises(UserError, match=line):
        pipeline.train(config.load(toy()), poolers=poolers, folds=folds)


def test_a_wrong_pooler_argument_is_refused_before_training(toy):
    settings = config.load(toy(), ["members=[mean, {pooler: mean_kmax, pooler_args: {kk: 2}}]"])
    with pytest.raises(UserError, match=r"member tiny-mean_kmax-s42: .*'kk'.*did you mean 'k'"):
        pipeline.train(settings)
    assert stored(settings) == {}


def test_a_blend_leaves_incomplete_members_out_and_says_so(toy):
    settings = config.load(toy(), ["members=[mean, max, cls]"])
    pipeline.train(settings, poolers="max", folds="1")
    with pytest.raises(
        UserError, match=r"no member .* complete \(tiny-max-s42 lacks fold 0, 2 of 3"
    ):
        pipeline.blend(settings)
    pipeline.train(settings, poolers="mean")
    blend = pipeline.blend(settings)
    assert blend.matrix.members == ("tiny-mean-s42",)
    left_out = "tiny-max-s42 lacks fold 0, 2 of 3; tiny-cls-s42 is not trained yet"
    assert f"Not in this blend: {left_out}." in str(blend)
    assert pipeline.infer(settings).is_file()


def test_an_incomplete_member_that_is_named_is_refused(toy):
    settings = config.load(toy())
    pipeline.train(settings, poolers="mean")
    pipeline.train(settings, poolers="max", folds="1")
    with pytest.raises(UserError, match="member tiny-max-s42 is incomplete: fold 0, 2 of 3 not"):
        pipeline.blend(settings, members=["tiny-mean-s42", "tiny-max-s42"])
    with pytest.raises(
        UserError, match="unknown member 'tiny-men-s42'; did you mean 'tiny-mean-s42'"
    ):
        pipeline.blend(settings, members=["tiny-men-s42"])


def test_a_member_trained_on_other_folds_is_refused(toy):
    settings = config.load(toy())
    pipeline.train(settings, poolers="mean")
    path = open_store(settings).folds_path
    folds = pd.read_csv(path)
    folds["fold"] = (folds["fold"] + 1) % 3
    folds.to_csv(path, index=False)
    with pytest.raises(UserError, match=r"folds.csv is not the file that was made there"):
        pipeline.blend(settings)
    path.with_suffix(".json").unlink()
    with pytest.raises(
        UserError,
        match=r"member tiny-mean-s42 fold 0 was trained on other data: folds has changed",
    ):
        pipeline.blend(settings)


def test_a_member_of_two_settings_is_refused(toy):
    pipeline.train(config.load(toy()), poolers="mean", folds="0")
    pipeline.train(config.load(toy(), ["train.lr=0.002"]), poolers="mean", folds="1,2")
    with pytest.raises(
        UserError, match="fold 0 and fold 1 were trained differently: train.lr was 0.001, is 0.002"
    ):
        pipeline.blend(config.load(toy()))


def test_labels_read_otherwise_than_in_training_are_refused(toy):
    pipeline.train(config.load(toy()), poolers="mean")
    with pytest.raises(
        UserError, match=r"trained on other data: task.classes was \[0, 1\], is \[1, 0\]"
    ):
        pipeline.blend(config.load(toy(), ["data.positive=0"]))


def test_running_out_of_memory_says_what_to_lower(toy, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("poolblend.training.gradients.Gradients._add_up", full)
    with pytest.raises(
        UserError,
        match=r"out of memory \(CUDA out of memory\); batches of one row are too large: set train",
    ):
        pipeline.train(config.load(toy()), poolers="mean", folds="0")


def test_before_any_training_blend_and_infer_say_what_to_run(toy):
    settings = config.load(toy())
    with pytest.raises(UserError, match="run train.py first"):
        pipeline.blend(settings)
    with pytest.raises(UserError, match="run blend.py first"):
        pipeline.infer(settings)


def test_a_subset_of_rows_is_trained_on_when_asked(toy):
    settings = config.load(toy(), ["data.sample_rows=30"])
    pipeline.train(settings, poolers="mean")
    assert pipeline.blend(settings).matrix.oof_MNK.shape[1] == 30


def test_the_seed_flag_makes_members_that_blend_with_the_others(toy):
    quick = {"folds": {"n": 2}, "n": 24}
    for seed in (1, 2):
        pipeline.train(config.load(toy(**quick), seed=seed), poolers="mean")
    blend = pipeline.blend(config.load(toy(**quick)))
    assert blend.matrix.members == ("tiny-mean-s1", "tiny-mean-s2")
    assert not np.allclose(*blend.matrix.oof_MNK)


def test_the_demo_never_overwrites_anybodys_files(toy, monkeypatch):
    monkeypatch.setattr("poolblend.competition.demo.build_demo", None)  # put back at the end
    runs.small_demo(None)
    settings = config.load(toy(), ["data.demo=true", "data.test_labels=mine.csv"])
    before = {file.name: file.read_bytes() for file in settings.data_dir.iterdir()}
    with pytest.raises(
        UserError, match=r"holds some files of the demo competition but not mine.csv"
    ):
        pipeline.train(settings)
    assert {file.name: file.read_bytes() for file in settings.data_dir.iterdir()} == before


def test_a_demo_half_made_is_completed(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("poolblend.competition.demo.build_demo", None)  # put back at the end
    runs.small_demo(None)
    settings = config.load(toy(), [*runs.of_the_demo(tmp_path / "demo"), "data.sample_rows=20"])
    store = open_store(settings)
    load_competition(settings, store, make_folds=True)
    made = {file.name: file.read_bytes() for file in settings.data_dir.iterdir()}
    for name in ("test.csv", "sample_submission.csv"):
        (settings.data_dir / name).unlink()
    load_competition(settings, store)
    assert {file.name: file.read_bytes() for file in settings.data_dir.iterdir()} == made


def test_a_refused_member_leaves_no_folds_behind(toy):
    settings = config.load(toy(), ["backbone=no/such/place"])
    with pytest.raises(UserError, match="member place-mean-s42: backbone no/such/place"):
        pipeline.train(settings)
    assert not open_store(settings).folds_path.exists()


def test_a_sample_submission_that_cannot_be_filled_is_refused_before_training(toy):
    settings = config.load(toy("regression"))
    path = settings.data_dir / "sample_submission.csv"
    pd.read_csv(path).rename(columns={"a": "other"}).to_csv(path, index=False)
    with pytest.raises(UserError, match="other"):
        pipeline.train(settings)
    assert stored(settings) == {}
