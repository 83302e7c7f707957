"""Poolers by name: what is known, what is refused, and the layers they then ask for."""

from __future__ import annotations

import math

import pytest

from poolblend.errors import UserError
from poolblend.modeling.poolers import EncoderShape, build_pooler

SHAPE = EncoderShape(hidden_size=8, n_layers=5, vocab_size=40)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("maxx", {}, "unknown pooler 'maxx'; did you mean 'max'? known: attention, cls, "),
        ("mean", {"k": 3}, "pooler 'mean': unknown argument 'k'; known: none"),
        ("weighted", {"byy": "idf"}, "unknown argument 'byy'; did you mean 'by'? known: by"),
        ("weighted", {"by": "tfidf"}, "unknown weight 'tfidf' in 'by'; did you mean 'idf'?"),
        (
            "weighted_layer",
            {"tokens": "max"},
            "unknown choice 'max' in 'tokens'; did you mean 'mean'?",
        ),
        (
            "weighted_layer",
            {"layer_start": 6},
            "layer_start is 6; set it to a whole number from -6",
        ),
        ("weighted_layer", {"layer_start": -7}, "layer_start is -7; "),
        (
            "concat_layers",
            {"n": 7},
            "pooler 'concat_layers': n is 7; set it to a whole number from",
        ),
        ("concat_layers", {"n": 0}, "n is 0; set it to a whole number from 1 to 6"),
        (
            "mean_kmax",
            {"k": 0},
            "pooler 'mean_kmax': k is 0; set it to a whole number of at least 1",
        ),
        ("mean_kmax", {"k": 2.5}, "k is 2.5; "),
        ("mean_kmax", {"k": True}, "k is True; "),
        ("attention", {"hidden": "big"}, "hidden is 'big'; "),
        ("gem", {"p": 0}, "pooler 'gem': p is 0; set it to a number above 0"),
        ("gem", {"p": math.nan}, "p is nan; "),
        ("gem", {"p": "3"}, "p is '3'; "),
    ],
)
def test_a_wrong_name_or_argument_is_refused_in_one_line(name, args, message):
    with pytest.raises(UserError) as error:
        build_pooler(name, SHAPE, args)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_layers_are_the_last_four_or_all_there_are():
    shallow = SHAPE._replace(n_layers=2)
    assert build_pooler("weighted_layer", SHAPE, {}).layers == (2, 3, 4, 5)
    assert build_pooler("weighted_layer", SHAPE, {"layer_start": -1}).layers == (5,)
    assert build_pooler("weighted_layer", shallow, {}).layers == (0, 1, 2)
    assert build_pooler("concat_layers", SHAPE, {}).layers == (-4, -3, -2, -1)
    assert build_pooler("concat_layers", shallow, {}).layers == (-3, -2, -1)
