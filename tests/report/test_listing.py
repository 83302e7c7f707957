"""`train.py --list`: every name with its line."""

import pytest

from poolblend import pipeline
from poolblend.registry import ROOMS, declared
from poolblend.training.options import Train


@pytest.fixture
def listed(capsys):
    pipeline.list_all()
    return capsys.readouterr().out.splitlines()


def test_every_name_of_every_family_is_listed_with_its_line(listed):
    words = [" ".join(line.split()) for line in listed]
    for kind in ROOMS:
        for name, line in declared(kind).items():
            found = [each for each in words if each.startswith(f"{name} ")]
            assert any(line[:40] in each for each in found), name


def test_every_recipe_is_listed_with_its_default_and_no_other_key(listed):
    lines = listed
    start = next(i for i, line in enumerate(lines) if line.startswith("recipes"))
    told = [line.split(" = ")[0].strip() for line in lines[start:] if " = " in line]
    assert told == [name for name, field in Train.model_fields.items() if field.description]
    assert any(line.split()[:3] == ["ema", "=", "null"] for line in lines)


def test_no_line_is_wider_than_a_hundred_columns(listed):
    assert max(map(len, listed)) <= 100
