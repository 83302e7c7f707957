"""What competitions ask for, from the tables to a submission: each reaches the model and infer."""

import re

import numpy as np
import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.loading.competition import load_competition, open_store
from poolblend.loading.dataset import Datasets, FoldDataset, _expected_weights
from poolblend.loading.models import check_members, new_objective

MEMBER = "tiny-max-s42"


@pytest.fixture
def run(toy, tmp_path, capsys):
    """Changes the toy competition's tables, and trains, blends, infers and verifies a member."""

    def run(change=None, *sets, task="binary", n=60):
        path = toy(task, n=n)
        folder = tmp_path / "data"
        if change is not None:
            for name in ("train", "test"):
                table = pd.read_csv(folder / f"{name}.csv")
                change(table, name, folder)
                table.to_csv(folder / f"{name}.csv", index=False)
        learning = ["train.lr=5e-3", "train.epochs=8"] if n > 60 else []
        settings = config.load(path, ["folds.n=2", "members=[max]", *learning, *sets])
        pipeline.train(settings)
        pipeline.blend(settings)
        submission = pd.read_csv(pipeline.infer(settings))
        capsys.readouterr()
        pipeline.verify_oof(settings)
        assert float(re.search("of all: (.*)", capsys.readouterr().out)[1]) < 1e-5
        return settings, submission

    return run


def oof(settings, member=MEMBER):
    store = open_store(settings)
    return (
        pd.concat([store.fold(member, fold).oof() for fold in range(2)])
        .set_index("id")
        .sort_index()
    )


def card(settings, fold=0, member=MEMBER):
    return open_store(settings).fold(member, fold).card()


def tell(table, name, folder):
    """Columns that tell the label where no text does, with gaps, and texts that say nothing."""
    labels = pd.read_csv(folder / ("train.csv" if name == "train" else "test_labels.csv"))
    target = labels["target"].to_numpy()
    table["text"] = "the road"
    table["length"] = [None if i % 7 == 0 else 5.0 * t + 2 for i, t in enumerate(target)]
    table["kind"] = [None if i % 5 == 0 else "ab"[t] for i, t in enumerate(target)]


def test_numbers_and_categories_tell_what_the_text_does_not(run):
    sets = ["data.numeric=length", "data.categorical=kind", "folds.keep_together=none"]
    settings, submission = run(tell, *sets, n=120)
    y = load_competition(settings, open_store(settings)).y
    assert ((oof(settings)["pred_target"].to_numpy() > 0.5) == y).mean() > 0.9
    hidden = pd.read_csv(settings.data_dir / "test_labels.csv").set_index("id")["target"]
    assert (submission.set_index("id")["target"] == hidden).mean() > 0.9
    columns = card(settings).columns
    assert columns != card(settings, fold=1).columns  # each fitted without its own fold


def test_a_test_table_without_a_column_that_was_learnt_from_is_refused(run):
    settings, _ = run(
        tell, "data.numeric=length", "data.categorical=kind", "folds.keep_together=none"
    )
    test = settings.data_dir / "test.csv"
    pd.read_csv(test).drop(columns="kind").to_csv(test, index=False)
    with pytest.raises(UserError, match="unknown column 'kind' in .*test.csv"):
        pipeline.infer(settings)


def ask(table, name, folder):
    table["prompt"] = [f"p{i % 3}" for i in range(len(table))]
    if name == "train":
        pd.DataFrame(
            {"prompt": ["p0", "p1", "p2"], "question": ["the day", "a road", "of tree"]}
        ).to_csv(folder / "prompts.csv", index=False)


JOIN = "data.joins=[{train: prompts.csv, on: prompt}]"


@pytest.mark.parametrize(
    "text",
    [
        ["data.text=[question, text]", "data.join=pair"],
        ["data.text=[question, text]"],
        ["data.text='{question} [SEP] {text} then {question}'"],
    ],
    ids=["pair", "separator", "template"],
)
def test_texts_of_joined_tables_and_several_columns_are_read(run, text):
    settings, submission = run(ask, JOIN, *text, "max_length=32", "windows=null")
    assert len(submission) == 15
    assert card(settings).inputs.joins_sha256
    assert card(settings).inputs.joins_on == ("prompt",)
    prompts = settings.data_dir / "prompts.csv"
    prompts.write_text(prompts.read_text().replace("the day", "the house"))
    with pytest.raises(UserError, match="joins has changed|trained on other data"):
        pipeline.blend(settings)


