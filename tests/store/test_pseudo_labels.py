"""Pseudo-labels never change, and are given to no fold that may have been seen in making them."""

import copy
import shutil

import numpy as np
import pandas as pd
import pytest

from poolblend.errors import UserError
from poolblend.store import DamagedError, Store
from poolblend.store.cards import read_card, write_card
from poolblend.store.predictions import to_table
from poolblend.store.survey import begun_folds, survey_extras

TASK = {"kind": "binary", "targets": ["target"], "classes": [0, 1], "outputs": ["target"]}
HERE = {"train_sha256": "1", "folds_sha256": "2", "task": TASK}
TABLES = [to_table(["x", "y"], np.array([[0.1 + k], [0.2]]), ["target"]) for k in (0.1, 0.3)]


def told(fold):
    members = {"m": {"fold": fold, "weight": 1.0, "weights_sha256": f"{fold}"}}
    return {"fold": fold, "without": fold, "members": members, "mixture": {"weights": [[1.0]]}}


CARD = {**HERE, "test_sha256": "3", "folds": [told(0), told(1)], "written": "today"}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path, "toy")
    assert store.pseudo("first").save(TABLES, CARD)
    return store


def change(store, edit):
    """Another card, whole, in place of the one written."""
    path = store.pseudo("first").folder / "card.json"
    card = read_card(path)
    edit(card)
    write_card(path, card)


def test_each_folds_labels_read_back(store):
    for fold in (0, 1):
        labels = store.read_pseudo("first", fold, **HERE)
        assert labels.attrs == {"test_sha256": "3"}
        pd.testing.assert_frame_equal(labels, TABLES[fold])
    assert store.pseudo_names() == ["first"]


def test_an_unknown_name_is_told_those_that_there_are(store):
    line = "unknown pseudo-labels 'frist' of run toy, .*did you mean 'first'"
    with pytest.raises(UserError, match=line):
        store.read_pseudo("frist", 0, **HERE)
    with pytest.raises(UserError, match=line):
        store.pseudo_sha256("frist")
    with pytest.raises(UserError, match="infer.py --pseudo-labels makes; known: none"):
        Store(store.root, "other").pseudo_sha256("first")


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"train_sha256": "9"}, "come from another competition: they were made with another train"),
        (
            {"task": {**TASK, "classes": [1, 0]}},
            "come from another competition: .* another task; make",
        ),
        ({"folds_sha256": "9"}, "were made with other folds, so that their models have seen rows"),
    ],
)
def test_labels_of_another_competition_or_of_other_folds_are_refused(store, other, line):
    with pytest.raises(UserError, match=f"pseudo-labels first {line}"):
        store.read_pseudo("first", 0, **{**HERE, **other})


def test_labels_that_a_model_made_which_has_seen_the_fold_are_refused(store):
    change(store, lambda card: card["folds"][1]["members"]["m"].update(fold=0))
    store.read_pseudo("first", 0, **HERE)
    with pytest.raises(UserError, match="for fold 1 were made by the fold 0 model of m, which has"):
        store.read_pseudo("first", 1, **HERE)


@pytest.mark.parametrize("key", ["fold", "without"])
def test_labels_blended_by_weights_that_have_seen_the_fold_are_refused(store, key):
    change(store, lambda card: card["folds"][1].update({key: 0}))
    with pytest.raises(UserError, match="for fold 1 were blended by weights that have seen fold 1"):
        store.read_pseudo("first", 1, **HERE)


def test_the_labels_of_another_fold_are_refused(store):
    """Entries of the card exchanged along with the files: all hashes agree."""
    zero, one = (store.pseudo("first").path(fold) for fold in (0, 1))
    content = zero.read_bytes()
    shutil.copy(one, zero)
    one.write_bytes(content)
    with pytest.raises(DamagedError, match="fold0.parquet is damaged"):
        store.read_pseudo("first", 0, **HERE)
    change(store, lambda card: card["folds"].reverse())
    with pytest.raises(UserError, match="for fold 0 were made by the fold 1 model of m"):
        store.read_pseudo("first", 0, **HERE)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["fold0.parquet", "card.json"])
@pytest.mark.parametrize("damage", [flip_a_bit, lambda path: path.unlink()], ids=["bit", "gone"])
def test_damage_is_named_with_what_to_do(store, file, damage):
    folder = store.pseudo("first").folder
    damage(folder / file)
    line = f"{folder}.*; restore it, or delete {folder} and run infer.py --pseudo-labels first"
    for read in (
        lambda: store.read_pseudo("first", 0, **HERE),
        lambda: store.pseudo("first").check(),
        lambda: store.pseudo("first").save(TABLES, CARD),
    ):
        with pytest.raises(DamagedError, match=line):
            read()


@pytest.mark.parametrize("lacking", ["task", "train_sha256", "folds"])
def test_a_card_that_does_not_say_what_it_must_is_damage(store, lacking):
    change(store, lambda card: card.pop(lacking))
    with pytest.raises(DamagedError, match="is damaged: it is no card of pseudo-labels"):
        store.read_pseudo("first", 0, **HERE)


def test_the_same_labels_again_change_nothing_and_others_are_refused(store):
    path = store.pseudo("first").folder / "card.json"
    before = path.read_bytes()
    assert not store.pseudo("first").save(TABLES, {**CARD, "written": "tomorrow"})
    assert path.read_bytes() == before
    reweighted = copy.deepcopy(CARD)
    reweighted["folds"][0]["members"]["m"]["weight"] = 0.5
    for tables, card in (
        (TABLES[::-1], CARD),
        (TABLES, {**CARD, "test_sha256": "9"}),
        (TABLES, reweighted),
        (TABLES[:1], {**CARD, "folds": CARD["folds"][:1]}),
    ):
        with pytest.raises(
            UserError, match="first are there already, made otherwise .* another na"
        ):
            store.pseudo("first").save(tables, card)
    assert path.read_bytes() == before
    assert store.pseudo("second").save(TABLES[::-1], CARD)


def test_the_hash_is_of_the_labels_not_of_when_they_were_made(store):
    store.pseudo("again").save(TABLES, {**CARD, "written": "tomorrow"})
    store.pseudo("other").save(TABLES[::-1], CARD)
    assert store.pseudo_sha256("again") == store.pseudo_sha256("first")
    assert store.pseudo_sha256("other") != store.pseudo_sha256("first")


def test_labels_that_cannot_be_written_are_not_there(store, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(UserError, match="could not write .*second: .*No space left"):
        store.pseudo("second").save(TABLES, CARD)
    assert store.pseudo_names() == ["first"]


def test_the_survey_names_them_and_takes_no_name_for_a_fold(store):
    store.pseudo("fold1").save(TABLES, CARD)
    assert [(str(found), found.state) for found in survey_extras(store)] == [
        ("pseudo-labels first", "whole"),
        ("pseudo-labels fold1", "whole"),
    ]
    assert begun_folds(store) == []
    flip_a_bit(store.pseudo("first").path(1))
    assert [found.state for found in survey_extras(store)] == ["damaged", "whole"]
