"""Presets: defaults < preset < YAML < `--set`, and each of them is fit for every task."""

import pytest

from poolblend import config
from poolblend.config.presets import PRESETS, known_presets, read_preset
from poolblend.report.listing import list_all
from rig.planned import planned

METRICS = {
    "binary": "f1",
    "multiclass": "accuracy",
    "multilabel": "f1_macro",
    "regression": "rmse",
    "ordinal": "qwk",
}


def poolers(settings):
    return [member.pooler for member in settings.resolve_members()]


def test_a_preset_lies_between_the_defaults_and_what_the_config_says(write):
    kept = read_preset("fast")
    path = write("preset: fast\ntrain: {lr: 3e-3, head_lr: null}\nfolds: {seed: 7}\ndata:\n")
    settings = config.load(path, ["train.epochs=9"])
    assert (settings.folds.n, settings.folds.seed) == (kept["folds"]["n"], 7)
    assert settings.train.freeze_layers == kept["train"]["freeze_layers"]
    assert (settings.train.lr, settings.train.head_lr, settings.train.epochs) == (3e-3, None, 9)
    assert settings.train.batch_size == config.Config().train.batch_size
    assert poolers(settings) == kept["members"]


def test_lists_are_replaced_and_null_is_a_value(write):
    path = write("preset: best\nmembers: [max]\nseeds: null\ntrain: {freeze_layers: null}\n")
    settings = config.load(path)
    assert [member.name for member in settings.resolve_members()] == ["minilm-max-s42"]
    assert settings.train.freeze_layers is None
    assert settings.train.epochs == read_preset("best")["train"]["epochs"]


def test_set_names_a_preset_beneath_the_file_and_takes_it_away(write):
    path = write("preset: best\ntrain: {lr: 3e-3}\n")
    fast = config.load(path, ["preset=fast"])
    assert poolers(fast) == read_preset("fast")["members"]
    assert (fast.preset, fast.train.lr, fast.seeds) == ("fast", 3e-3, None)
    none = config.load(path, ["preset=null"])
    assert none == config.load(write("train: {lr: 3e-3}\n"))


def test_an_unknown_preset_is_refused_with_the_known_ones(refused, write):
    listed = "known: best, fast, medium"
    refused(f"unknown preset 'fsat'; did you mean 'fast'.*{listed}", write("preset: fsat"))
    for value in ("../quickstart", "[fast]", "{fast: 1}", "3"):
        refused(f"unknown preset .*{listed}", None, [f"preset={value}"])


def test_a_setting_that_does_not_fit_the_preset_is_refused_with_its_name(refused, write):
    line = r"freeze_layers needs weights that learn.*\(mine.yaml, preset fast or --set\)"
    refused(line, write("preset: fast\ntrain: {lora: 4}"))
    config.load(write("preset: fast\ntrain: {lora: 4, freeze_layers: null}"))


def test_medium_is_the_defaults(write):
    plain, medium = config.load(write("")), config.load(write("preset: medium"))
    assert medium.model_copy(update={"preset": None}) == plain


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
def test_every_preset_is_described_and_fits_every_task(name, write, capsys):
    line = known_presets()[name]
    assert line.endswith(".")
    assert len(line) <= 100
    for task, metric in METRICS.items():
        path = write(f"task: {task}\nmetric: {metric}\npreset: {name}\ndata: {{target: y}}")
        settings = config.load(path)
        assert config.Config(**settings.model_dump()) == settings
    list_all()
    listed = " ".join(capsys.readouterr().out.split("\n\n")[0].split())
    assert f" {name} {line}" in listed


def test_folds_trained_without_a_preset_stay_finished_with_the_same_settings_by_name(finished):
    settings = finished.settings.model_copy(update={"preset": "medium"})
    _, _, jobs = planned(settings)
    assert {job.status(finished.store, hashes=True).state for job in jobs} == {"finished"}
    card = finished.store.fold("tiny-mean-s42", 0).card()
    assert card.config["preset"] is None