def test_groups_stay_whole_and_a_fold_file_that_parts_one_is_refused(run):
    settings, _ = run(ask, "folds.groups=prompt")
    competition = load_competition(settings, open_store(settings))
    folds = pd.Series(competition.fold_N).groupby(competition.tables.train["prompt"]).nunique()
    assert (folds == 1).all()
    path = open_store(settings).folds_path
    table = pd.read_csv(path)
    table.loc[0, "fold"] = 1 - table.loc[0, "fold"]
    table.to_csv(path, index=False)
    path.with_suffix(".json").unlink()
    with pytest.raises(UserError, match="'p0'"):
        load_competition(settings, open_store(settings))


def long(table, name, folder):
    """What tells the label stands behind what max_length holds."""
    table["text"] = "the road of the house in the day " * 2 + table["text"]


def test_windows_read_what_truncation_cuts(run):
    scores = {}
    for name, sets in {"tail": ["truncation=tail"], "windows": ["windows.overlap=3"]}.items():
        settings, _ = run(long, f"run={name}", "max_length=12", *sets, n=120)
        scores[name] = np.mean([card(settings, fold).score for fold in (0, 1)])
    assert min(scores["tail"], scores["windows"]) > 0.9
    # What tells is cut off: the member learns nothing but one value for all rows.
    with pytest.raises(UserError, match="no member to blend: tiny-max-s42 predicts the same"):
        run(long, "run=head", "max_length=12", "truncation=head", n=120)


@pytest.mark.parametrize(
    "loss", ["smooth_l1", pytest.param("cross_entropy", marks=pytest.mark.slow), "cumulative"]
)
def test_ordered_classes_are_learnt_as_values_and_as_classes(run, loss):
    def order(table, name, folder):
        labels = pd.read_csv(folder / ("train.csv" if name == "train" else "test_labels.csv"))
        if name == "train":
            table["target"] = labels["target"] * 2
            sample = pd.read_csv(folder / "sample_submission.csv")
            sample.assign(target=0).to_csv(folder / "sample_submission.csv", index=False)

    settings, submission = run(
        order, "task=ordinal", "metric=qwk", f"train.loss={loss}", "data.classes=[0, 1, 2]", n=120
    )  # fmt: skip
    predicted = oof(settings)["pred_target"]
    assert predicted.between(-0.5, 2.5).all()
    assert np.mean([card(settings, fold).score for fold in (0, 1)]) > 0.8
    assert set(submission["target"]) <= {0, 1, 2}


def test_rows_without_weight_to_speak_of_are_not_learnt_from(run):
    """Two labels of three are wrong, of next to no weight: most predictions are right."""

    def poison(table, name, folder):
        if name == "train":
            wrong = np.arange(len(table)) % 3 > 0
            table["worth"] = np.where(wrong, 1e-6, 1.0)
            table["noisy"] = np.where(wrong, 1 - table["target"], table["target"])

    settings, _ = run(poison, "data.weight=worth", "data.target=noisy", n=180)
    truth = pd.read_csv(settings.data_dir / "train.csv").set_index("id").sort_index()["target"]
    assert ((oof(settings).iloc[:, -1] > 0.5) == truth).mean() > 0.7


@pytest.mark.parametrize("member", ["max", "{pooler: max, head: logistic}"])
def test_rows_of_weight_0_are_predicted_and_scored_but_not_learnt_from(run, member):
    """Two rows of three have a wrong label, and weight 0: their predictions are right."""

    def poison(table, name, folder):
        if name == "train":
            wrong = np.arange(len(table)) % 3 > 0
            table["worth"] = np.where(wrong, 0, 7)
            table["noisy"] = np.where(wrong, 1 - table["target"], table["target"])

    sets = ["data.weight=worth", "data.target=noisy", f"members=[{member}]", "metric=accuracy"]
    settings, _ = run(poison, *sets, n=180)
    name = "tiny-max-logistic-s42" if "logistic" in member else MEMBER
    train = pd.read_csv(settings.data_dir / "train.csv").set_index("id").sort_index()
    predicted = oof(settings, name).iloc[:, -1] > 0.5
    assert len(predicted) == 180
    assert (predicted == train["target"]).mean() > (0.7 if name == MEMBER else 0.55)
    competition = load_competition(settings, open_store(settings))
    for fold in (0, 1):
        own = competition.fold_N == fold
        told = card(settings, fold, name)
        weighted = int((competition.weight_N[~own] > 0).sum())
        assert (told.rows.train, told.rows.valid) == (weighted, int(own.sum()))
        assert told.score == pytest.approx((predicted == train["noisy"])[own].mean())


