"""Laws of configs that range over settings: round trips, overrides, names, seeds, durations."""

import itertools
import json
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from poolblend import config
from poolblend.config.yaml_file import Loader
from poolblend.errors import UserError

DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)

# A busy machine is no failure.
some = settings(deadline=None, max_examples=25)


class Dumper(yaml.SafeDumper):
    """Writes what the config's own reader takes for text in quotes."""


Dumper.yaml_implicit_resolvers = Loader.yaml_implicit_resolvers

# JSON writes characters beyond 16 bits as two halves, which YAML does not join.
characters = st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(characters, max_size=20)
names = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9_-])?", fullmatch=True).filter(
    lambda name: not DEVICE.fullmatch(name)
)
seeds = st.integers(0, 2**32 - 1)
rates = st.floats(1e-12, 1e3)
columns = st.lists(texts, min_size=3, max_size=6, unique=True)
trains = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 100),
        "lr": rates,
        "head_lr": st.none() | rates,
        "layer_decay": st.floats(0.01, 1),
        "optimizer": st.sampled_from(["adamw", "adam", "sgd"]),
        "clip": st.none() | rates,
        "gradient_checkpointing": st.booleans(),
    },
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e9, 1e9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
poolers = st.sampled_from(["mean", "max", "gem", "cls", "attention"])
members = st.lists(
    st.fixed_dictionaries(
        {"pooler": poolers, "tag": names},
        optional={
            "pooler_args": st.dictionaries(texts, plain, max_size=2),
            "max_length": st.integers(4, 512),
            "seed": seeds,
            "train": trains,
            "head": st.fixed_dictionaries({"dropout": st.floats(0, 0.9)}),
        },
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda member: (member["pooler"], member["tag"].lower()),
)


@st.composite
def raws(draw):
    """A config as its YAML says it: nested dicts of plain values."""
    id_column, text, *target = draw(columns)
    return {
        "run": draw(names),
        "data": {"dir": draw(texts.filter(lambda text: "~" not in text)), "id": id_column}
        | {
            "text": [text],
            "target": target,
            "positive": draw(st.none() | texts | st.integers(0, 9)),  # of a task that is binary
        },
        "folds": {"n": draw(st.integers(2, 50)), "seed": draw(seeds)},
        "backbone": {"source": draw(texts.filter(lambda t: "~" not in t)), "name": draw(names)},
        "members": draw(members),
        "seed": draw(seeds),
        "train": draw(trains),
        "checkpoints": {
            "minutes": draw(st.none() | rates),
            "steps": draw(st.none() | st.integers(1, 9)),
        },
    }


def dump(value):
    return yaml.dump(value, Dumper=Dumper)


@some
@given(raws())
def test_a_dumped_config_is_read_back_as_it_was(tmp_path_factory, raw):
    made = config.Config(**raw)
    path = tmp_path_factory.mktemp("configs") / "again.yaml"
    for text in (
        dump(made.model_dump()),
        json.dumps(made.model_dump(), indent=1),
    ):
        path.write_text(text, encoding="utf-8", newline="")
        assert config.load(path) == made


@some
@given(raws())
def test_what_is_set_key_by_key_is_what_nested_yaml_says(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("configs") / "empty.yaml"
    path.touch()
    sets = []
    for key, value in raw.items():
        inner = value if isinstance(value, dict) else {"": value}
        sets += [f"{key}.{name}".strip(".") + f"={json.dumps(v)}" for name, v in inner.items()]
    assert config.load(path, sets) == config.Config(**raw)


@some
@given(plain)
def test_values_survive_yaml(value):
    assert yaml.load(dump(value), Loader=Loader) == value


@some
@given(raws(), st.none() | st.lists(seeds, min_size=1, max_size=3, unique=True))
def test_members_have_names_of_their_own_that_every_disk_takes(raw, listed):
    found = [m.name for m in config.Config(**raw | {"seeds": listed}).resolve_members()]
    assert len({name.lower() for name in found}) == len(found)
    for name in found:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,250}", name)
        assert not name.endswith(".")
        assert not DEVICE.fullmatch(name)


@some
@given(texts)
def test_a_run_is_a_safe_file_name_or_refused(name):
    try:
        taken = config.Config(run=name).run
    except ValueError:
        return
    assert taken == name
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(?<!\.)", name)
    assert not DEVICE.fullmatch(name)


@pytest.mark.parametrize(
    ("seed", "names", "derived"),
    [
        (42, ["minilm-max"], 1_294_394_307),
        (42, ["minilm-mean"], 859_124_006),
        (0, [], 804_681_139),
        (2**32 - 1, ["a", 1], 370_141_101),
    ],
)
def test_derived_seeds_never_change(seed, names, derived):
    assert config.derive_seed(seed, *names) == derived < 2**31


UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


@some
@given(
    st.lists(st.integers(0, 300), min_size=4, max_size=4),
    st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
    st.sampled_from(["", " "]),
    st.booleans(),
)
def test_a_duration_is_the_sum_of_its_parts(counts, given, space, upper):
    parts = list(itertools.compress(zip(counts, UNITS, strict=True), given))
    text = space.join(f"{count}{space}{unit}" for count, unit in parts)
    seconds = sum(count * UNITS[unit] for count, unit in parts)
    if 0 < seconds <= 365 * 86400:
        assert config.parse_duration(text.upper() if upper else text) == seconds
    else:
        with pytest.raises(UserError, match="not above zero and at most 365d"):
            config.parse_duration(text)


@some
@given(st.text(st.sampled_from("0123456789.dhmsDHMS -+e\0\n"), max_size=12) | st.text(max_size=60))
def test_any_text_is_a_duration_or_refused_in_one_line(text):
    line, seconds = "", 1.0
    try:
        seconds = config.parse_duration(text)
    except UserError as error:
        line = str(error)
    assert 0 < seconds <= 365 * 86400
    assert line.isprintable()
    assert not line or "8h30m" in line


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("8h30m", 30_600),
        ("1.5h", 5400),
        ("2h5m10s", 7510),
        (" 1d 2h ", 93_600),
    ],
)
def test_durations_as_people_write_them(text, seconds):
    assert config.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("90", "'90' has no unit: expected a duration such as 8h30m.*did you mean 90h, 90m or 90s"),
        ("", "'' is not a duration"),
        ("0h", "'0h' is not above zero"),
        ("366d", "'366d' is not above zero and at most 365d"),
        ("30m8h", "is not a duration"),
        ("1e3h", "is not a duration"),
        ("٣h", "is not a duration"),
        ("9" * 5000 + "h", "'999.*9h' is not a duration"),
        ("1h" + " " * 50_000 + "x", "is not a duration"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_duration_is_refused(text, line):
    with pytest.raises(UserError, match=line) as caught:
        config.parse_duration(text)
    assert len(str(caught.value)) < 200
