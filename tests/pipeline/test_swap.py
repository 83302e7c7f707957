"""data.swap: pairs are learned in both orders, and predicted as the mean of the two."""

import json

import numpy as np
import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.competition.options import Swap
from poolblend.competition.tasks import Task
from poolblend.errors import UserError
from poolblend.loading.competition import load_competition, open_store
from poolblend.loading.orders import exchange_of
from rig.fold_models import fold_models
from rig.toys import FILLER

pytestmark = pytest.mark.usefixtures("_imported")
N, N_TEST = 48, 10
OUTCOMES = ["win_a", "win_b", "tie"]
WORDS = {"good": "lovely bright", "bad": "awful dark"}
SWAP = {"columns": {"a": "b"}, "labels": {"win_a": "win_b"}}


def made(folder, tiny_backbone, **keys):
    """A preference task whose answers tell which one won; the first one wins mostly."""
    rng, total = np.random.default_rng(0), N + N_TEST
    outcome = rng.permutation(np.resize([0, 0, 1, 2], total))
    kinds = {0: ("good", "bad"), 1: ("bad", "good"), 2: ("good", "good")}
    table = pd.DataFrame({"id": [f"r{n:02}" for n in range(total)]})
    for place, column in enumerate("ab"):
        table[column] = [
            " ".join([WORDS[kinds[k][place]], *rng.choice(FILLER, rng.integers(1, 6))])
            for k in outcome
        ]
        table[f"length_{column}"] = rng.integers(1, 9, total)
    targets = {name: (outcome == k).astype(int) for k, name in enumerate(OUTCOMES)}
    table = table.assign(**targets, first=np.where(outcome == 0, "yes", "no"))
    table[:N].to_csv(folder / "train.csv", index=False)
    test = table[N:].drop(columns=[*OUTCOMES, "first"])
    test.to_csv(folder / "test.csv", index=False)
    data = {"dir": str(folder), "text": ["a", "b"], "target": OUTCOMES, "swap": SWAP}
    given = {
        "task": "multiclass",
        "metric": "log_loss",
        "data": data | keys.pop("data", {}),
        "folds": {"n": 2},
        "backbone": str(tiny_backbone),
        "max_length": 24,
        "members": ["mean"],
        "train": {"epochs": 1, "batch_size": 8, "lr": 1e-3, "head_lr": 1e-2},
        "blend": {"resamples": 50, "fitters": ["equal"]},
        "store": str(folder / "store"),
        **keys,
    }
    sample = table[N:][["id"]].assign(**dict.fromkeys(given["data"]["target"], 1 / 3))
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return config.of_values(given)


def swapped(table):
    return table.rename(
        columns={"a": "b", "b": "a", "length_a": "length_b", "length_b": "length_a"}
    )


@pytest.mark.parametrize(
    ("keys", "member"),
    [
        ({}, "tiny-mean-s42"),
        ({"data": {"join": "pair"}}, "tiny-mean-s42"),
        ({"data": {"text": "{a} [SEP] {b}"}}, "tiny-mean-s42"),
        ({"members": [{"pooler": "mean", "head": "logistic"}]}, "tiny-mean-logistic-s42"),
        ({"members": [{"pooler": "max", "train": {"freeze_layers": 1}}]}, "tiny-max-s42"),
        (
            {
                "data": {
                    "numeric": ["length_a", "length_b"],
                    "swap": {**SWAP, "columns": {"a": "b", "length_a": "length_b"}},
                }
            },
            "tiny-mean-s42",
        ),
    ],
    ids=["separator", "pair", "template", "frozen", "half frozen", "numbers"],
)
def test_a_row_in_the_other_order_is_predicted_as_the_other_outcome(
    tmp_path, tiny_backbone, keys, member
):
    settings = made(tmp_path, tiny_backbone, **keys)
    pipeline.train(settings)
    pipeline.blend(settings)
    pipeline.verify_oof(settings)
    assert open_store(settings).fold(member, 0).card().rows.train == N // 2
    test = pd.read_csv(tmp_path / "test.csv")
    columns = [f"pred_{name}" for name in OUTCOMES]
    one, other = (
        pipeline.predict(settings, table)[columns].to_numpy() for table in (test, swapped(test))
    )
    np.testing.assert_allclose(other, one[:, [1, 0, 2]], atol=1e-6)
    np.testing.assert_allclose(one.sum(axis=1), 1, atol=1e-6)
    submitted = pd.read_csv(pipeline.infer(settings))[OUTCOMES].to_numpy()
    np.testing.assert_allclose(submitted, one, atol=1e-6)


def test_a_prediction_is_the_mean_of_both_orders(tmp_path, tiny_backbone):
    settings = made(tmp_path, tiny_backbone)
    pipeline.train(settings)
    store = open_store(settings)
    test = load_competition(settings, store).tables.test
    rows = np.arange(len(test))
    plain = settings.data.model_copy(update={"swap": None})
    card = store.fold("tiny-mean-s42", 0).card()
    assert card.inputs.swap == settings.data.swap
    both_NK = fold_models(settings, store, test, "test").predict("tiny-mean-s42", 0, rows)
    alone = []
    for table in (test, swapped(test)):
        models = fold_models(settings, store, table, "test")
        models.texts.encode_orders = lambda *a, texts=models.texts: texts.encode(*a[:3])
        alone.append(models.predict("tiny-mean-s42", 0, rows))
    np.testing.assert_allclose(both_NK, (alone[0] + alone[1][:, [1, 0, 2]]) / 2, atol=1e-6)
    assert np.abs(alone[0] - alone[1][:, [1, 0, 2]]).max() > 1e-4  # the orders differ
    with pytest.raises(UserError, match="swap was .*, is None"):
        pipeline.train(settings.model_copy(update={"data": plain}))


