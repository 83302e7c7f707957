"""A blend card with impossible contents is refused before anything is computed."""

import pytest

from poolblend.errors import UserError
from poolblend.jobs.blend_plan import read_blend
from poolblend.store import Store
from rig.blend_cards import blend_card
from rig.edited import edit_card


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path, "toy")
    store.write_blend(blend_card())
    return store


def test_a_whole_card_is_read_with_the_mixture_of_its_members(store):
    card, mixture = read_blend(store)
    assert card == blend_card(provenance=card.provenance)
    assert mixture.weights_MK.tolist() == [[1.0]]
    assert card.describe() == f"m, honest f1 0.7000 ({card.provenance.written})"


CHANGES = {
    "no members": lambda card: card.update(members={}),
    "a field is missing": lambda card: card.pop("blenders"),
    "a field that is not known": lambda card: card.update(more=1),
    "no task": lambda card: card.update(task={}),
    "an unknown metric": lambda card: card.update(metric="f9"),
    "an unknown blender": lambda card: card.update(blender="other"),
    "no such cuts": lambda card: card["mixture"].update(cuts=[0.1, 0.2]),
    "no cuts": lambda card: card["mixture"].update(cuts=[]),
    "weights of two members": lambda card: card["mixture"].update(weights=[[0.5], [0.5]]),
    "weights beyond one": lambda card: card["mixture"].update(weights=[[2.0]]),
    "endless weights": lambda card: card["mixture"].update(weights=[[10**400]]),
    "no weights": lambda card: card["mixture"].update(weights=[[0.0]]),
    "ranks without quantiles": lambda card: card["mixture"].update(space="rank", quantiles=[]),
    "quantiles of words": lambda card: card["mixture"].update(space="rank", quantiles=[[["a"]]]),
    "falling quantiles": lambda card: card["mixture"].update(space="rank", quantiles=[[[1, 0]]]),
    "no intercept": lambda card: card["mixture"].pop("intercept"),
    "an unknown space": lambda card: card["mixture"].update(space="cube"),
    "no files": lambda card: card["members"]["m"].update(origin={}),
    "a test file without a hash": lambda card: card["members"]["m"]["origin"].update(
        test_file={"path": "x"}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_card_that_was_edited_and_sealed_anew_is_refused(store, change):
    edit_card(store.blend_path, change)
    with pytest.raises(UserError, match=r"blend.json (is|was) .*; run blend.py again") as caught:
        read_blend(store)
    assert "\n" not in str(caught.value)


def test_a_card_of_another_run_is_refused(store):
    store.write_blend(blend_card(run="other"))
    with pytest.raises(UserError, match="blend.json is of another run, other; run blend.py again"):
        read_blend(store)
