"""Folds that leave out what their backbone holds: read with it, damaged without it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from poolblend.cards.fold import FoldBase
from poolblend.cards.inputs import FileHash
from poolblend.store import DamagedError, Store
from poolblend.store.foldfiles import same_bits
from poolblend.store.predictions import to_table
from poolblend.store.survey import survey
from rig.cards import base_card, fold_card
from rig.edited import edit_card

NAME = "tiny-0123456789ab"
FROZEN = torch.tensor([1.0, -0.0, float("nan")])
OOF = to_table(["a", "b"], np.array([[0.25], [0.75]]), ["target"], fold=0)


class Part:
    def save_pretrained(self, folder):
        tensors = {"low": FROZEN, "high": torch.ones(2)}
        save_file(tensors, Path(folder, "model.safetensors"))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", "toy")


@pytest.fixture
def base(store):
    files = store.base(NAME)
    files.save(parts=[Part()], make_card=base_card)
    return files


def save(store, base, tensors, fold=0):
    store.fold("m", fold).save(
        tensors=tensors,
        parts=[],
        oof=OOF.assign(fold=fold),
        make_card=lambda hashes: fold_card(hashes, fold=fold),
        base=None if base is None else base.as_base(),
    )
    return store.fold("m", fold)


def trained():
    return {
        "encoder.low": FROZEN.clone(),
        "encoder.high": torch.zeros(2),
        "head.low": FROZEN.clone(),
    }


def test_a_fold_holds_what_differs_from_its_base_and_both_give_the_whole(store, base):
    files = save(store, base, trained())
    assert load_file(files.folder / "model.safetensors").keys() == {"encoder.high", "head.low"}
    kept = files.card().files.base
    assert kept == FoldBase(folder=f"bases/{NAME}", weights=base.card().files["model.safetensors"])
    whole = files.base_tensors(kept) | files.tensors()
    assert whole.keys() == trained().keys()
    assert all(same_bits(whole[name], tensor) for name, tensor in trained().items())
    assert store.members() == ["m"]
    assert store.backbone_names() == []
    assert [a.name for a in survey(store)] == [f"base {NAME}", "m fold 0"]


def test_a_fold_that_shares_nothing_with_the_base_does_not_need_it(store, base):
    files = save(store, base, {"encoder.low": torch.ones(3), "head.w": torch.ones(1)})
    assert files.card().files.base is None
    shutil.rmtree(base.folder)
    assert files.tensors().keys() == {"encoder.low", "head.w"}


@pytest.mark.parametrize(
    "other",
    [
        FROZEN.double(),
        FROZEN.reshape(3, 1),
        torch.tensor([1.0, 0.0, float("nan")]),
        torch.tensor([1.0, -0.0, 2.0]),
    ],
)
def test_only_the_same_type_shape_and_bits_are_the_same(other):
    assert same_bits(FROZEN, FROZEN.clone())
    assert same_bits(torch.tensor(3), torch.tensor(3))
    assert not same_bits(FROZEN, other)


@pytest.mark.parametrize("how", ["gone", "cut", "altered"])
def test_a_base_that_is_not_what_it_was_is_named_with_what_to_do(store, base, how):
    files, path = save(store, base, trained()), base.folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-3] if how == "cut" else content[:-3] + b"#" + content[-2:])
    if how == "gone":
        path.unlink()
    line = (
        rf"{path} is (gone|damaged: .*); it holds the frozen part of m fold 0: copy the folder "
        rf"{base.folder} there again, or train again with --overwrite"
    )
    kept = FoldBase(folder=f"bases/{NAME}", weights=FileHash(sha256="0" * 64, bytes=1))
    for read in (files.check, lambda: files.base_tensors(kept)):
        with pytest.raises(DamagedError, match=line) as caught:
            read()
        assert "\n" not in str(caught.value)
    assert {a.name: a.state for a in survey(store)} == {
        f"base {NAME}": "damaged",
        "m fold 0": "damaged",
    }
    base.save(parts=[Part()], make_card=base_card)
    assert {a.state for a in survey(store)} == {"whole"}


def test_a_base_that_holds_no_tensors_is_named_though_its_hash_is_right(store, base):
    class Broken:
        def save_pretrained(self, folder):
            Path(folder, "model.safetensors").write_bytes(b"no tensors")

    base.save(parts=[Broken()], make_card=base_card)
    with pytest.raises(DamagedError, match=r"is damaged: .*; it holds the frozen part of m fold 0"):
        store.fold("m", 0).base_tensors(base.as_base())


@pytest.mark.parametrize("folder", ["../elsewhere", "/etc", "a\nb", "bases/../../x"])
def test_a_card_that_names_a_base_outside_of_the_run_is_damaged(store, base, folder):
    files = save(store, base, trained())
    edit_card(files.folder / "card.json", lambda c: c["files"]["base"].update(folder=folder))
    with pytest.raises(DamagedError, match="base.folder: .*a folder outside of the run's"):
        files.card()


def test_a_card_of_a_store_without_bases_is_read(store):
    files = save(store, None, trained())
    edit_card(files.folder / "card.json", lambda card: card["files"].pop("base"))
    assert files.check().files.base is None
    assert files.tensors().keys() == trained().keys()
