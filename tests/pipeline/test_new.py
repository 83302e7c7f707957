"""`poolblend new`: a folder of tables becomes a config that loads, and says what it guessed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from poolblend import config, pipeline
from poolblend.competition.drafting.lengths import LENGTHS
from poolblend.errors import UserError
from rig.shapes import SHAPES, write_shape
from rig.tables import refused

ROOT = Path(__file__).parents[2]


@pytest.fixture
def drafted(tmp_path, capsys):
    """Writes a shape's tables and drafts their config: its path, what was printed, its keys."""

    def draft(name, **given):
        keys = write_shape(tmp_path / name, name)
        end = pipeline.new(str(tmp_path / name), str(tmp_path / f"{name}.yaml"), **given)
        assert end.startswith(f"config: {tmp_path / name}.yaml\nnext: python train.py --config ")
        return tmp_path / f"{name}.yaml", " ".join(capsys.readouterr().out.split()), keys

    return draft


def value(settings, key):
    for name in key.split("."):
        settings = getattr(settings, name)
    return settings


@pytest.fixture(scope="module", params=SHAPES)
def shape(request, tmp_path_factory):
    """The config that is drafted for a shape, and the keys that are right for it."""
    folder = tmp_path_factory.mktemp("shapes")
    keys = write_shape(folder / request.param, request.param)
    pipeline.new(str(folder / request.param), str(folder / f"{request.param}.yaml"))
    return folder / f"{request.param}.yaml", keys


def test_the_tables_tell_the_config(shape):
    path, keys = shape
    settings = config.load(path)
    assert {key: value(settings, key) for key in keys} == keys
    assert settings.max_length in LENGTHS


def test_each_line_of_the_yaml_has_its_reason(shape):
    path, _ = shape
    reasoned = False
    for line in path.read_text().splitlines()[1:]:
        assert len(line) <= 100 or str(path.parent) in line
        is_key = re.match(r" *[a-z_]+: .", line)
        assert not is_key or reasoned or "  # " in line, line
        reasoned = line.lstrip().startswith("# ")


def test_only_what_is_guessed_or_unusual_stands_in_the_yaml(drafted):
    path, _, _ = drafted("tweets")
    text = path.read_text()
    keys = re.findall(r"^ *([a-z_]+):", text, flags=re.M)
    assert keys == ["task", "metric", "max_length", "data", "dir", "text"]
    assert "# guess: the longest; or all, as [keyword, text]: keyword (1.0 words, " in (
        " ".join(text.split())
    )


@pytest.mark.usefixtures("_imported")
def test_a_dry_run_goes_on_from_the_draft(drafted, tiny_backbone, tmp_path, capsys):
    path, _, _ = drafted("summaries")
    sets = [f"backbone={tiny_backbone}", f"store={tmp_path / 'store'}", "max_length=16"]
    pipeline.dry_run(config.load(path, sets), poolers="mean")
    assert "3 folds are to be trained" in capsys.readouterr().out
    assert not (tmp_path / "store").exists()


def test_what_could_be_added_is_a_comment_that_can_be_uncommented(drafted):
    path, printed, _ = drafted("without_ids")
    assert "could be added: data.numeric: [length]" in printed
    path.write_text(path.read_text().replace("# numeric:", "numeric:"))
    assert config.load(path).data.numeric == ["length"]


def test_what_only_train_has_and_what_could_be_groups_are_noted(drafted):
    _, printed, _ = drafted("other_names")
    assert "only train has rater: models cannot read what test lacks" in printed


def test_what_the_user_says_is_taken(drafted):
    path, printed, _ = drafted("other_names", target=["rater"], text=["text"], id="id")
    settings = config.load(path)
    assert settings.data.target == ["rater"]
    assert "data.target: rater (as given)" in printed


def test_no_name_in_a_table_makes_a_draft_that_cannot_be_read(tmp_path):
    folder, name = tmp_path / "odd", "la\x7fbel: #"
    folder.mkdir()
    rows = "".join(f"{i},some words of row {i},{'yes' if i % 2 else 'no'}\n" for i in range(40))
    (folder / "train.csv").write_text(f"id,text,{name}\n{rows}")
    (folder / "test.csv").write_text("id,text\n91,some words\n92,other words\n")
    (folder / "sample.csv").write_text(f"id,{name}\n91,no\n92,no\n")
    pipeline.new(str(folder), str(tmp_path / "odd.yaml"))
    assert config.load(tmp_path / "odd.yaml").data.target == [name]


