import importlib
from copy import copy

import pytest

from poolblend.competition.folds import STRATEGIES
from poolblend.errors import Stopped, UserError, unknown
from poolblend.registry import Registry, declared

FAMILIES = {
    "pooler": ("poolblend.modeling.poolers", "POOLERS"),
    "metric": ("poolblend.competition.metrics", "METRICS"),
    "fold strategy": ("poolblend.competition.folds", "STRATEGIES"),
    "blender": ("poolblend.ensembling.blenders", "BLENDERS"),
    "loss": ("poolblend.training.objectives", "LOSSES"),
    "optimizer": ("poolblend.training.optimizers", "OPTIMIZERS"),
    "schedule": ("poolblend.training.schedules", "SCHEDULES"),
    "recipe": ("poolblend.training.recipes", "RECIPES"),
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_names_read_from_source_are_those_that_importing_registers(kind):
    module, registry = FAMILIES[kind]
    registered = getattr(importlib.import_module(module), registry)
    assert list(declared(kind)) == list(registered)


def test_abilities_read_from_source_are_those_registered():
    for ability in ("binned", "every_class", "grouped"):
        registered = [name for name in STRATEGIES if getattr(STRATEGIES[name], ability)]
        assert list(declared("fold strategy", ability)) == registered != []


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_entry_describes_itself_in_one_sentence(kind):
    for name, line in declared(kind).items():
        assert line.endswith("."), f"{kind} {name}: {line!r}"


def test_an_unknown_name_suggests_the_nearest_and_lists_the_known():
    registry = Registry("pooler")
    registry.add("max", 1)
    registry.add("mean", 2)
    with pytest.raises(
        UserError, match=r"^unknown pooler 'maxx'; did you mean 'max'\? known: max, mean$"
    ):
        registry["maxx"]


def test_a_name_near_nothing_gets_no_suggestion():
    assert str(unknown("metric", "zzz", ["f1"], "in x.yaml")) == (
        "unknown metric 'zzz' in x.yaml; known: f1"
    )


def test_a_name_registered_twice_is_a_bug():
    registry = Registry("pooler")
    registry.add("max", 1)
    with pytest.raises(ValueError, match="registered twice"):
        registry.add("max", 2)


def test_a_user_error_is_one_printable_line_of_bounded_length():
    line = str(UserError("first\nsecond \x1b[31m" + "x" * 5000 + " end"))
    assert line.startswith("first\\nsecond \\x1b[31mxxx")
    assert line.endswith("x end")
    assert line.isprintable()
    assert len(line) <= 1000
    assert str(UserError("naïve “words” — …")) == "naïve “words” — …"


def test_a_stop_keeps_its_status_on_the_way_to_another_process():
    sent = copy(Stopped("stopped by SIGTERM", 143))  # as multiprocessing does
    assert (str(sent), sent.status) == ("stopped by SIGTERM", 143)
