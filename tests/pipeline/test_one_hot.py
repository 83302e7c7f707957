"""Targets of 0 and 1, one column per class: from the tables to a submission of probabilities."""

import numpy as np
import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.loading.competition import load_competition, open_store, read_tables
from poolblend.report import pictures

CLASSES = ["odd", "bad", "good"]  # not in sorted order
MEMBER = "tiny-mean-s42"


@pytest.fixture
def one_hot(toy, tmp_path):
    """A toy competition whose classes have a column each; returns the settings for `sets`."""
    path = toy("multiclass", metric="log_loss", members=["mean"])
    folder = tmp_path / "data"

    def write(name, table):
        table.to_csv(folder / f"{name}.csv", index=False)

    for name in ("train", "test_labels"):
        table = pd.read_csv(folder / f"{name}.csv")
        columns = {each: (table["target"] == each).astype(int) for each in CLASSES}
        write(name, table.drop(columns="target").assign(**columns))
    test = pd.read_csv(folder / "test.csv")
    write("sample_submission", test[["id"]].assign(good=0.333, odd=0.333, bad=0.334))

    def settings(*sets, change=None):
        if change is not None:
            write("train", change(pd.read_csv(folder / "train.csv")))
        own = [f"data.target=[{', '.join(CLASSES)}]", "data.test_labels=test_labels.csv"]
        return config.load(path, [*own, *sets])

    return settings


def run_all(settings, **chosen):
    pipeline.train(settings)
    blend = pipeline.blend(settings, **chosen)
    return blend, pd.read_csv(pipeline.infer(settings))


def test_probabilities_of_each_class_are_learnt_submitted_and_kept_as_pseudo_labels(
    one_hot, capsys
):
    learning = ["train.epochs=8", "train.lr=5e-3", "folds.n=2", "blend.space=plain"]
    settings = one_hot(*learning, "blend.fitters=[equal]")
    blend, submission = run_all(settings)
    assert list(submission.columns) == ["id", "good", "odd", "bad"]
    np.testing.assert_allclose(submission[CLASSES].sum(axis=1), 1, atol=1e-6)
    competition = load_competition(settings, open_store(settings))
    assert competition.task.outputs == tuple(CLASSES)
    assert competition.soft_NK is None
    assert (blend.matrix.oof_MNK[0].argmax(axis=1) == competition.y).mean() > 0.6
    hidden = pd.read_csv(settings.data_dir / "test_labels.csv").set_index("id")
    ours = submission.set_index("id").loc[hidden.index, CLASSES]
    assert (ours.idxmax(axis=1) == hidden[CLASSES].idxmax(axis=1)).mean() > 0.6
    assert "submission against the hidden labels: log_loss" in capsys.readouterr().out
    pipeline.verify_oof(settings)
    card = open_store(settings).read_blend()
    assert card.task.classes == card.task.targets == tuple(CLASSES)
    pipeline.write_pseudo_labels(settings, "first")
    again = one_hot("folds.n=2", "members=[{pooler: mean, tag: pl}]", "pseudo.labels=first")
    pipeline.train(again, folds="0")
    assert open_store(again).fold("tiny-mean-pl-s42", 0).card().rows.train == 45


def test_it_learns_what_one_column_of_labels_learns(one_hot):
    """Columns in sorted order make the same folds and the same bits as one column of labels."""

    def labelled(table):
        return table.assign(label=table[CLASSES].idxmax(axis=1))

    columns = one_hot("data.target=[bad, good, odd]", "run=columns", change=labelled)
    column = one_hot("data.target=label", "run=column", "data.test_labels=null")
    oofs = []
    for settings in (columns, column):
        pipeline.train(settings, folds="0")
        oofs.append(open_store(settings).fold(MEMBER, 0).oof())
    pd.testing.assert_frame_equal(*oofs)


def test_a_label_metric_submits_a_1_in_the_column_of_the_label(one_hot, tmp_path):
    settings = one_hot("metric=accuracy", "submission=labels", "folds.n=2")
    sample = settings.data_dir / "sample_submission.csv"
    pd.read_csv(sample).assign(good=1, odd=0, bad=0).to_csv(sample, index=False)
    _, submission = run_all(settings)
    assert set(submission[CLASSES].to_numpy().ravel()) == {0, 1}
    assert (submission[CLASSES].sum(axis=1) == 1).all()


def shared(table):
    """Each row's class has 70 or 80 % of it, as several raters would say."""
    return table.assign(**(table[CLASSES] * 0.6 + 0.4 * np.array([0.25, 0.25, 0.5])))


