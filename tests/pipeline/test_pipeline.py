"""The main job on toy competitions: train, blend, infer, through the functions the scripts call."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.loading.competition import load_competition, open_store
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
def test_the_main_job_ends_in_a_submission_like_the_sample(toy, task):
    settings, blend, path = run_all(toy(task))
    submission = pd.read_csv(path)
    sample = pd.read_csv(settings.data_dir / "sample_submission.csv")
    assert list(submission.columns) == list(sample.columns)
    assert submission["id"].tolist() == sample["id"].tolist()
    assert (submission.dtypes == sample.dtypes).all()
    assert blend.matrix.oof_MNK.shape[:2] == (2, 60)
    assert not np.isnan(blend.matrix.oof_MNK).any()
    card = json.loads(path.with_suffix(".json").read_text())
    assert card.weights.keys() <= set(blend.matrix.members)
    assert card.rows == len(sample)


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


def test_probabilities_are_submitted_where_the_metric_or_the_config_wants_them(toy):
    _, _, path = run_all(toy("binary"), ["metric=roc_auc"])
    values = pd.read_csv(path)["target"]
    assert ((values > 0) & (values < 1)).all()
    labels = pipeline.infer(config.load(toy("binary"), ["submission=labels"]))
    assert set(pd.read_csv(labels)["target"]) <= {0, 1}


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
    card = json.loads(written.with_suffix(".json").read_text())
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


def test_the_same_command_gives_the_same_bits(toy, tmp_path):
    first, second = (
        config.load(toy(), [f"store={tmp_path / name}", "train.precision=auto"]) for name in "ab"
    )
    for settings in (first, second):
        pipeline.train(settings)
    assert stored(first) == stored(second)
    assert len(stored(first)) == 12


def test_a_fold_alone_is_the_fold_among_all(toy, tmp_path):
    alone, among = (config.load(toy(), [f"store={tmp_path / name}"]) for name in "ab")
    pipeline.train(alone, poolers="max", folds="2")
    pipeline.train(among)
    assert len(stored(alone)) == 2
    assert stored(alone).items() <= stored(among).items()


def test_finished_folds_are_skipped_and_missing_ones_trained(toy, caplog):
    settings = config.load(toy())
    pipeline.train(settings, poolers="mean", folds="0,1")
    before = stored(settings)
    with caplog.at_level("INFO", logger="poolblend"):
        pipeline.train(settings, poolers="mean")
    assert "2 of 3 folds are finished already" in caplog.text
    assert before.items() <= stored(settings).items()
    assert len(stored(settings)) == 6


def test_a_fold_whose_settings_changed_is_named_and_kept(toy):
    pipeline.train(config.load(toy()), poolers="mean", folds="0")
    settings = config.load(toy(), ["train.lr=0.002", "max_length=12"])
    before = stored(settings)
    with pytest.raises(
        UserError,
        match=r"tiny-mean-s42 fold 0 is stale: max_length was 16, is 12; train.lr was 0.001, is",
    ):
        pipeline.train(settings, poolers="mean", folds="0")
    assert stored(settings) == before
    pipeline.train(settings, poolers="mean", folds="0", overwrite=True)
    assert stored(settings) != before


def test_a_tag_keeps_both(toy):
    pipeline.train(config.load(toy()), poolers="mean", folds="0")
    tagged = config.load(toy(), ["members=[{pooler: mean, tag: slow, train: {lr: 0.0001}}]"])
    pipeline.train(tagged, folds="0")
    assert open_store(tagged).members() == ["tiny-mean-s42", "tiny-mean-slow-s42"]


def test_changed_train_data_make_folds_stale(toy):
    settings = config.load(toy())
    pipeline.train(settings, poolers="mean", folds="0")
    path = settings.data_dir / "train.csv"
    path.write_text(path.read_text().replace("lovely", "sweet", 1))
    with pytest.raises(UserError, match="fold 0 is stale: train has changed"):
        pipeline.train(settings, poolers="mean", folds="0")


def test_other_train_ids_are_refused_before_anything_is_trained(toy):
    settings = config.load(toy())
    pipeline.train(settings, poolers="mean", folds="0")
    toy(n=50)
    with pytest.raises(
        UserError,
        match=r"folds.csv was made from other train ids: it lacks 0 of them, and holds 10",
    ):
        pipeline.train(settings, poolers="mean", folds="1")


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
        ("max", "one", "--fold one: expected a number, a comma list, or all"),
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
    pipeline.train(config.load(toy()))
    with pytest.raises(
        UserError, match=r"trained on other data: task.classes was \[0, 1\], is \[1, 0\]"
    ):
        pipeline.blend(config.load(toy(), ["data.positive=0"]))


def test_a_model_reads_the_text_columns_it_was_trained_on(toy):
    settings = config.load(toy())
    for name in ("train", "test"):
        path = settings.data_dir / f"{name}.csv"
        pd.read_csv(path).assign(other="road").to_csv(path, index=False)
    pipeline.train(settings)
    pipeline.blend(settings)
    first = pipeline.infer(settings).read_bytes()
    for file in open_store(settings).root.rglob("test_fold*.parquet"):
        file.unlink()
    assert (
        pipeline.infer(
            config.load(settings.data_dir.parent / "toy.yaml", ["data.text=other"])
        ).read_bytes()
        == first
    )


def test_trading_memory_for_time_makes_nothing_stale(toy):
    pipeline.train(config.load(toy()), poolers="mean", folds="0")
    settings = config.load(toy(), ["train.gradient_checkpointing=true"])
    before = stored(settings)
    pipeline.train(settings, poolers="mean", folds="0")
    assert stored(settings) == before


def test_running_out_of_memory_says_what_to_lower(toy, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("poolblend.training.gradients.Gradients._add_up", full)
    with pytest.raises(
        UserError,
        match=r"out of memory \(CUDA out of memory\); batches of one row are too large: set train",
    ):
        pipeline.train(config.load(toy()), poolers="mean", folds="0")


def test_the_blend_card_holds_weights_and_both_scores_of_every_blender(toy):
    settings, blend, _ = run_all(toy())
    card = open_store(settings).read_blend()
    assert card == blend.card
    assert sum(entry.weight for entry in card.members.values()) == pytest.approx(1)
    assert {"equal", "best", "convex", "optuna"} <= card.blenders.keys()
    searched = card.blenders["optuna"].in_sample
    assert all(searched >= entry.in_sample for entry in card.blenders.values())
    for member in card.members.values():
        assert len(member.fold_scores) == len(member.origin.folds) == 3
    assert card.sentence in str(blend)


def test_the_blender_asked_for_is_used(toy):
    settings = config.load(toy())
    pipeline.train(settings)
    for fitter in ("equal", "best"):
        blend = pipeline.blend(config.load(toy(), [f"blend.fitter={fitter}"]))
        assert blend.card.blender == fitter
    assert sorted(entry.weight for entry in blend.card.members.values()) == [0, 1]


def test_inference_runs_only_models_of_weight_and_keeps_their_predictions(toy, monkeypatch):
    settings = config.load(toy(), ["blend.fitter=best"])
    pipeline.train(settings)
    pipeline.blend(settings)
    path = pipeline.infer(settings)
    first = path.read_bytes()
    root = open_store(settings).root
    assert len(list(root.rglob("test_fold*.parquet"))) == 3

    def refuse(*_, **__):
        raise AssertionError("a model was loaded again")

    monkeypatch.setattr("poolblend.jobs.foldmodels.FoldModels._load", refuse)
    assert pipeline.infer(settings).read_bytes() == first


def test_inference_needs_neither_the_train_table_nor_the_backbone(toy, tmp_path):
    settings, _, path = run_all(toy())
    first = path.read_bytes()
    (settings.data_dir / "train.csv").unlink()
    for file in open_store(settings).root.rglob("test_fold*.parquet"):
        file.unlink()
    elsewhere = config.load(tmp_path / "toy.yaml", ["backbone=nobody/has-this"])
    assert pipeline.infer(elsewhere).read_bytes() == first


def test_models_trained_since_the_blend_are_refused(toy):
    run_all(toy())
    changed = config.load(toy(), ["train.lr=0.002"])
    pipeline.train(changed, overwrite=True)
    with pytest.raises(
        UserError, match="fold 0 was trained again after the blend; run blend.py again"
    ):
        pipeline.infer(changed)


def test_damaged_weights_are_named_and_not_used(toy):
    settings = config.load(toy())
    pipeline.train(settings)
    pipeline.blend(settings)
    weights = sorted(open_store(settings).root.rglob("*.safetensors"))[0]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=f"{weights} is damaged"):
        pipeline.infer(settings)
    assert not open_store(settings).submission_path.exists()


def test_stored_oof_predictions_are_those_of_the_stored_models(toy, capsys):
    settings, _, _ = run_all(toy("multilabel"), ["train.precision=auto"])
    pipeline.verify_oof(settings)
    assert "largest difference of all: 0\n" in capsys.readouterr().out


def test_the_submission_is_scored_against_hidden_labels_where_there_are_any(toy, capsys):
    run_all(toy("multiclass"), ["data.test_labels=test_labels.csv"])
    assert "submission against the hidden labels: accuracy 0." in capsys.readouterr().out


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
    for seed in (1, 2):
        pipeline.train(config.load(toy(), seed=seed), poolers="mean")
    blend = pipeline.blend(config.load(toy()))
    assert blend.matrix.members == ("tiny-mean-s1", "tiny-mean-s2")
    assert not np.allclose(*blend.matrix.oof_MNK)


def test_the_demo_never_overwrites_anybodys_files(toy):
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


def test_a_sample_of_fractions_is_answered_with_probabilities(toy):
    settings = config.load(toy())
    path = settings.data_dir / "sample_submission.csv"
    pd.read_csv(path).assign(target=0.5).to_csv(path, index=False)
    pipeline.train(settings)
    pipeline.blend(settings)
    values = pd.read_csv(pipeline.infer(settings))["target"]
    assert ((values > 0) & (values < 1)).all()


def test_inference_follows_the_blend_cards_metric_not_the_configs(toy):
    settings, _, path = run_all(toy(), ["metric=roc_auc"])
    assert not set(pd.read_csv(path)["target"]) <= {0, 1}
    again = pipeline.infer(config.load(settings.data_dir.parent / "toy.yaml"))
    assert not set(pd.read_csv(again)["target"]) <= {0, 1}


def test_a_store_that_cannot_be_written_still_infers(toy, monkeypatch, caplog):
    settings = config.load(toy(), ["blend.fitter=best"])
    pipeline.train(settings, poolers="mean")
    pipeline.blend(settings)

    def refuse(*_):
        raise UserError("could not write: read-only")

    monkeypatch.setattr("poolblend.store.kept.KeptFile.keep", refuse)
    assert pipeline.infer(settings).is_file()
    assert "test predictions are not kept: could not write: read-only" in caplog.text


def test_hidden_labels_without_a_target_column_are_refused_before_anything_runs(toy):
    settings = config.load(toy(), ["data.test_labels=test.csv", "blend.fitter=best"])
    pipeline.train(settings, poolers="mean")
    pipeline.blend(settings)
    with pytest.raises(UserError, match="test.csv has no column 'target', which scoring needs"):
        pipeline.infer(settings)
    assert not open_store(settings).submission_path.exists()
