"""`train.py --screen`: all poolers on one fold above a shared frozen part."""

import pytest

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.jobs import frozen_states
from poolblend.loading.competition import open_store
from poolblend.modeling.poolers import POOLERS


@pytest.mark.slow
def test_every_pooler_is_compared_once_and_the_same_command_only_prints_again(
    toy, capsys, monkeypatch
):
    tables, plain = [], frozen_states.compute_states

    def spy(model, encoded, layers, *rest, **how):
        tables.append(layers)
        plain(model, encoded, layers, *rest, **how)

    monkeypatch.setattr(frozen_states, "compute_states", spy)
    more = ["members=[{pooler: mean_kmax, pooler_args: {k: 2}}]", "train.ema=0.9", "train.fgm=1"]
    settings = config.load(toy(metric="log_loss", submission="probabilities", n=90), more)
    pipeline.screen(settings)
    shown = capsys.readouterr().out
    assert sorted(tables) == [(0, 1), (1,)]
    store = open_store(settings.model_copy(update={"run": "toy-screen"}))
    cards = {name: store.fold(name, 0).card() for name in store.members()}
    assert {card.member.pooler for card in cards.values()} == set(POOLERS)
    assert len(cards) == len(POOLERS) + 1
    assert {card.member.train.freeze_layers for card in cards.values()} == {1}
    assert {card.member.train.ema for card in cards.values()} == {None}
    assert {c.member.pooler_args.get("k") for c in cards.values()} == {None, 2}
    assert all(store.fold(name, 1).card() is None for name in cards)
    for pooler in POOLERS:
        assert pooler in shown
    assert "--pooler " in shown
    tables.clear()
    pipeline.screen(settings)
    assert capsys.readouterr().out == shown
    assert tables == []


def test_several_folds_are_refused(toy):
    with pytest.raises(UserError, match="--fold 0,1: --screen compares poolers on one fold"):
        pipeline.screen(config.load(toy()), fold="0,1")