def test_given_weights_have_a_mean_of_1_over_the_rows_that_are_learnt_from(toy, tmp_path):
    path = toy(n=12)
    file = tmp_path / "data" / "train.csv"
    pd.read_csv(file).assign(worth=[0, 0, 1, 3] * 3).to_csv(file, index=False)
    settings = config.load(path, ["folds.n=2", "data.weight=worth", "members=[mean]"])
    store = open_store(settings)
    competition = load_competition(settings, store, make_folds=True)
    datasets = Datasets(settings, competition, store)
    (member,) = settings.resolve_members()
    located = check_members(settings, [member])[member.name]
    dataset = datasets.of_fold(member, 0, located, new_objective(competition.task))
    weighted = (competition.fold_N != 0) & (competition.weight_N > 0)
    assert dataset.rows.tolist() == np.flatnonzero(weighted).tolist()
    assert dataset.weights[dataset.rows].mean() == pytest.approx(1)
    shares = dataset.weights[weighted, 0] / competition.weight_N[weighted]
    np.testing.assert_allclose(shares, shares[0])


def test_soft_labels_are_learnt_and_hard_ones_scored(run):
    def soften(table, name, folder):
        if name == "train":
            table["belief"] = np.where(table["target"] == 1, 0.7, 0.3)

    settings, _ = run(soften, "data.soft=belief", n=120)
    predicted = oof(settings)["pred_target"]
    assert np.mean([card(settings, fold).score for fold in (0, 1)]) > 0.85
    assert abs(predicted[predicted > 0.5].mean() - 0.7) < 0.08
    assert abs(predicted[predicted < 0.5].mean() - 0.3) < 0.08


def test_pseudo_labels_join_the_training_and_never_a_fold_that_they_have_seen(run):
    settings, _ = run()
    pipeline.write_pseudo_labels(settings, "first")
    path = [f"store={settings.store}", f"data.dir={settings.data_dir}"]
    again = [*path, "pseudo.labels=first", "members=[{pooler: mean, tag: pl}]", "folds.n=2"]
    file = settings.data_dir.parent / "toy.yaml"
    with_pseudo = config.load(file, again)
    pipeline.train(with_pseudo)
    told = card(with_pseudo, member="tiny-mean-pl-s42")
    plain = card(settings)
    assert told.rows.train == plain.rows.train + 15
    assert told.inputs.pseudo_labels_sha256
    sure = config.load(
        file, [*again, "pseudo.confidence=0.999", "members=[{pooler: mean, tag: no}]"]
    )
    pipeline.train(sure)
    assert card(sure, member="tiny-mean-no-s42").rows.train == plain.rows.train
    for unknown, line in {"pseudo.labels=frist": "first", "run=other": "first|pseudo"}.items():
        with pytest.raises(UserError, match=line):
            pipeline.train(config.load(file, [*again, "members=[{pooler: mean}]", unknown]))


def test_pseudo_labels_weigh_what_training_rows_of_their_labels_do():
    """Balanced, each soft label pulls as its two classes do, in its shares."""
    targets = np.array([[1.0], [0.0], [0.0], [0.0], [1.0]])
    weights = np.array([[2.0], [0.5], [0.5], [0.5], [9.0]])
    rows = np.arange(4)  # the last row is the fold's own
    dataset = FoldDataset(None, rows, targets, weights, None)
    labels = np.array([[1.0], [0.0], [0.5]])
    np.testing.assert_allclose(_expected_weights(dataset, labels), [[2.0], [0.5], [1.25]])
    classes = FoldDataset(
        None, rows, np.eye(3)[[0, 1, 1, 2, 0]], np.array([[3.0], [1], [1], [2], [9]]), None
    )
    shares = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(_expected_weights(classes, shares), [[2.0], [2.0]])


def test_pseudo_labels_made_beside_another_joined_test_table_are_refused(run):
    settings, _ = run(
        ask, JOIN.replace("on:", "test: prompts.csv, on:"), "data.text=[question, text]"
    )
    pipeline.write_pseudo_labels(settings, "first")
    folder = settings.data_dir
    other = (folder / "prompts.csv").read_text().replace("the day", "the house")
    (folder / "others.csv").write_text(other)
    again = config.load(
        folder.parent / "toy.yaml",
        [
            "folds.n=2", "data.text=[question, text]", "pseudo.labels=first",
            JOIN.replace("on:", "test: others.csv, on:"), "members=[{pooler: max, tag: pl}]",
        ],
    )  # fmt: skip
    with pytest.raises(UserError, match="first were made for another test table"):
        pipeline.train(again)
