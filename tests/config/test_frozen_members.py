"""Keys of a frozen member: those that do nothing are refused, the run's are simply not for it."""

import pytest

from poolblend import config
from poolblend.errors import UserError
from poolblend.training.options import Train


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["members=[{pooler: mean, head: svr, train: {epochs: 3}}]"], "train.epochs does nothing"),
        (["members=[{pooler: mean, train: {lora: 4}}]", "head=ridge"], "train.lora does nothing"),
        (
            ["members=[{pooler: mean, head: {kind: svr, dropout: 0.2}}]"],
            "minilm-mean-svr-s42: head.dropout does nothing with head.kind=svr; leave it out",
        ),
        (["members=[{pooler: mean, head: svr, seed: 3}]"], "seed does nothing"),
        (["members=[{pooler: mean, head: {C: 3}}]"], "head.C does nothing with head.kind=linear"),
        (["members=[mean]", "head.C=3"], "head.C does nothing without a head.kind"),
    ],
)
def test_a_key_that_does_nothing_is_refused(sets, told):
    with pytest.raises(UserError, match=told):
        config.load(None, sets)


@pytest.mark.parametrize(
    "sets",
    [
        ["members=[{pooler: mean, head: svr, train: {precision: fp32, class_weights: balanced}}]"],
        ["members=[mean, {pooler: mean, head: svr}]", "train.lora=4", "head.dropout=0.2"],
        ["members=[{pooler: mean, head: svr}]", "head.norm=batch", "train.batch_size=1"],
        ["members=[mean, {pooler: mean, head: svr}]", "head.C=3"],
    ],
)
def test_the_runs_keys_are_simply_not_for_it(sets):
    sets = ["train.freeze_layers=null", *sets]  # which the default freezes, and LoRA refuses
    frozen = config.load(None, sets).resolve_members()[-1]
    given = {"precision": "fp32", "class_weights": "balanced"} if "precision" in sets[1] else {}
    assert frozen.applied_train == Train(**given)


def test_heads_over_one_pooler_have_names_of_their_own_and_more_seeds_make_no_copies():
    members = config.load(
        None,
        ["members=[mean, {pooler: mean, head: svr}, {pooler: mean, head: ridge}]", "seeds=[1, 2]"],
    ).resolve_members()
    assert [member.name for member in members] == [
        "minilm-mean-s1",
        "minilm-mean-s2",
        "minilm-mean-svr-s1",
        "minilm-mean-ridge-s1",
    ]