def test_a_binary_label_is_flipped_and_pseudo_labels_are_learned_in_both_orders(
    tmp_path, tiny_backbone
):
    data = {"target": "first", "swap": {"columns": {"a": "b"}, "labels": {"yes": "no"}}}
    settings = made(
        tmp_path, tiny_backbone, task="binary", metric="roc_auc", data={**data, "target": ["first"]}
    )
    pipeline.train(settings)
    pipeline.blend(settings)
    test = pd.read_csv(tmp_path / "test.csv")
    one, other = (pipeline.predict(settings, each)["pred_first"] for each in (test, swapped(test)))
    np.testing.assert_allclose(one, 1 - other, atol=1e-6)
    pipeline.write_pseudo_labels(settings, "first")
    more = [{"pooler": "mean", "tag": "pseudo", "pseudo": {"labels": "first"}}]
    again = config.of_values(json.loads(settings.model_dump_json()) | {"members": more})
    pipeline.train(again)
    card = open_store(again).fold("tiny-mean-pseudo-s42", 0).card()
    assert card.rows.train == N // 2 + N_TEST


@pytest.mark.parametrize(
    ("kind", "labels", "rows", "expected"),
    [
        ("multiclass", {"x": "y"}, [[0.5, 0.3, 0.2]], [[0.3, 0.5, 0.2]]),
        ("multiclass", {}, [[0.5, 0.3, 0.2]], [[0.5, 0.3, 0.2]]),
        ("multilabel", {"z": "x"}, [[0.5, 0.3, 0.2]], [[0.2, 0.3, 0.5]]),
        ("regression", {"x": "y", "y": "x"}, [[5.0, -3.0, 2.0]], [[-3.0, 5.0, 2.0]]),
    ],
)
def test_outputs_change_places(kind, labels, rows, expected):
    names = ("x", "y", "z")
    task = Task(kind, ("t",), names) if kind == "multiclass" else Task(kind, names)
    exchange = exchange_of(task, Swap(columns={"a": "b"}, labels=labels))
    assert exchange(np.array(rows)).tolist() == expected
    assert exchange(exchange(np.array(rows))).tolist() == rows
    assert exchange_of(task, None) is None


@pytest.mark.parametrize(
    ("swap", "line"),
    [
        ({"columns": {"a": "b"}, "labels": {"x": "y", "y": "z"}}, "'y' changes places with more"),
        ({"columns": {"a": "b", "b": "c"}}, "'b' changes places with more than one"),
        ({"columns": {"a": "a"}}, "'a' changes places with more than one, or with itself"),
        (["a", "c"], "unknown column 'c' of text or numbers in data.swap"),
        (["a"], "a list of two columns change places, not of 1"),
        ({"columns": {"a": "n"}}, "swap: 'a' is text, 'n' is numeric; only columns of one kind"),
        ({"columns": {}}, "at least 1 item"),
    ],
)
def test_what_is_no_exchange_is_refused(swap, line):
    with pytest.raises(UserError, match=line):
        config.of_values({"data": {"text": ["a", "b"], "numeric": ["n"], "swap": swap}})


def test_an_unknown_label_is_refused_before_training(tmp_path, tiny_backbone):
    swap = {"columns": {"a": "b"}, "labels": {"win_a": "win_d"}}
    with pytest.raises(UserError, match="unknown label 'win_d' in data.swap.labels"):
        pipeline.train(made(tmp_path, tiny_backbone, data={"swap": swap}))


def test_rows_that_are_each_others_other_order_share_a_fold(tmp_path, tiny_backbone):
    settings = made(tmp_path, tiny_backbone)
    train = pd.read_csv(tmp_path / "train.csv")
    mirrored = swapped(train).assign(
        id="m" + train["id"], win_a=train["win_b"], win_b=train["win_a"]
    )
    pd.concat([train, mirrored]).to_csv(tmp_path / "train.csv", index=False)
    competition = load_competition(settings, open_store(settings), make_folds=True)
    fold_N = competition.fold_N
    assert (fold_N[:N] == fold_N[N:]).all()
    assert len(set(fold_N.tolist())) == 2


@pytest.mark.parametrize("labels", [{1: 0}, {1: 0, 0: 1}, {"1": "0"}])
def test_labels_that_are_numbers_are_read_again_from_a_card(labels):
    swap = Swap(columns={"a": "b"}, labels=labels)
    assert Swap.model_validate_json(swap.model_dump_json()) == swap
    exchange = exchange_of(Task("binary", ("t",), (0, 1)), swap)
    assert exchange(np.array([[0.2]])).tolist() == [[0.8]]


def test_numbers_and_categories_are_fitted_to_both_orders(tmp_path, tiny_backbone):
    swap = {**SWAP, "columns": {"a": "b", "length_a": "length_b"}}
    data = {"categorical": ["length_a", "length_b"], "swap": swap}
    settings = made(tmp_path, tiny_backbone, data=data)
    pipeline.train(settings, folds="0")
    card = open_store(settings).fold("tiny-mean-s42", 0).card()
    one, other = card.columns.categories
    assert one == other


def test_two_columns_alone_are_a_pair_whose_label_stays():
    data = config.of_values({"data": {"text": ["a", "b"], "swap": ["a", "b"]}}).data
    assert data.swap == Swap(columns={"a": "b"})
    assert data.swap.renamed == {"a": "b", "b": "a"}