def test_shares_of_several_raters_are_learnt_and_scored(one_hot, caplog):
    caplog.set_level("INFO")
    settings = one_hot("train.epochs=12", "train.lr=5e-3", "folds.n=2", change=shared)
    tabled = read_tables(settings)
    assert "60 of 60 rows are shared among classes: models learn the shares" in caplog.text
    assert tabled.soft_NK is not None
    np.testing.assert_allclose(tabled.soft_NK.max(axis=1), np.where(tabled.y == 2, 0.8, 0.7))
    blend, _ = run_all(settings)
    (pred_NK,) = blend.matrix.oof_MNK
    right = pred_NK.argmax(axis=1) == tabled.y
    assert right.mean() > 0.6
    assert 0.4 < pred_NK.max(axis=1)[right].mean() < 0.8  # not as sure as of whole labels
    share_NK = pd.read_csv(settings.data_dir / "train.csv")[CLASSES].to_numpy()
    expected_N = -(share_NK * np.log(pred_NK)).sum(axis=1)
    card = open_store(settings).fold(MEMBER, 0).card()
    assert card.score == pytest.approx(expected_N[blend.matrix.fold_N == 0].mean(), abs=1e-6)
    assert blend.used.honest == pytest.approx(expected_N.mean(), abs=1e-6)
    labels = read_tables(one_hot("metric=accuracy"))
    np.testing.assert_array_equal(labels.scored, labels.y)
    assert labels.soft_NK is not None


def test_every_blender_and_the_pictures_take_shares(one_hot):
    settings = one_hot(
        "folds.n=2", "members=[mean, max]", "blend.resamples=50", "blend.trials=5", change=shared
    )
    pipeline.train(settings)
    blend = pipeline.blend(settings)
    scores = {name: report.in_sample for name, report in blend.reports.items()}
    assert len(scores) == 8
    assert np.isfinite(list(scores.values())).all()
    assert scores["convex"] <= min(scores["equal"], scores["best"]) + 1e-9
    for draw in (pictures.reliability, pictures.q_statistic):
        assert draw(blend).axes


def test_rows_that_are_no_choice_among_the_columns_are_refused_by_id(one_hot):
    def twice(table):
        table.loc[7, CLASSES] = [1, 0, 1]
        return table

    with pytest.raises(
        UserError, match=r"train.csv: target columns odd, bad, good: row 'r007' sums"
    ):
        read_tables(one_hot(change=twice))


def test_weights_per_output_are_refused_with_the_config(one_hot):
    with pytest.raises(UserError, match="blend.weights=per_output does nothing in a multiclass"):
        one_hot("blend.weights=per_output")


@pytest.mark.parametrize("prefix", ["", "pred_"])
def test_members_from_elsewhere_are_matched_by_the_columns_names(one_hot, tmp_path, prefix):
    settings = one_hot("folds.n=2", "blend.fitters=[equal]")
    load_competition(settings, open_store(settings), make_folds=True)
    train = pd.read_csv(settings.data_dir / "train.csv")
    even = train[CLASSES] * 0.4 + 0.2
    table = even.add_prefix(prefix)[[f"{prefix}{each}" for each in ("good", "bad", "odd")]]
    table.insert(0, "id", train["id"])
    if prefix:
        table[CLASSES] = train[CLASSES]  # labels beside the predictions
    (tmp_path / "outside").mkdir()
    table.to_csv(tmp_path / "outside" / "gbm.csv", index=False)
    blend = pipeline.blend(settings, members=["gbm"], members_from=str(tmp_path / "outside"))
    np.testing.assert_allclose(blend.matrix.oof_MNK[0], even.to_numpy())
    spoilt = train[["id", *CLASSES]]  # the labels themselves, as predictions
    spoilt.to_csv(tmp_path / "outside" / "gbm.csv", index=False)
    with pytest.raises(UserError, match="holds train's labels in column"):
        pipeline.blend(settings, members=["gbm"], members_from=str(tmp_path / "outside"))


def test_groups_rare_classes_and_frozen_heads_take_them(one_hot, caplog):
    def grouped(table):
        table.loc[0, CLASSES] = [1, 0, 0]
        table.loc[1:, "odd"] = 0
        table.loc[1:, "bad"] = 1 - table.loc[1:, "good"]
        return table.assign(prompt=np.arange(len(table)) // 3)

    settings = one_hot(
        "folds.groups=prompt",
        "members=[{pooler: mean, head: logistic}]",
        "train.class_weights=balanced",
        change=grouped,
    )
    blend, _ = run_all(settings)
    assert "classes with too few rows or groups to be in all 3 folds, such as 'odd': 1 of 3" in (
        caplog.text
    )
    assert (blend.matrix.oof_MNK > 0).all()
