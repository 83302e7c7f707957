"""Recipes through the pipeline: they change what is kept, resume after a kill, predict again."""

import itertools
import re

import numpy as np
import pytest
from safetensors.torch import load_file

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.jobs.best_epoch import optimism
from poolblend.loading.competition import open_store
from poolblend.training.fit import Fit

MEMBER = "tiny-max-s42"
# Recipes that meet; tests/training/test_recipe_laws.py tries each alone.
RECIPES = {
    "early_stopping": ["train.early_stopping=1", "train.epochs=3", "train.freeze_layers=1"],
    "lora, ema": ["train.lora.r=4", "train.lora.alpha=64", "train.ema=0.9"],
    "losses": ["train.rdrop=1.0", "train.dropout_samples=2", "train.label_smoothing=0.1"],
    "awp, swa": [
        "train.awp=0.02",
        "train.adversarial_start=0.4",
        "train.swa_epochs=2",
        "train.reinit_layers=1",
        "train.class_weights=balanced",
        "head.norm=layer",
    ],
}


class Killed(BaseException):
    """Stands for SIGKILL as far as a test within one process can."""


def train(settings):
    pipeline.train(settings, poolers="max", folds="0")


def tensors(settings):
    return load_file(open_store(settings).fold_folder(MEMBER, 0) / "model.safetensors")


def stored(settings):
    """Bytes of the fold's weights and OOF rows."""
    store = open_store(settings)
    weights = store.fold_folder(MEMBER, 0) / "model.safetensors"
    return weights.read_bytes(), store.oof_path(MEMBER, 0).read_bytes()


def at_step(monkeypatch, n):
    """Kill this process right after the n-th optimizer step."""
    once, steps = Fit._train_step, itertools.count(1)

    def step(self, *args):
        loss = once(self, *args)
        if next(steps) == n:
            raise Killed
        return loss

    monkeypatch.setattr(Fit, "_train_step", step)


@pytest.mark.parametrize("sets", RECIPES.values(), ids=RECIPES)
def test_recipes_resumed_after_a_kill_end_in_the_same_bits_and_predict_them_again(
    toy, tmp_path, monkeypatch, sets, capsys
):
    settings = [
        config.load(toy(), [*applied, "folds.n=2", "members=[max]", f"store={tmp_path / name}"])
        for name, applied in (("plain", []), ("whole", sets), ("killed", sets))
    ]
    plain, whole, killed = settings
    train(plain)
    train(whole)
    at_step(monkeypatch, 6)
    with pytest.raises(Killed):
        train(killed)
    monkeypatch.undo()
    train(killed)
    assert stored(killed) == stored(whole) != stored(plain)
    assert open_store(killed).fold(MEMBER, 0).card().resumed_at_steps == (4,)
    more = {name for name in tensors(whole) if ".lora_" not in name} - tensors(plain).keys()
    assert more <= normalising(tensors(whole))
    pipeline.train(whole, poolers="max")
    pipeline.blend(whole)
    capsys.readouterr()
    pipeline.verify_oof(whole)
    assert float(re.search("of all: (.*)", capsys.readouterr().out)[1]) < 1e-6


def normalising(names):
    return {name for name in names if name.startswith("head.norm.")}


def test_early_stopping_keeps_the_best_epoch_and_says_what_that_flatters(toy, monkeypatch, caplog):
    settings = config.load(
        toy(metric="log_loss", submission="probabilities"),
        ["train={epochs: 9, early_stopping: 1, head_lr: 0.5, lr: 0.05, schedule: constant}"],
    )
    with caplog.at_level("INFO", logger="poolblend"):
        train(settings)
    card = open_store(settings).fold(MEMBER, 0).card()
    scores = [epoch.score for epoch in card.epochs]
    best = int(np.argmin(scores))
    assert best < len(scores) - 1  # rates this high make the last epochs worse
    assert len(scores) == best + 2 < 9
    assert card.score == scores[best]
    kept = rf"epoch {best + 1} of {len(scores)} is kept, the best on the fold's own rows, which "
    assert re.search(kept + r"makes its score optimistic by about -?0\.\d{4}", caplog.text)


def test_the_optimism_of_a_choice_among_noise_is_seen_and_of_no_choice_is_none(toy):
    """Among epochs that differ by chance alone, the best looks better than it is."""
    scorer = pipeline_competition(toy).scorer
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, 400)
    noise = [np.clip(0.5 + 0.2 * generator.normal(size=(400, 1)), 0.01, 0.99) for _ in range(8)]
    assert optimism(scorer, y, noise, seed=0) > 0.02
    assert abs(optimism(scorer, y, noise[:1] * 3, seed=0)) < 1e-12
    assert optimism(scorer, y[:1], [np.array([[0.7]])], seed=0) is None  # no halves of one row


