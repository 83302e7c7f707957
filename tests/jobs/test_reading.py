"""Before the first step: how the run's own texts are read, and how once the tokenizer is saved."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.jobs.tokenizer_checks import check_tokenizers
from poolblend.loading import texts
from poolblend.loading.competition import load_competition, open_store
from poolblend.modeling import backbone
from poolblend.modeling.tokenizers import Kept
from poolblend.store.files import hash_file
from rig import tokenizers, toys
from rig.edited import edit_card
from rig.fold_models import fold_models
from rig.planned import planned

QUICK = {"members": ["mean"], "folds": {"n": 2}, "train": {"epochs": 1, "batch_size": 16}}


@pytest.fixture
def settings(toy, tmp_path):
    """Function of a backbone's folder and settings: a config of texts that are hard to read."""

    def make(folder, *sets, **keys):
        path = toys.write_toy(tmp_path, folder, n=40, **QUICK | keys)
        loaded = config.load(path, sets)
        for name in ("train", "test"):
            file = loaded.data_dir / f"{name}.csv"
            table = pd.read_csv(file)
            table.loc[:4, "text"] = ["Lovely “day” — ﬁne…", "no\u00a0break é", "[NAME] x", "A", "a"]
            table.to_csv(file, index=False)
        return loaded

    return make


@pytest.fixture
def folder(tmp_path):
    """Function of the writer of a tokenizer and its arguments: a backbone with that tokenizer."""

    def make(write, *args):
        write(tmp_path / "source", *args)
        bare = json.loads((tmp_path / "source/config.json").read_text())
        assert bare["vocab_size"] == 400
        size = len(backbone.load_tokenizer(tmp_path / "source"))
        return tokenizers.with_weights(tmp_path / "source", size, tmp_path / "weighty")

    return make


@pytest.fixture
def logged(caplog):
    """What is logged of a config's tokenizers before the first step."""
    caplog.set_level("INFO", logger="poolblend")

    def logged(settings):
        context, _, jobs = planned(settings)
        located = {job.member.name: context.locate(job.member.backbone) for job in jobs}
        caplog.clear()
        check_tokenizers(settings, context.competition, [job.member for job in jobs], located)
        return caplog.messages

    return logged


@pytest.mark.parametrize(
    ("write", "args"),
    [
        (tokenizers.write_bertweet, ()),
        (tokenizers.write_filed, ("camembert-v2",)),
        (tokenizers.write_sentencepiece, ("deberta-v3",)),
    ],
)
def test_fold_models_read_texts_as_their_training_did(settings, folder, capsys, write, args):
    loaded = settings(folder(write, *args))
    pipeline.train(loaded)
    pipeline.blend(loaded)
    pipeline.verify_oof(loaded)
    assert "largest difference of all: 0" in capsys.readouterr().out
    store = open_store(loaded)
    fold = backbone.load_tokenizer(store.fold_folder("weighty-mean-s42", 0))
    source = backbone.load_tokenizer(loaded.path(loaded.backbone.source))
    assert fold(tokenizers.TEXTS)["input_ids"] == source(tokenizers.TEXTS)["input_ids"]
    pipeline.infer(loaded)


def test_verifying_says_where_texts_are_read_as_other_tokens(
    toy, tiny_backbone, monkeypatch, capsys
):
    loaded = config.load(toy(n=40, **QUICK))
    pipeline.train(loaded)
    pipeline.blend(loaded)

    def other(folder, **given):
        tokenizer = real(folder, **given)
        tokenizer.backend_tokenizer.pre_tokenizer = None
        return tokenizer

    real = texts.load_tokenizer
    monkeypatch.setattr(texts, "load_tokenizer", other)
    with pytest.raises(
        UserError, match="other tokens than in training: tiny-mean-s42 fold 0, tiny"
    ):
        pipeline.verify_oof(loaded)
    assert "tiny-mean-s42 fold 1: its rows are read as 60 tokens, in" in capsys.readouterr().out


