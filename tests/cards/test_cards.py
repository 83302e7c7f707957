"""Every kind of card reads back as it was written, and nothing else is read in its place."""

import importlib
import json
import pkgutil

import pytest

from poolblend import cards
from poolblend.cards.backbone import StoredBackbone
from poolblend.cards.card import Card, DamagedError, read_json
from poolblend.store.cards import read_card, write_card
from poolblend.training.recipes import switched_off
from rig.cards import examples, fold_inputs
from rig.edited import edit_card

for module in pkgutil.iter_modules(cards.__path__):
    importlib.import_module(f"poolblend.cards.{module.name}")
EXAMPLES = examples()
# StoredBackbone is only what two kinds have in common.
KINDS = sorted(
    {*Card.__subclasses__(), *StoredBackbone.__subclasses__()} - {StoredBackbone},
    key=lambda kind: kind.__name__,
)


def test_every_kind_is_tried():
    assert EXAMPLES.keys() == {*KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_reads_back_as_it_was_written(kind, tmp_path):
    path, card = tmp_path / "card.json", EXAMPLES[kind]
    assert read_card(path, kind) is None
    write_card(path, card)
    assert read_card(path, kind) == card
    assert read_card(path, kind).fingerprint() == card.fingerprint()
    assert read_json(kind, card.to_json(), "card.json").to_json() == card.to_json()


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_byte_or_a_cut_is_refused_or_changes_nothing(kind, tmp_path):
    path, card = tmp_path / "card.json", EXAMPLES[kind]
    whole = card.to_json().encode()
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 100)):
        changed = whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        for damaged in (changed, whole[:place]):
            path.write_bytes(damaged)
            try:
                assert read_card(path, kind) == card
            except DamagedError:
                refused += 1
    assert refused > 190


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_field_is_refused_by_name(kind, tmp_path):
    path = tmp_path / "card.json"
    write_card(path, EXAMPLES[kind])
    edit_card(path, lambda content: content.update(surprise=1))
    line = r"card.json was written by another version of poolblend \(surprise: extra inputs"
    with pytest.raises(DamagedError, match=line):
        read_card(path, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_of_another_kind_is_refused(kind):
    text = EXAMPLES[kind].to_json()
    for other in KINDS:
        if other is not kind:
            with pytest.raises(DamagedError, match="card.json was written by another"):
                read_json(other, text, "card.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"text"', b"\xff\x00", b"{}", b"[" * 9999])
def test_what_is_no_card_is_damaged(tmp_path, content):
    path = tmp_path / "card.json"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="card.json is damaged"):
        read_card(path, KINDS[0])


def test_the_fingerprint_does_not_depend_on_the_order_of_keys():
    card = EXAMPLES[KINDS[0]]
    content = json.loads(card.model_dump_json())
    again = type(card).model_validate_json(json.dumps(dict(reversed(content.items()))))
    assert again.fingerprint() == card.fingerprint()


def test_a_recipe_added_since_makes_no_fold_stale_until_it_is_switched_on():
    train = {"lr": 2e-5, **switched_off()}
    without = {key: value for key, value in train.items() if key != "awp"}
    old = fold_inputs(settings={"train": without})
    assert fold_inputs(settings={"train": train}).changes_since(old) == []
    on = fold_inputs(settings={"train": {**train, "awp": 0.001}})
    assert on.changes_since(old) == ["train.awp was None, is 0.001"]
    missing_rate = fold_inputs(settings={"train": switched_off()})
    assert on.changes_since(missing_rate)[-1] == "train.lr was None, is 2e-05"
