"""Unusual config files: how they are read, or why they are refused."""

from collections.abc import Callable
from pathlib import Path

from poolblend import config
from poolblend.config.yaml_file import LARGEST

READ_RIGHT = {
    "empty": (b"", {"run": "mine", "task": "binary"}),
    "only a byte-order mark": (b"\xef\xbb\xbf", {"task": "binary"}),
    "byte-order mark": (b"\xef\xbb\xbftask: multiclass", {"task": "multiclass"}),
    "document marks": (b"---\nmax_length: 32\n...\n", {"max_length": 32}),
    "CRLF": (b"task: multiclass\r\ntrain:\r\n  epochs: 3\r\n", {"train.epochs": 3}),
    "JSON": (b'{"train": {"lr": 1e-5, "epochs": 3}}', {"train.lr": 1e-5}),
    "alias": (b"max_length: &n 48\nseed: *n", {"seed": 48}),
    "merge key": (
        b"train: &t {epochs: 3, lr: 0.1}\nmembers: [{pooler: max, train: {<<: *t, lr: 0.2}}]",
        {"members.0.train": {"epochs": 3, "lr": 0.2}},
    ),
    "list of merges": (
        b"head: &h {dropout: 0.3}\ntrain: &t {epochs: 3}\n"
        b"members: [{pooler: max, pooler_args: {<<: [*h, *t]}}]",
        {"members.0.pooler_args": {"dropout": 0.3, "epochs": 3}},
    ),
    "Norway": (b"data: {id: no, text: [on, off], target: yes}", {"data.text": ["on", "off"]}),
    "a column named y": (b"data: {target: y}", {"data.target": ["y"]}),
    "sexagesimal": (b"data: {id: 1:30}", {"data.id": "1:30"}),
    "underscores": (b"data: {positive: 1_000}", {"data.positive": "1_000"}),
    "hexadecimal": (b"data: {positive: 0x1F}", {"data.positive": "0x1F"}),
    "date": (b"data: {positive: 2020-01-01}", {"data.positive": "2020-01-01"}),
    "quoted number": (b"data: {positive: '1'}", {"data.positive": "1"}),
    "number tagged as text": (b"data: {positive: !!str 1}", {"data.positive": "1"}),
    "text tagged as a number": (b"max_length: !!int '64'", {"max_length": 64}),
    "exponents": (b"train: {lr: 3e-5, weight_decay: 1.E-2, clip: .5}", {"train.clip": 0.5}),
    "whole number for a float": (b"train: {lr: 1}", {"train.lr": 1.0}),
    "null": (b"train: {head_lr: ~}\nseeds: null", {"train.head_lr": None, "seeds": None}),
    "empty section": (b"train:\n  # epochs: 3\ndata:\n", {"train.epochs": 2}),
    "unicode": ("data: {text: 评论, target: ça va}".encode(), {"data.text": ["评论"]}),
    "escapes": (b'data: {text: "\\u00e9\\t"}', {"data.text": ["é\t"]}),
    "folded text": (b"data:\n  text: >-\n    two\n    words\n", {"data.text": ["two words"]}),
    "key tagged as text": (b"? seed\n: 3", {"seed": 3}),
}
REFUSED = {
    "tab": (b"\tseed: 1", "line 1, column 1.*cannot start any token"),
    "colon in a value": (b"a: b: c", "line 1, column 5.*mapping values are not allowed"),
    "bad indentation": (b"train:\n  epochs: 3\n lr: 1", "line 3, column 2"),
    "unclosed list": (b"seeds: [1, 2", "line 1, column 13"),
    "unclosed quote": (b"run: 'abc\nseed: 1\n" * 50, "line 3, column 7"),
    "undefined alias": (b"seed: *nobody", "undefined alias 'nobody'"),
    "merge of a number": (b"train: {<<: 3}", "expected a mapping"),
    "key twice": (
        b"task: binary\ntask: multiclass",
        r"line 2, column 1\): key 'task' is given twice",
    ),
    "key twice in a section": (
        b"train:\n  lr: 1\n  lr: 2",
        "line 3, column 3.*key 'lr' is given twice",
    ),
    "key twice, once quoted": (b"seed: 1\n'seed': 2", "key 'seed' is given twice"),
    "deep lists": (b"seeds: " + b"[" * 40_000, "it is nested too deep"),
    "deep mappings": (b"{a: " * 20_000, "it is nested too deep"),
    "tag that runs code": (b"run: !!python/object/apply:os.system ['true']", "tag .*os.system"),
    "tag of a date": (b"run: !!timestamp 2020-01-01", "tag:yaml.org,2002:timestamp"),
    "own tag": (b"run: !custom x", "could not determine a constructor for the tag '!custom'"),
    "wrong tag of a word": (b"seed: !!int abc", "invalid literal for int"),
    "wrong tag of a switch": (b"remote_code: !!bool maybe", "maybe"),
    "wrong tag of a number": (b"train: {lr: !!float x}", "could not convert string to float"),
    "wrong tag of a list": (b"train: !!map [1, 2]", "expected a mapping node"),
    "two documents": (b"seed: 1\n---\nseed: 2", "line 2, column 1.*another document"),
    "a list": (b"- 1\n- 2", "expected `key: value` lines, found a list"),
    "binary": (bytes(range(256)), "is not UTF-8; save the file as UTF-8"),
    "UTF-16": ("task: binary".encode("utf-16"), "byte 1 is not UTF-8"),
    "UTF-16 without a mark": ("task: binary".encode("utf-16-le"), "unacceptable character #x0000"),
    "Latin-1": ("data: {text: Müller}".encode("latin-1"), "byte 15 is not UTF-8"),
    "NUL": (b"seed: 1\0", "unacceptable character #x0000"),
    "escape beyond Unicode": (b'run: "\\UFFFFFFFF"', "is not YAML"),
    "bad escape": (rb'store: "C:\data"', "expected escape sequence|unknown escape character"),
    "too large": (b"#" * LARGEST + b"\n#", "larger than 100,000 bytes: is it a config"),
    "number as a key": (b"1: 2", "key '1' is not text: quote it"),
    "ten to the 400th as a count": (b"folds: {n: 1e400}", "folds.n: inf: input should be a valid"),
    "negative zero": (b"train: {lr: -0.0}", "train.lr: -0.0: input should be greater than 0"),
    "count beyond memory": (b"max_length: 99999999999999999999", "max_length: 9+: too large"),
    "switch of YAML 1.1": (b"data: {demo: yes}", "data.demo: 'yes': expected true or false"),
    "version of many digits": (b"%YAML 1." + b"9" * 5000 + b"\n---\nseed: 1", "is not YAML"),
    "thousands of unknown keys": (
        b"".join(b"k%d: 1\n" % i for i in range(9000)),
        "unknown key 'k0'",
    ),
    "long wrong word": (b"task: " + b"x" * 50_000, "task: 'xxx.*input should be 'binary'"),
    "long column, twice": (
        b"data: {id: &c " + b"x" * 40_000 + b", text: *c}",
        "column 'xxx.*' is named twice",
    ),
    "thousands of members": (
        b"members: [" + b", ".join(b"{pooler: max, tag: t%d}" % i for i in range(3000)) + b"]",
        "make 3,000 members; at most 1,000",
    ),
    "thousands of seeds": (
        b"seeds: [" + b", ".join(b"%d" % i for i in range(9000)) + b"]",
        "make 45,000 members; at most 1,000",
    ),
    "not a number in a member": (
        b"members: [{pooler: gem, pooler_args: {p: .nan}}]",
        "members.0.pooler_args: Out of range float values",
    ),
}


def load(source: bytes, folder: Path) -> None:
    path = folder / "fuzzed.yaml"
    path.write_bytes(source)
    config.load(path)


def load_set(source: bytes, folder: Path) -> None:
    config.load(None, [source.decode("utf-8", "surrogateescape")])


SETS = [
    b"members=[mean, {pooler: max, tag: b}]",
    b"train.lr=1e-3",
    b"train={lr: 1, head_lr: null}",
    b"backbone=package:a/b",
    b"data.text=[a, b]",
    b"seeds=[1, 2]",
    b"checkpoints.minutes=1.5",
]
FILES = [source for source, _ in (*READ_RIGHT.values(), *REFUSED.values()) if len(source) < 5000]
FILES += [path.read_bytes() for path in sorted((config.ROOT / "configs").glob("*.yaml"))]

READERS: dict[str, Callable[[bytes, Path], None]] = {
    "config file": load,
    "config --set": load_set,
}
SEEDS = {"config file": FILES, "config --set": SETS}