def pipeline_competition(toy):
    from poolblend.loading.competition import load_competition

    settings = config.load(toy())
    return load_competition(settings, open_store(settings), make_folds=True)


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["train.reinit_layers=3"], "train.reinit_layers is 3, but the encoder has 2 layers"),
        (["train.freeze_layers=9"], "train.freeze_layers is 9, but the encoder has 2 layers"),
        (["train.lora.modules=[quer]"], "unknown linear layer 'quer'.*did you mean 'query'"),
        (["train.label_smoothing=0.1", "task=regression", "metric=rmse"], "train.label_smoothing"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_before_anything_is_trained(toy, sets, line):
    settings = config.load(toy("regression" if "task=regression" in sets else "binary"), sets)
    with pytest.raises(UserError, match=line):
        train(settings)
    assert not open_store(settings).members()


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["train.swa_epochs=1"], "swa_epochs is 1 of 2 epochs"),
        (["train.swa_epochs=3"], "swa_epochs is 3 of 2 epochs"),
        (["train.fgm=1.0", "train.awp=0.1"], "fgm and awp exclude each other"),
        (["train.ema=0.9", "train.swa_epochs=2"], "ema and swa_epochs exclude each other"),
        (["train.adversarial_start=0.5"], "adversarial_start does nothing without fgm or awp"),
        (["train.lora=8", "train.freeze_layers=1"], "freeze_layers needs weights that learn"),
        (["train.freeze_layers=0", "train.fgm=1.0"], "fgm steps on the embeddings"),
        (["train.dropout_samples=4", "head.dropout=0"], "dropout_samples needs a head.dropout"),
        (["windows.overlap=12"], "windows.overlap is 12; set it below half of max_length"),
        (["windows.overlap=2", "truncation=tail"], "truncation=tail does nothing"),
        (["windows.overlap=2", "mask=none"], "windows have no padding"),
        (
            ["train.early_stopping=1", "train.epochs=1"],
            "early_stopping chooses among epochs, of wh",
        ),
        (["head.norm=batch", "train.swa_epochs=2"], "head.norm=batch has statistics that train.sw"),
        (
            ["train={awp: 0.1, adversarial_start: 0.5}", "members=[{pooler: max, train: {awp: }}]"],
            "tiny-max-s42: train.adversarial_start does nothing without fgm or awp",
        ),
    ],
)
def test_keys_that_would_do_nothing_are_refused(toy, sets, line):
    with pytest.raises(UserError, match=line):
        config.load(toy(), sets)


def test_the_blend_says_that_early_stopping_flatters_its_members(toy, capsys):
    settings = config.load(toy(), ["folds.n=2", "members=[max]", "train.early_stopping=1"])
    pipeline.train(settings)
    print(pipeline.blend(settings))
    card = open_store(settings).fold(MEMBER, 0).card()
    assert card.kept_epoch in (1, 2)
    told = open_store(settings).read_blend().members[MEMBER].origin.optimism
    from poolblend.report.tables import show

    said = (
        f"Early stopping makes scores of members and blends too good: {MEMBER} by about {told:.4f}."
    )
    assert said in " ".join(show(open_store(settings).read_blend()).split())


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["train.freeze_layers=2", "train.layer_decay=0.9"], "train.layer_decay does nothing"),
        (["train.freeze_layers=2", "train.awp=0.01"], "train.awp does nothing where all 2 layers"),
        (["train.freeze_layers=2", "head.dropout=0", "train.rdrop=1.0"], "train.rdrop compares"),
    ],
)
def test_what_frozen_layers_leave_without_effect_is_refused(toy, sets, line):
    with pytest.raises(UserError, match=line):
        train(config.load(toy(), sets))


def test_class_weights_of_a_regression_are_refused_before_anything_is_trained(toy):
    sets = ["members=[mean, {pooler: max, train: {class_weights: balanced}}]"]
    settings = config.load(toy("regression"), sets)
    with pytest.raises(UserError, match="member tiny-max-s42: train.class_weights: a regression"):
        pipeline.train(settings)
    assert not open_store(settings).members()


@pytest.mark.parametrize(
    ("sets", "member"),
    [
        (["train.epochs=5"], "train: {swa_epochs: 4}"),
        (["train.awp=0.01"], "train: {adversarial_start: 0.5}"),
        (["train.adversarial_start=0.5"], "train: {fgm: 1.0}"),
        (["head.dropout=0"], "head: {dropout: 0.2}, train: {dropout_samples: 2}"),
    ],
)
def test_a_recipe_may_need_what_the_run_or_the_member_says(toy, sets, member):
    members = f"members=[{{pooler: max, {member}}}]"
    assert config.load(toy(), [*sets, members]).resolve_members()


def test_of_a_section_a_member_says_only_what_differs(toy):
    sets = ["train.lora={r: 8, alpha: 32, modules: [query]}", "windows={overlap: 3, most: 4}"]
    members = "members=[max, {pooler: mean, windows: {most: 2}, train: {lora: %s}}]"
    for lora in ("{r: 4}", "4"):
        settings = config.load(toy(), [*sets, members % lora])
        for run in (settings, config.Config(**settings.model_dump())):
            listed, own = run.resolve_members()
            assert listed.train.lora == run.train.lora
            assert own.train.lora == run.train.lora.model_copy(update={"r": 4})
            assert (own.windows.overlap, own.windows.most) == (3, 2)
    off = config.load(toy(), [*sets, "members=[{pooler: mean, windows: , train: {lora: }}]"])
    for run in (off, config.Config(**off.model_dump())):
        (member,) = run.resolve_members()
        assert member.train.lora is member.windows is None


def test_a_member_can_leave_out_what_the_run_has(toy):
    sets = ["windows.overlap=2", "pseudo.labels=first"]
    members = ["members=[mean, {pooler: max, windows: null, pseudo: null}]"]
    mean, largest = config.load(toy(), [*sets, *members]).resolve_members()
    assert mean.windows.overlap == 2
    assert mean.pseudo.labels == "first"
    assert largest.windows is None
    assert largest.pseudo is None
