"""Two columns as one label, three labels in a cell, scored by MAP@3: from tables to submission."""

import numpy as np
import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.loading.competition import load_competition, open_store

COLUMN = "Category:Kind"
PARTS = {"good": ("True", "NA"), "bad": ("False", "dark"), "odd": ("False", "square")}
QUICK = ["folds.n=2", "blend={resamples: 50, fitters: [equal, best]}", "members=[tfidf]"]


@pytest.fixture
def joint(toy, tmp_path):
    """A toy competition that asks for the three likeliest of labels such as `False:dark`."""
    path = toy("multiclass", n=90, n_test=12)
    folder = tmp_path / "data"
    for name in ("train", "test_labels"):
        table = pd.read_csv(folder / f"{name}.csv")
        table[COLUMN.split(":")] = table.pop("target").map(PARTS).tolist()
        table.to_csv(folder / f"{name}.csv", index=False)
    test = pd.read_csv(folder / "test.csv")
    sample = test[["id"]].assign(**{COLUMN: "True:NA False:dark False:square"})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    target = "data.target='{Category}:{Kind}'"
    return config.load(path, [*QUICK, "metric=map3", target, "data.test_labels=test_labels.csv"])


def test_labels_of_two_columns_are_learnt_and_three_of_them_submitted(joint, capsys):
    pipeline.train(joint)
    pipeline.blend(joint)
    submission = pd.read_csv(pipeline.infer(joint))
    assert list(submission.columns) == ["id", COLUMN]
    competition = load_competition(joint, open_store(joint))
    labels = [":".join(parts) for parts in PARTS.values()]
    assert sorted(competition.task.classes) == sorted(labels)
    cells = submission[COLUMN].str.split(" ")
    assert all(sorted(cell) == sorted(labels) for cell in cells)
    hidden = pd.read_csv(joint.data_dir / "test_labels.csv", keep_default_na=False)
    hidden = hidden.astype(str).set_index("id").loc[submission["id"].astype(str)]
    truth = hidden["Category"] + ":" + hidden["Kind"]
    places = [1 + cell.index(label) for cell, label in zip(cells, truth, strict=True)]
    score = float(np.mean([1 / place for place in places]))
    assert f"submission against the hidden labels: map3 {score:.4f}" in capsys.readouterr().out
    assert score > 0.6
