"""Whatever a config file or `--set` holds: the right settings, or one short line."""

import tracemalloc

import pytest

from corpus.configs import BOMB, LONG_TEXT_BOMB, MERGE_BOMB, READ_RIGHT, REFUSED
from poolblend import config
from poolblend.config.reading import SECTIONS, known_keys
from poolblend.config.yaml_file import parse_yaml
from poolblend.errors import UserError


def test_the_corpus_is_large():
    assert len(READ_RIGHT) + len(REFUSED) >= 100


@pytest.mark.parametrize(("source", "expected"), READ_RIGHT.values(), ids=READ_RIGHT)
def test_an_unusual_file_is_read_right(write, value, source, expected):
    settings = config.load(write(source))
    assert {key: value(settings, key) for key in expected} == expected


@pytest.mark.parametrize(("source", "line"), REFUSED.values(), ids=REFUSED)
def test_a_malformed_file_is_refused_in_one_line(write, refused, source, line):
    refused(line, write(source))


@pytest.mark.parametrize("source", [BOMB, MERGE_BOMB, LONG_TEXT_BOMB], ids=str.__len__)
def test_a_bomb_takes_little_memory(write, refused, source):
    path = write(source)
    tracemalloc.start()
    try:
        refused("larger than", path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


WRONG = [
    "null", "-1", "0", "true", "1.5", "text", "''", "[]", "{}", "[[1]]", "[a, a]", "[{}]",
    "{a: 1}", ".nan", "-.inf", "1e400", str(2**100), "9" * 5000, "x" * 5000, "yes", "1:30", "010",
    "2020-01-01", "~no-such-user", '"\\e[31m\\n"', "[{pooler: max, train: {lr: .inf}}]",
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
            given = parse_yaml(text, "")
            assert key in SECTIONS or value(settings, key) in (given, [given])
    assert refusals >= 5


@pytest.mark.parametrize("key", [key for key in known_keys() if not key.startswith("members.")])
def test_a_near_miss_of_a_key_names_the_key(refused, key):
    refused(f"unknown key '{key}x'.*did you mean '{key}'", None, [f"{key}x=1"])


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["train.epochs"], "--set train.epochs: expected key=value"),
        ([""], "--set : expected key=value"),
        (["=3"], "--set =3: expected key=value"),
        (["  = 3"], "expected key=value"),
        (["train..lr=1"], "--set train..lr=1: expected key=value"),
        ([".train=1"], "expected key=value"),
        (["train.=1"], "expected key=value"),
        (["."], "expected key=value"),
        (["members.0.pooler=max"], "members is a list; set all of it"),
        (["data.text.0=x", "data.text=[a]", "data.text.0=x"], "text is .* no keys of its own|list"),
        (["seed=1", "seed.x=2"], "--set seed.x=2: seed is 1 and has no keys of its own"),
        (["train=3", "train.lr=1"], "train is 3 and has no keys of its own"),
        (["train=3"], "train: 3: input should be a valid dictionary"),
        (["data=[a]"], "data: input should be a valid dictionary"),
        (["members=max"], "members: 'max': input should be a valid list"),
        (["members=[max"], "--set members=.max: not a YAML value .line 1, column 5"),
        (["train.lr="], "train.lr: None: input should be a valid number"),
        (["a.b.c.d=1"], "unknown key 'a'"),
        (["train.lr.x=1"], "lr is 0.0003 and has no keys of its own"),
        (["seed=" + "9" * 90_000], "seed: '999"),
        (["x" * 100_000], "--set xxx"),
        (["x" * 100_000 + "=1"], "unknown key 'xxx"),
        (["run=[" + "x" * 100_000], "not a YAML value"),
        (["seed=[&a [*a]]"], "inside itself"),
        (["seed=[1]\n---\n2"], "another document"),
        (["seed=1\n---\n2"], "seed: .*valid integer"),
        (["train=epochs: 3"], "train: 'epochs: 3': input should be a valid dictionary"),
        (["seed=\t1\x1b[31m"], "unacceptable character #x001b"),
        (["data.dir=\udcff"], "unacceptable character #xdcff"),
        (["\udcff=1"], "valid string"),
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
        (["train.head_lr="], {"train.head_lr": None}),
        ([" train . lr = 1e-3 "], {"train.lr": 1e-3}),
        (["data.text=评论"], {"data.text": ["评论"]}),
        (["data.dir=~/a folder/é=1"], {"data.dir": "~/a folder/é=1"}),
        (["train=", "train.lr=1e-3"], {"train.lr": 1e-3, "train.epochs": 2}),
        (["train={lr: 1}", "train.lr=2"], {"train.lr": 2.0}),
        (["seed=1", "seed=2"], {"seed": 2}),
        (["data.id=Unnamed: 0"], {"data.id": "Unnamed: 0"}),
        (["data.text=['Unnamed: 0']", "data.id=null"], {"data.id": None}),
        (["data.id='Unnamed: 0'"], {"data.id": "Unnamed: 0"}),
        (["data.id=  a: b: c  "], {"data.id": "a: b: c"}),
        (["data.id=#", "data.target=- a #b"], {"data.id": "#", "data.target": ["- a #b"]}),
        (["data.id=*star", "data.target=&and"], {"data.id": "*star", "data.target": ["&and"]}),
        (["data.id=!!str 1", "data.target=@a"], {"data.id": "!!str 1", "data.target": ["@a"]}),
        (["data.id=|", "data.target=? a"], {"data.id": "|", "data.target": ["? a"]}),
        (["data.text=[a, 'b: c']"], {"data.text": ["a", "b: c"]}),
        (["run=true-north"], {"run": "true-north"}),
    ],
    ids=str,
)
def test_an_unusual_set_is_read_right(value, sets, expected):
    settings = config.load(None, sets)
    assert {key: value(settings, key) for key in expected} == expected
