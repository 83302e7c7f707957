"""Any config file and any `--set`: read right, or refused in one short line."""

import pytest
from pydantic import BaseModel

from corpus.configs import READ_RIGHT, REFUSED
from poolblend import config
from poolblend.config.reading import known_keys
from poolblend.config.yaml_file import parse_value
from poolblend.errors import UserError


@pytest.mark.parametrize(("source", "expected"), READ_RIGHT.values(), ids=READ_RIGHT)
def test_an_unusual_file_is_read_right(write, value, source, expected):
    settings = config.load(write(source))
    assert {key: value(settings, key) for key in expected} == expected


@pytest.mark.parametrize(("source", "line"), REFUSED.values(), ids=REFUSED)
def test_a_malformed_file_is_refused_in_one_line(write, refused, source, line):
    refused(line, write(source))


WRONG = [
    "null", "-1", "0", "true", "1.5", "text", "[]", "{}", "[[1]]", "{a: 1}", "1e400", "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("key", known_keys())
def test_every_key_takes_a_value_as_it_is_or_refuses_it_in_one_line(refused, value, key):
    refusals = 0
    for text in WRONG:
        try:
            settings = config.load(None, [f"{key}={text}"])
        except UserError:
            refused(".", None, [f"{key}={text}"])
            refusals += 1
        else:
            given, found = parse_value(text, ""), value(settings, key)
            of_section = isinstance(found, BaseModel) or key == "members"  # null: the defaults
            assert of_section or found in (given, [given])
    assert refusals >= 3


def test_a_near_miss_of_a_key_names_the_key(refused):
    for key in known_keys():
        if not key.startswith(("members.", "data.joins.")):
            refused(f"unknown key '{key}x'.*did you mean '{key}'", None, [f"{key}x=1"])


def test_known_keys_are_the_keys_of_a_dumped_config_and_of_sections_that_are_null_by_default():
    def keys(dumped, prefix=""):
        for key, value in dumped.items():
            yield prefix + key
            if isinstance(value, dict):
                yield from keys(value, f"{prefix}{key}.")

    settings = config.load(
        None,
        ["train.freeze_layers=null", "train.lora=4", "windows={overlap: 3}", "backbone.mlm={}"],
    )
    found = keys(settings.model_dump(exclude={"submission": {"columns"}}))
    assert set(found) <= {*known_keys(), "submission.columns"}
    assert {"train.lora.r", "windows.overlap", "backbone.mlm.mask", "data.joins.on"} <= set(
        known_keys()
    )
    assert "members.pseudo.labels" in known_keys()


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["train.epochs"], "--set train.epochs: expected key=value"),
        ([""], "--set : expected key=value"),
        (["=3"], "--set =3: expected key=value"),
        (["train..lr=1"], "--set train..lr=1: expected key=value"),
        (["members.0.pooler=max"], "members is a list; set all of it"),
        (["seed=1", "seed.x=2"], "--set seed.x=2: seed is 1 and has no keys"),
        (["train=3", "train.lr=1"], "train is 3 and has no keys"),
        (["train=3"], "train: 3: expected `key: value` pairs"),
        (["members=[max"], "--set members=.max: not a YAML value .line 1, column 5"),
        (["train.lr="], "train.lr: None: input should be a valid number"),
        (["a.b.c.d=1"], "unknown key 'a'"),
        (["train.lr.x=1"], "lr is 0.001 and has no keys"),
        (["x" * 100_000 + "=1"], "unknown key 'xxx"),
        (["seed=[1]\n---\n2"], "another document"),
        (["seed=1\n---\n2"], "seed: .*valid integer"),
        (["train=epochs: 3"], "train: 'epochs: 3': expected `key: value` pairs"),
        (["seed=\t1\x1b[31m"], "unacceptable character #x001b"),
        (["run=a\0"], "unacceptable character #x0000"),
    ],
    ids=lambda given: given[-1][:30] if isinstance(given, list) else "",
)
def test_a_malformed_set_is_refused_in_one_line(refused, sets, line):
    refused(line, None, sets)


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (["members=[mean, {pooler: max, tag: b}]"], {"members.1.tag": "b"}),
        ([" train . lr = 1e-3 "], {"train.lr": 1e-3}),
        (["data.text=评论"], {"data.text": ["评论"]}),
        (["data.dir=~/a folder/é=1"], {"data.dir": "~/a folder/é=1"}),
        (["train=", "train.lr=1e-3"], {"train.lr": 1e-3, "train.epochs": 2}),
        (["train={lr: 1}", "train.lr=2"], {"train.lr": 2.0}),
        (["seed=1", "seed=2"], {"seed": 2}),
        (["data.id=Unnamed: 0"], {"data.id": "Unnamed: 0"}),
        (["data.text=['Unnamed: 0']", "data.id=null"], {"data.id": None}),
        (["data.id=  a: b: c  "], {"data.id": "a: b: c"}),
        (["data.id=#", "data.target=- a #b"], {"data.id": "#", "data.target": ["- a #b"]}),
        (["data.id=!!str 1", "data.target=@a"], {"data.id": "!!str 1", "data.target": ["@a"]}),
        (["data.text=[a, 'b: c']"], {"data.text": ["a", "b: c"]}),
        (["run=true-north"], {"run": "true-north"}),
    ],
    ids=str,
)
def test_an_unusual_set_is_read_right(value, sets, expected):
    settings = config.load(None, sets)
    assert {key: value(settings, key) for key in expected} == expected
