"""Pseudo-labels never change, and are given to no fold that may have been seen in making them."""

import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest

from poolblend.cards.blend import Weighting
from poolblend.cards.provenance import Provenance
from poolblend.cards.pseudo import PseudoCard, PseudoFold, PseudoMember
from poolblend.cards.submission import BlendInUse
from poolblend.competition.tasks import Task
from poolblend.errors import UserError
from poolblend.store import DamagedError, Store
from poolblend.store.cards import write_card
from poolblend.store.predictions import to_table
from poolblend.store.survey import known_folds, survey

TASK = Task("binary", ("target",), (0, 1))
DATA = {"train_sha256": "1", "folds_sha256": "2", "test_sha256": "3"}
TABLES = [to_table(["x", "y"], np.array([[0.1 + k], [0.2]]), ["target"]) for k in (0.1, 0.3)]
MIXTURE = Weighting(space="plain", quantiles=None, weights=((1.0,),), intercept=(0.0,), cuts=None)


def made(fold, without=None, by=None, weight=1.0):
    member = PseudoMember(fold=fold if by is None else by, weight=weight, weights_sha256=f"{fold}")
    without = fold if without is None else without
    return PseudoFold(fold=fold, without=without, members={"m": member}, mixture=MIXTURE)


CARD = PseudoCard(
    run="toy",
    name="first",
    **DATA,
    task=TASK,
    blend=BlendInUse(blender="equal", metric="f1", sentence="One member.", written="today"),
    folds=(made(0), made(1)),
    provenance=Provenance.here(),
)
TOMORROW = {"provenance": CARD.provenance.model_copy(update={"written": "tomorrow"})}


def changed(**fields):
    return CARD.model_copy(update=fields)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path, "toy")
    assert store.pseudo("first").save(TABLES, CARD)
    return store


def read(store, fold, name="first", **data):
    task = data.pop("task", TASK)
    return store.known_pseudo(name).read(fold, data=DATA | data, task=task)


def rewrite(store, **fields):
    """Another card, whole, in place of the one written."""
    files = store.pseudo("first")
    write_card(files.folder / "card.json", files.card().model_copy(update=fields))


def test_each_folds_labels_read_back(store):
    for fold in (0, 1):
        pd.testing.assert_frame_equal(read(store, fold), TABLES[fold])
    assert store.pseudo_names() == ["first"]


def test_an_unknown_name_is_an_error_that_lists_the_known_ones(store):
    line = "unknown pseudo-labels 'frist' of run toy, .*did you mean 'first'"
    with pytest.raises(UserError, match=line):
        store.known_pseudo("frist")
    with pytest.raises(UserError, match="infer.py --pseudo-labels makes; known: none"):
        Store(store.root, "other").known_pseudo("first")


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"train_sha256": "9"}, "come from another competition: they were made with another train"),
        (
            {"task": Task("binary", ("target",), (1, 0))},
            "come from another competition: .* another task; make",
        ),
        ({"folds_sha256": "9"}, "were made with other folds, so that their models have seen rows"),
        ({"test_sha256": "9"}, "were made for another test table; make new ones"),
        ({"test_joins_sha256": "9"}, "were made for another test table; make new ones"),
    ],
)
def test_labels_of_other_tables_or_folds_are_refused(store, other, line):
    with pytest.raises(UserError, match=f"pseudo-labels first {line}"):
        read(store, 0, **other)


@pytest.mark.parametrize(
    ("fold", "line"),
    [
        (made(1, by=0), "were made by the fold 0 model of m, which was trained on fold 1's labels"),
        (made(1, without=0), "were blended by weights that have seen fold 1's labels"),
    ],
)
def test_labels_by_what_has_seen_the_fold_are_refused(store, fold, line):
    rewrite(store, folds=(made(0), fold))
    read(store, 0)
    with pytest.raises(UserError, match=f"for fold 1 {line}"):
        read(store, 1)


def test_the_labels_of_another_fold_are_refused(store):
    """Even where the entries of the card are exchanged along with the files."""
    files = store.pseudo("first")
    content = files.path(0).read_bytes()
    shutil.copy(files.path(1), files.path(0))
    files.path(1).write_bytes(content)
    with pytest.raises(DamagedError, match="fold0.parquet is damaged"):
        read(store, 0)
    rewrite(store, folds=CARD.folds[::-1], files=files.card().files[::-1])
    with pytest.raises(UserError, match="for fold 0 were made by the fold 1 model of m"):
        read(store, 0)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["fold0.parquet", "card.json"])
@pytest.mark.parametrize("damage", [flip_a_bit, lambda path: path.unlink()], ids=["bit", "gone"])
def test_damage_is_named_with_what_to_do(store, file, damage):
    files = store.pseudo("first")
    damage(files.folder / file)
    line = f"{files.folder}.*; restore it, or delete {files.folder} and run infer.py --pseudo-label"
    for attempt in (partial(read, store, 0), files.check, partial(files.save, TABLES, CARD)):
        with pytest.raises(DamagedError, match=line):
            attempt()


def test_the_same_labels_again_change_nothing_and_others_are_refused(store):
    files = store.pseudo("first")
    before = (files.folder / "card.json").read_bytes()
    assert not files.save(TABLES, changed(**TOMORROW))
    for tables, card in (
        (TABLES[::-1], CARD),
        (TABLES, changed(test_sha256="9")),
        (TABLES, changed(folds=(made(0, weight=0.5), made(1)))),
        (TABLES[:1], changed(folds=CARD.folds[:1])),
    ):
        with pytest.raises(
            UserError, match="first exist already, made in another way .* another n"
        ):
            files.save(tables, card)
    assert (files.folder / "card.json").read_bytes() == before
    assert store.pseudo("second").save(TABLES[::-1], CARD)


def test_the_hash_is_of_the_labels_not_of_when_they_were_made(store):
    store.pseudo("again").save(TABLES, changed(**TOMORROW))
    store.pseudo("other").save(TABLES[::-1], CARD)
    first, again, other = (
        store.pseudo(name).labels_sha256() for name in ("first", "again", "other")
    )
    assert first == again != other


def test_labels_that_cannot_be_written_are_not_there(store, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(UserError, match="could not write .*second: .*No space left"):
        store.pseudo("second").save(TABLES, CARD)
    assert store.pseudo_names() == ["first"]


def test_the_survey_names_them_and_takes_no_name_for_a_fold(store):
    store.pseudo("fold1").save(TABLES, CARD)
    assert [(found.name, found.state) for found in survey(store)] == [
        ("pseudo-labels first", "whole"),
        ("pseudo-labels fold1", "whole"),
    ]
    assert known_folds(store) == []
    flip_a_bit(store.pseudo("first").path(1))
    assert [found.state for found in survey(store)] == ["damaged", "whole"]