def test_an_id_that_train_lacks_is_refused_before_anything_is_written(tmp_path):
    write_shape(tmp_path / "tweets", "tweets")
    with refused("unknown column 'foo' in "):
        pipeline.new(str(tmp_path / "tweets"), str(tmp_path / "a.yaml"), id="foo")
    assert not (tmp_path / "a.yaml").exists()


def test_an_existing_config_is_not_overwritten(tmp_path):
    write_shape(tmp_path / "tweets", "tweets")
    path = tmp_path / "mine.yaml"
    path.write_text("task: binary\n")
    with refused(f"{path} exists, and is not overwritten; choose another name (--to FILE)"):
        pipeline.new(str(tmp_path / "tweets"), str(path))
    assert path.read_text() == "task: binary\n"


def test_the_default_config_is_named_after_the_folder(tmp_path, monkeypatch):
    for module in ("pipeline.drafting", "config.settings"):
        monkeypatch.setattr(f"poolblend.{module}.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    write_shape(tmp_path / "Essays (2, new)", "tweets")
    end = pipeline.new(str(tmp_path / "Essays (2, new)"))
    assert end.startswith("config: configs/Essays-2-new.yaml\n")
    assert config.load(tmp_path / "configs" / "Essays-2-new.yaml").run == "Essays-2-new"


def test_a_folder_of_parquet_is_a_table(tmp_path):
    folder = tmp_path / "tweets"
    keys = write_shape(folder, "tweets")
    for name in ("train", "test"):
        frame = pd.read_csv(folder / f"{name}.csv")
        (folder / f"{name}.csv").unlink()
        (folder / name).mkdir()
        (folder / name / "_SUCCESS").touch()
        for number, part in enumerate((frame[:5], frame[5:])):
            part.to_parquet(folder / name / f"part-{number}.parquet")
    (folder / "images").mkdir()
    pipeline.new(str(folder), str(tmp_path / "a.yaml"))
    settings = config.load(tmp_path / "a.yaml")
    assert (settings.data.train, settings.data.test) == ("train", "test")
    assert {key: value(settings, key) for key in keys} == keys
    (folder / "train" / "notes.txt").touch()
    with refused("train is a folder that holds 'notes.txt', expected parquet files alone"):
        pipeline.new(str(folder), str(tmp_path / "b.yaml"))


def test_a_draft_whose_tables_cannot_be_read_is_kept_and_says_why(tmp_path):
    write_shape(tmp_path / "tweets", "tweets")
    train = tmp_path / "tweets" / "train.csv"
    train.write_text(train.read_text() + "r999,fire,a text with too few\n")
    with pytest.raises(UserError, match="train.csv cannot be read as CSV: row"):
        pipeline.new(str(tmp_path / "tweets"), str(tmp_path / "a.yaml"))
    assert not (tmp_path / "a.yaml").exists()
    train.write_text(train.read_text().replace("a text with too few\n", "a text,\n"))
    with pytest.raises(UserError, match="a.yaml is drafted, but its tables cannot be read yet: "):
        pipeline.new(str(tmp_path / "tweets"), str(tmp_path / "a.yaml"))
    assert config.load(tmp_path / "a.yaml").task == "binary"


def python(folder, *arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )


def test_the_command_prints_findings_and_what_comes_next(tmp_path):
    write_shape(tmp_path / "pairs", "questions")
    new = ("-m", "poolblend", "new", "--from", "pairs", "--to")
    done = python(tmp_path, *new, "my configs/a.yaml", "--target", "same")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(
        "config: my configs/a.yaml\nnext: poolblend train --config 'my configs/a.yaml' --dry-run\n"
    )
    for name, line in (
        ("my configs/a.yaml", "my configs/a.yaml exists, and is not overwritten; choose another"),
        ("my config.yaml", "--to my config.yaml: the file's name is the run's, and becomes part"),
    ):
        done = python(tmp_path, *new, name)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith(f"error: {line}")


def test_the_help_has_no_flags_of_a_config(tmp_path):
    done = python(tmp_path, "-m", "poolblend", "new", "--help")
    assert done.returncode == 0, done.stderr
    flags = set(re.findall("--[a-z]+", done.stdout))
    assert flags >= {"--from", "--to", "--train", "--test", "--sample", "--id", "--text"}
    assert not flags & {"--config", "--set", "--seed"}
    assert done.stdout.startswith("usage: poolblend new ")
