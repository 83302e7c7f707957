"""Keys of a member without an encoder: those that do nothing are refused, the run's are not its."""

import pytest

from poolblend import config
from poolblend.config import TfidfMember
from poolblend.errors import UserError
from poolblend.training.options import Train


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("mask: content", "tfidf-logistic-s42: mask does nothing with model=tfidf; leave it out"),
        ("max_length: 64", "max_length does nothing"),
        ("truncation: head", "truncation does nothing"),
        ("windows: {most: 2}", "windows does nothing"),
        ("backbone: other/one", "backbone does nothing"),
        ("pooler_args: {k: 2}", "pooler_args does nothing"),
        ("seed: 3", "seed does nothing"),
        ("train: {lr: 0.1}", "train.lr does nothing"),
        ("train: {precision: bf16}", "train.precision does nothing"),
        ("train: {label_smoothing: 0.1}", "train.label_smoothing does nothing"),
        ("head: {dropout: 0.2}", "head.dropout does nothing"),
        ("head: linear", "head.kind=linear does not fit model=tfidf; choose logistic, ridge, nb"),
        ("head: svr", "head.kind=svr does not fit model=tfidf; choose logistic, ridge, nb"),
        ("pooler: mean", "a member has either a `pooler` or a `model`, one of them"),
    ],
)
def test_a_key_that_does_nothing_is_refused(keys, says):
    with pytest.raises(UserError, match=says):
        config.load(None, [f"members=[{{model: tfidf, {keys}}}]"])


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["members=[{model: tfidff}]"], "input should be 'tfidf'"),
        (["members=[{model: {words: [2, 1]}}]"], "the shortest and the longest length"),
        (["members=[{model: {words: [1]}}]"], "at least 2 items"),
        (["members=[{model: {words: null, characters: null}}]"], "both null: nothing is read"),
        (["members=[{model: {mindf: 2}}]"], "unknown key 'model.mindf'.*mean 'model.min_df'"),
        (["members=[{tag: x}]"], "a member has either a `pooler` or a `model`, one of them"),
        (["members=[{pooler: mean, head: nb}]"], "nb counts n-grams: it needs model=tfidf"),
        (["members=[mean]", "head=nb"], "nb counts n-grams: it needs model=tfidf"),
        (["members=[tfidf, {model: tfidf, head: {C: 1}}]"], "two members are named tfidf-logistic"),
        (["members=[tfidf]", "head.C=2"], "head.C does nothing without a head.kind"),
        (
            ["members=[{model: tfidf, head: nb}]", "data.numeric=[length]"],
            "nb counts n-grams, and data.numeric and data.categorical are no counts",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(sets, says):
    with pytest.raises(UserError, match=says) as refused:
        config.load(None, sets)
    assert "\n" not in str(refused.value)


def test_the_runs_encoder_keys_are_simply_not_for_it():
    sets = ["members=[mean, tfidf]", "head={kind: logistic, C: 9}", "mask=content"]
    sets += [
        "train.freeze_layers=null",
        "train.lr=1",
        "train.class_weights=balanced",
        "max_length=9",
    ]
    member = config.load(None, sets).resolve_members()[-1]
    assert isinstance(member, TfidfMember)
    assert member.head.C != 9
    assert member.train == Train(precision="fp32", class_weights="balanced")


@pytest.mark.parametrize(
    ("task", "metric", "name"),
    [
        ("binary", "f1", "tfidf-logistic-s42"),
        ("multilabel", "f1_macro", "tfidf-logistic-s42"),
        ("regression", "rmse", "tfidf-ridge-s42"),
        ("ordinal", "qwk", "tfidf-ridge-s42"),
    ],
)
def test_its_head_follows_from_the_task(task, metric, name):
    sets = ["members=[tfidf]", f"task={task}", f"metric={metric}", "data.demo=false"]
    assert [each.name for each in config.load(None, sets).resolve_members()] == [name]


def test_it_is_chosen_by_its_model_and_more_seeds_make_no_copies():
    heads = "tfidf, {model: tfidf, head: nb, tag: x}"
    settings = config.load(None, [f"members=[mean, {heads}]", "seeds=[1, 2]"])
    names = [member.name for member in settings.resolve_members(["tfidf"])]
    assert names == ["tfidf-logistic-s1", "tfidf-nb-x-s1"]
    unlisted = config.load(None, ["members=[mean]"]).resolve_members(["tfidf"])
    assert [member.name for member in unlisted] == ["tfidf-logistic-s42"]
