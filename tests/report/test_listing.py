"""`train.py --list`: every name with its line, and how far the members are."""

import pytest

from poolblend import config, pipeline
from poolblend.registry import ROOMS, declared
from poolblend.training.options import Train


@pytest.fixture
def listed(capsys):
    def lines(settings):
        pipeline.list_all(settings)
        return capsys.readouterr().out.splitlines()

    return lines


def test_every_name_of_every_family_is_listed_with_its_line(toy, listed):
    words = [" ".join(line.split()) for line in listed(config.load(toy()))]
    for kind in ROOMS:
        for name, line in declared(kind).items():
            found = [each for each in words if each.startswith(f"{name} ")]
            assert any(line[:40] in each for each in found), name


def test_every_recipe_is_listed_with_its_default_and_no_other_key(toy, listed):
    lines = listed(config.load(toy()))
    start = next(i for i, line in enumerate(lines) if line.startswith("recipes"))
    told = [line.split(" = ")[0].strip() for line in lines[start:] if " = " in line]
    assert told == [name for name, field in Train.model_fields.items() if field.description]
    assert any(line.split()[:3] == ["ema", "=", "null"] for line in lines)


def test_no_line_is_wider_than_a_hundred_columns(toy, listed):
    assert max(map(len, listed(config.load(toy())))) <= 100


def test_what_is_stored_is_told_of_the_members_of_the_config_and_of_others(finished, listed):
    cards = [finished.store.fold("tiny-mean-s42", fold).card() for fold in (0, 1)]
    scores = [card.score for card in cards]
    others = config.load(None, ["members=[max]"]).members
    more = finished.settings.model_copy(update={"members": others})
    lines = [line.split() for line in listed(more)]
    (mean,) = [words for words in lines if words[:1] == ["tiny-mean-s42"]]
    assert mean[1:4] == ["2", "of", "2"]
    assert mean[4] == f"{sum(scores) / 2:.4f}"
    assert mean[6] == f"{abs(scores[0] - scores[1]) / 2**0.5:.4f}"
    assert mean[7] == f"{sum(card.seconds for card in cards):.0f}"
    assert ["tiny-max-s42", "0", "of", "2"] in lines
    told = " ".join(word for words in lines for word in words)
    assert f"blend: {finished.store.read_blend().sentence}" in told


def test_a_damaged_fold_is_named_and_ends_nothing(finished, listed):
    finished.store.oof_path("tiny-mean-s42", 1).write_bytes(b"")
    told = "\n".join(listed(finished.settings))
    assert "1 of 2" in told
    assert "tiny-mean-s42: fold 1 damaged" in told
