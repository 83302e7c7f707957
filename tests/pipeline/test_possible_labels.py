"""data.possible: labels that a joined table allows, from training to the submission."""

import numpy as np
import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.loading.blend_members import gather
from poolblend.loading.competition import open_store

pytestmark = pytest.mark.usefixtures("_imported")
LABELS = {"q1": ["right", "wrong"], "q2": ["right", "unsure", "odd"]}
ALL = sorted({label for labels in LABELS.values() for label in labels})
PRED = [f"pred_{label}" for label in ALL]
N, N_TEST = 60, 12


@pytest.fixture
def settings(tmp_path):
    rng, total = np.random.default_rng(0), N + N_TEST
    questions = np.resize(list(LABELS), total)
    labels = [rng.choice(LABELS[question]) for question in questions]
    said = [label if rng.random() < 0.6 else "that" for label in labels]
    table = pd.DataFrame({"id": np.arange(total), "question": questions, "label": labels})
    table["text"] = [f"says {word} {n}" for n, word in enumerate(said)]
    sample = table[N:][["id"]].assign(**dict.fromkeys(ALL, 0.25))
    cells = [" ".join(each) for each in LABELS.values()]
    for name, each in {
        "train": table[:N],
        "test": table[N:].drop(columns="label"),
        "sample_submission": sample,
        "questions": pd.DataFrame({"question": list(LABELS), "may": cells}),
    }.items():
        each.to_csv(tmp_path / f"{name}.csv", index=False)
    joins = [{"train": "questions.csv", "on": "question"}]
    return config.of_values(
        {
            "task": "multiclass",
            "metric": "log_loss",
            "data": {"dir": str(tmp_path), "target": "label", "joins": joins, "possible": "may"},
            "folds": {"n": 2},
            "members": ["tfidf", {"model": "tfidf", "head": "nb"}],
            "blend": {"resamples": 50, "fitters": ["equal"]},
            "store": str(tmp_path / "store"),
        }
    )


def without(settings):
    data = settings.data.model_copy(update={"possible": None})
    return settings.model_copy(update={"data": data})


def table_of_test(settings):
    return pd.read_csv(settings.data_dir / "test.csv")


def impossible(questions):
    return np.array([[label not in LABELS[each] for label in ALL] for each in questions])


def check_shares(pred_NK, questions):
    assert (pred_NK[..., impossible(questions)] == 0).all()
    np.testing.assert_allclose(pred_NK.sum(axis=-1), 1, atol=1e-6)


def test_no_label_that_is_not_possible_is_blended_or_submitted(settings, capsys):
    pipeline.train(settings)
    pipeline.blend(settings)
    pipeline.verify_oof(settings)  # what is stored is what models give
    kept, whole = (gather(s, open_store(s), None, None) for s in (settings, without(settings)))
    train = kept.competition.tables.train.set_index("id")
    questions = train.loc[kept.matrix.ids_N, "question"]
    check_shares(kept.matrix.oof_MNK, questions)
    assert (whole.matrix.oof_MNK[:, impossible(questions)] > 0).all()
    submitted_NK = pd.read_csv(pipeline.infer(settings))[ALL].to_numpy()
    predicted_NK = pipeline.predict(settings, table_of_test(settings))[PRED].to_numpy()
    check_shares(submitted_NK, table_of_test(settings)["question"])
    np.testing.assert_allclose(predicted_NK, submitted_NK, atol=1e-6)
    pipeline.write_pseudo_labels(settings, "first")
    for file in open_store(settings).pseudo("first").folder.glob("*.parquet"):
        check_shares(pd.read_parquet(file)[PRED].to_numpy(), table_of_test(settings)["question"])


def test_scores_count_what_is_possible_and_models_do_not_learn_from_it(settings, capsys):
    pipeline.train(without(settings))
    models = {path: path.stat().st_mtime_ns for path in open_store(settings).root.rglob("*.safe*")}
    pipeline.train(settings)
    assert all(path.stat().st_mtime_ns == written for path, written in models.items())
    elsewhere = settings.model_copy(update={"store": f"{settings.store}2"})
    pipeline.train(elsewhere)
    whole, masked = (
        open_store(each).fold("tfidf-logistic-s42", 0).card().score
        for each in (settings, elsewhere)
    )
    assert masked < whole  # log loss
    whole, masked = (
        pipeline.blend(each).card.blenders["equal"].honest for each in (without(settings), settings)
    )
    assert masked < whole


def test_an_inference_with_other_labels_than_the_blend_says_so(settings, caplog):
    pipeline.train(settings)
    pipeline.blend(settings)
    pipeline.infer(settings)
    assert "data.possible" not in caplog.text
    pipeline.infer(without(settings))
    assert "the blend was fitted with data.possible=may, and now it is None" in caplog.text


@pytest.mark.parametrize("space", ["logit", "plain"])
def test_what_is_submitted_is_exactly_zero_in_every_space(settings, space):
    blend = settings.blend.model_copy(update={"space": space})
    settings = settings.model_copy(update={"blend": blend})
    pipeline.train(settings)
    pipeline.blend(settings)
    submitted_NK = pd.read_csv(pipeline.infer(settings))[ALL].to_numpy()
    check_shares(submitted_NK, table_of_test(settings)["question"])


def test_members_of_other_tools_keep_to_them_too(settings, tmp_path):
    folder = tmp_path / "members"
    (folder / "test").mkdir(parents=True)
    for place, table in ((folder, "train"), (folder / "test", "test")):
        ids = pd.read_csv(tmp_path / f"{table}.csv")[["id"]]
        ids.assign(**dict.fromkeys(PRED, 0.25)).to_csv(place / "gbm.csv", index=False)
    pipeline.blend(settings, members_from=str(folder))
    submission = pd.read_csv(pipeline.infer(settings))
    check_shares(submission[ALL].to_numpy(), table_of_test(settings)["question"])


@pytest.mark.parametrize(
    ("cells", "line"),
    [
        (["wrong", "right unsure odd"], "data.possible: row '.*' has the label 'right', which its"),
        (["right wrong new", "odd"], "'new' is no label of column 'label'; correct the cell"),
    ],
)
def test_a_table_that_forbids_a_true_label_is_refused_before_training(settings, cells, line):
    path = settings.data_dir / "questions.csv"
    pd.DataFrame({"question": list(LABELS), "may": cells}).to_csv(path, index=False)
    with pytest.raises(UserError, match=line):
        pipeline.train(settings)


def test_other_tasks_have_no_such_key():
    with pytest.raises(UserError, match="data.possible does nothing in a binary task"):
        config.of_values({"data": {"possible": "may"}})
