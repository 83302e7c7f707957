"""Names and paths in a config stay inside the store, whatever they are made of."""

import json
import os
from pathlib import Path

import pytest

from poolblend import config


def test_a_path_that_is_no_config_is_refused_in_one_line(tmp_path, write, refused):
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    cases = {
        tmp_path: "is a folder",
        tmp_path / "loop.yaml": "symbolic links|no config file",
        tmp_path / "absent.yaml": "no config file .*absent.yaml; configs/ holds: .*quickstart",
        write("seed: 1") / "inside": "no config file|Not a directory",
        "": "is a folder",
        "a\0b": "no config file|null byte|null character",
        "~no-such-user/x.yaml": "home",
    }
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.yaml")
        cases |= {tmp_path / "pipe.yaml": "not a regular file", "/dev/zero": "not a regular file"}
    for path, line in cases.items():
        refused(line, path)


def test_a_file_that_cannot_be_opened_is_refused_in_one_line(write, refused, monkeypatch):
    path, error = write("seed: 1"), PermissionError(13, "Permission denied")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(Path, "open", fail)
    refused(f"cannot read .*mine.yaml: {error.strerror}", path)


@pytest.mark.parametrize("key", ["run", "backbone.name", "tag"])
def test_a_name_that_is_no_safe_file_name_is_refused(refused, key):
    names = ["con", "NUL", "lpt9", "con.txt", "a.", "..", ".a", "-a", "a/b", "a\\b", "C:", "/abs"]
    for name in [*names, "a b", "é", "a\0", "x" * 101, "~"]:
        item = f"{key}={json.dumps(name)}"
        if key == "tag":
            item = f"members=[{{pooler: max, tag: {json.dumps(name)}}}]"
        refused("part of a file name", None, [item])


@pytest.mark.parametrize("name", ["con1", "null", "a.con", "x" * 100, "1", "A_b-c.d"])
def test_a_safe_file_name_is_taken(name):
    assert config.load(None, [f"run='{name}'"]).run == name


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/", None),
        ("../..", None),
        (".", None),
        ("", None),
        ("x/con", "windows"),
        ("C:\\x", "x"),
        ("C:\\models\\my model\\", "my-model"),
        ("org/.hidden", "hidden"),
        ("a/b...", "b"),
        ("a/été 2", "t-2"),
        ("package:x/a\tb", "a-b"),
    ],
)
def test_a_name_derived_from_a_source_is_a_safe_file_name_or_asked_for(refused, source, name):
    item = f"backbone={json.dumps(source)}"
    if name is None:
        refused("set backbone.name", None, [item])
    elif name == "windows":
        refused("Windows keeps this one", None, [item])
    else:
        assert config.load(None, [item]).backbone.name == name


KAGGLE = "/kaggle/input"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (f"{KAGGLE}/deberta-v3/transformers/base/1", "deberta-v3-base"),
        (f"{KAGGLE}/deberta-v3/transformers/base/1/", "deberta-v3-base"),
        (f"{KAGGLE}/deberta-v3/transformers/base", "deberta-v3-base"),
        (f"{KAGGLE}/models/google/gemma-2/Transformers/2b-it/2", "gemma-2-2b-it"),
        (f"{KAGGLE}/models/qwen-lm/qwen2.5/pyTorch/0.5b-instruct/1", "qwen2.5-0.5b-instruct"),
        (f"{KAGGLE}/bert/tensorFlow2/bert-en-uncased/3", "bert-en-uncased"),
        (f"{KAGGLE}/electra/pytorch/default/1", "electra"),
        (f"{KAGGLE}/deberta-v3-base/1", "deberta-v3-base"),
        (f"{KAGGLE}/roberta/pytorch", "roberta"),
        ("models/roberta-base/v2", "roberta-base"),
        ("models/roberta-base/1.0.2", "roberta-base"),
        ("C:\\models\\bge-small\\7", "bge-small"),
        (f"~/hub/models--microsoft--deberta-v3-base/snapshots/{'0a' * 20}", "deberta-v3-base"),
        (f"hub/models--bert-base-uncased/snapshots/{'0a' * 20}", "bert-base-uncased"),
        ("package:some-encoder/1", "some-encoder"),
    ],
)
def test_a_folder_named_by_a_version_is_named_by_what_stands_above_it(source, name):
    item = f"backbone={json.dumps(source)}"
    assert config.load(None, [item]).backbone.name == name
    further = config.load(None, [f"backbone={{source: {json.dumps(source)}, mlm: {{epochs: 1}}}}"])
    assert further.backbone.name == f"{name}-mlm"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("microsoft/deberta-v3-base", "deberta-v3-base"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
        ("~/transformers/roberta-base", "roberta-base"),
        ("package:x/model", "model"),
        ("x/base", "base"),
        ("out/checkpoint-500", "checkpoint-500"),
        ("/1", "1"),
        ("../2", "2"),
        ("pytorch", "pytorch"),
    ],
)
def test_any_other_source_is_named_by_its_last_part(source, name):
    assert config.load(None, [f"backbone={json.dumps(source)}"]).backbone.name == name


def test_two_backbones_of_one_name_need_another(refused):
    members = "members=[{pooler: mean, backbone: a/bert/1}, {pooler: mean, backbone: b/bert/1}]"
    refused(
        "named bert-mean-s42, of the backbones 'a/bert/1' and 'b/bert/1': set backbone.name",
        None,
        [members],
    )


def test_members_that_differ_by_case_alone_are_refused(refused):
    spec = "members=[{pooler: max, tag: a}, {pooler: max, tag: A}]"
    refused("two members are named minilm-max-a-s42", None, [spec])


@pytest.mark.parametrize("key", ["store", "output", "data.dir", "data.train", "backbone.source"])
def test_a_path_may_be_anything_but_unusable(refused, value, key):
    for path in ("~/x", "a b/é 中", "/abs/path", "../up", "x" * 5000):
        assert value(config.load(None, [f"{key}={path}", "backbone.name=x"]), key) == path
    refused("names no user", None, [f"{key}=~no-such-user/x", "backbone.name=x"])


def test_no_nul_in_a_path_made_in_python():
    with pytest.raises(ValueError, match="a path holds no NUL character"):
        config.Config(store="a\0b")
