"""A metric averaged over the groups of a column: scored so in training, blend and submission."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.loading.competition import load_competition, open_store

RULES = ["be kind", "no ads"]
MEMBER = "tfidf-logistic-s42"


@pytest.fixture
def settings(toy, tmp_path):
    path = toy("binary", n=80, n_test=40, metric="roc_auc", submission="probabilities")
    folder = tmp_path / "data"
    for name in ("train", "test"):
        table = pd.read_csv(folder / f"{name}.csv")
        table.assign(rule=np.resize(RULES, len(table))).to_csv(folder / f"{name}.csv", index=False)
    for name in ("train", "test_labels"):  # too easy as they are
        table = pd.read_csv(folder / f"{name}.csv")
        table["target"] = np.where(np.arange(len(table)) % 5, table["target"], 1 - table["target"])
        table.to_csv(folder / f"{name}.csv", index=False)
    sets = ["members=[tfidf, {model: tfidf, head: nb}]", "folds.n=2", "metric_by=rule"]
    quick = "blend={resamples: 50, fitters: [equal, convex, greedy], slices: [rule]}"
    return config.load(path, [*sets, quick, "data.test_labels=test_labels.csv"])


def mean_auc(rule, y, pred):
    return np.mean([roc_auc_score(y[rule == each], pred[rule == each]) for each in RULES])


def test_members_blend_and_submission_are_scored_by_the_mean_over_groups(settings, capsys):
    pipeline.train(settings)
    result = pipeline.blend(settings)
    store = open_store(settings)
    competition = load_competition(settings, store)
    train = competition.tables.train.set_index("id")
    fold = store.fold(MEMBER, 0)
    oof = fold.oof().set_index("id")
    rows = train.loc[oof.index]
    wanted = mean_auc(rows["rule"], rows["target"], oof.iloc[:, -1])
    assert fold.card().score == pytest.approx(wanted, rel=1e-12)
    plain = roc_auc_score(rows["target"], oof.iloc[:, -1])
    assert wanted != pytest.approx(plain, rel=1e-6)
    assert result.card.metric == "roc_auc"
    submission = pd.read_csv(pipeline.infer(settings)).set_index("id")
    hidden = pd.read_csv(settings.data_dir / "test_labels.csv").set_index("id")
    test = pd.read_csv(settings.data_dir / "test.csv").set_index("id").loc[submission.index]
    truth = hidden.loc[submission.index, "target"]
    score = mean_auc(test["rule"], truth, submission["target"])
    said = capsys.readouterr().out
    assert f"submission against the hidden labels: roc_auc by rule {score:.4f}" in said
    assert "honest roc_auc by rule" in result.card.sentence
    assert "roc_auc by rule (higher is better)" in pipeline.board(settings)


def test_a_group_of_one_class_is_refused_before_anything_is_trained(settings):
    table = pd.read_csv(settings.data_dir / "train.csv")
    table.loc[table["target"] == 1, "rule"] = RULES[0]
    table.to_csv(settings.data_dir / "train.csv", index=False)
    with pytest.raises(UserError, match="metric_by: within rule 'no ads' roc_auc of 'target' is"):
        pipeline.train(settings)
    assert not open_store(settings).members()