def test_a_tokenizer_that_does_not_survive_is_refused_before_the_first_step(
    toy, tmp_path, monkeypatch
):
    def save(self, folder):
        tokenizers.write_filed(tmp_path / "other", "camembert-v2")
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tmp_path / "other" / file, folder)

    monkeypatch.setattr(Kept, "save_pretrained", save)
    with pytest.raises(
        UserError, match="saved and read again, gives other tokens for 55 of 55 texts"
    ):
        pipeline.train(config.load(toy(n=40)))
    assert not list(tmp_path.rglob("model.safetensors"))


def test_one_line_says_that_a_file_is_read_and_not_what_its_class_makes_of_it(
    settings, folder, logged
):
    loaded = settings(folder(tokenizers.write_filed, "camembert-v2"), members=["mean", "max"])
    [line] = logged(loaded)
    assert line.startswith(
        "backbone weighty: texts are read as tokenizer.json says; transformers' RobertaTokenizer "
        "would read 5"
    )


def test_texts_that_differ_from_the_sentencepiece_model_are_counted_with_advice(
    settings, folder, logged
):
    place = folder(tokenizers.write_sentencepiece, "deberta-v3")
    [line] = logged(settings(place))
    read = "texts are read as spm.model says; transformers' DebertaV2Tokenizer would read 4 of 55"
    assert read in line
    AutoTokenizer.from_pretrained(place).backend_tokenizer.save(str(place / "tokenizer.json"))
    [line] = logged(settings(place))
    assert re.fullmatch(
        r"backbone weighty: 4 of 55 texts are read otherwise than by spm\.model in its folder, as "
        r"\d+ tokens, not \d+, such as 'Lovely “day” — ﬁne…'; delete tokenizer\.json if spm\.model "
        "is what it was trained with",
        line,
    )


@pytest.mark.parametrize("special_tokens", ["text", "tokens"])
def test_texts_with_added_tokens_are_counted_once_where_these_are_read_as_text(
    settings, tmp_path, logged, special_tokens
):
    tokenizers.write_filed(tmp_path / "plain", "camembert-v2")
    tokenizer = backbone.load_tokenizer(tmp_path / "plain")
    tokenizer.add_tokens([AddedToken("[NAME]", special=True)])
    tokenizer.save_pretrained(tmp_path / "source")
    shutil.copy(tmp_path / "plain/config.json", tmp_path / "source")
    place = tokenizers.with_weights(tmp_path / "source", len(tokenizer), tmp_path / "weighty")
    loaded = settings(place, f"data.special_tokens={special_tokens}", members=["mean", "max"])
    warned = [line for line in logged(loaded) if "[NAME]" in line]
    assert warned == [
        "backbone weighty: 2 of 55 texts hold tokens that were added to its tokenizer, such as "
        "'[NAME]', and read them as plain text; data.special_tokens=tokens reads each as one token"
    ] * (special_tokens == "text")


def test_what_a_tokenizer_is_read_from_is_among_a_folds_inputs_where_transformers_errs(
    settings, folder, tiny_backbone
):
    def inputs(place):
        *_, jobs = planned(settings(place))
        return jobs[0].inputs

    assert inputs(tiny_backbone).tokenizer is None
    assert inputs(folder(tokenizers.write_sentencepiece, "deberta-v3")).tokenizer == "spm.model"


def test_folds_of_one_backbone_are_read_each_by_its_own_tokenizer(toy, tmp_path):
    """Two versions of transformers may have kept other tokenizers of the same backbone."""
    loaded = config.load(toy(n=40, **QUICK))
    pipeline.train(loaded)
    store = open_store(loaded)
    tokenizers.write_filed(tmp_path / "other", "camembert-v2")
    folder = store.fold_folder("tiny-mean-s42", 1)
    shutil.copy(tmp_path / "other/tokenizer.json", folder)
    hashed = hash_file(folder / "tokenizer.json").model_dump()
    edit_card(
        folder / "card.json",
        lambda card: card["files"]["others"].update({"tokenizer.json": hashed}),
    )
    table = load_competition(loaded, store).tables.train
    models, rows = fold_models(loaded, store, table, "train"), np.arange(len(table))
    first, second = (models.tokens("tiny-mean-s42", fold, rows) for fold in (0, 1))
    assert first != second
