"""`poolblend submit`: Kaggle's own tool does each step, once; what is missing is named before."""

import importlib.util
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from poolblend import config, pipeline
from poolblend.cards import provenance
from poolblend.errors import UserError
from poolblend.pipeline import bundling
from poolblend.store.bundle import Bundle
from rig import toys
from rig.wheels import write_wheels

ROOT = Path(__file__).parents[2]
DATASET, NOTEBOOK = "me/poolblend-toy-models", "me/poolblend-toy"

TOOL = """#!{python}
import json, sys
from pathlib import Path
place = Path(__file__).parent
words = sys.argv[1:]
with (place / "calls").open("a") as file:
    file.write(json.dumps(words) + "\\n")
answers = json.loads((place / "answers.json").read_text())
text, status = answers[" ".join(words[:2])]
print(text)
sys.exit(status)
"""
ANSWERS = {
    "datasets create": ("Your private Dataset is being created. Please check progress at url", 0),
    "datasets version": ("Dataset version is being created. Please check progress at url", 0),
    "datasets status": ("ready", 0),
    "kernels push": ("Kernel version 3 successfully pushed.  Please check progress at url", 0),
    "kernels status": ('me/poolblend-toy has status "KernelWorkerStatus.COMPLETE"', 0),
    "competitions submit": ("Successfully submitted to Spooky", 0),
}


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """A tool that notes how it is called; `answer` sets what it says to a command."""
    place = tmp_path / "bin"
    place.mkdir()
    program = place / "kaggle"
    program.write_text(TOOL.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.setenv("KAGGLE_API_TOKEN", "a token")

    class Tool:
        def __init__(self):
            self.answers = dict(ANSWERS)

        def answer(self, command, text, status=0):
            self.answers[command] = (text, status)
            (place / "answers.json").write_text(json.dumps(self.answers))

        def calls(self):
            """The commands since the last question."""
            noted = place / "calls"
            lines = noted.read_text().splitlines() if noted.exists() else []
            noted.unlink(missing_ok=True)
            return [json.loads(line) for line in lines]

    made = Tool()
    made.answer("datasets status", "ready")
    return made


@pytest.fixture(scope="module")
def place(_imported, tiny_backbone, tmp_path_factory):
    """The folder of a blended run of one fold model for each of two folds."""
    place = tmp_path_factory.mktemp("submitted")
    blend = {"fitter": "equal", "fitters": ["equal"], "resamples": 50}
    path = toys.write_toy(
        place, tiny_backbone, n=24, n_test=4, members=["mean"], folds={"n": 2}, blend=blend
    )
    pipeline.train(config.load(path))
    pipeline.blend(config.load(path))
    write_wheels(place / "wheels", bundling.LACKING)
    return place


@pytest.fixture
def bundle(place, tmp_path):
    """Function of owner and competition: a bundle's folder."""

    def make(**chosen):
        settings = config.load(place / "toy.yaml")
        given = {"owner": "me", "competition": "spooky"}
        pipeline.bundle(
            settings, tmp_path / "bundle", wheels=place / "wheels", **{**given, **chosen}
        )
        return tmp_path / "bundle"

    return make


def test_the_steps_of_a_bundle_each_done_once(bundle, tool, capsys):
    folder = bundle()
    tool.answer("datasets status", "pending")
    pipeline.submit(folder)
    upload = ["-p", str(folder / "dataset"), "--dir-mode", "zip"]
    status = ["datasets", "status", DATASET]
    assert tool.calls() == [["datasets", "create", *upload], status]
    assert "pending; it takes minutes" in capsys.readouterr().out
    tool.answer("datasets status", "ready")
    tool.answer("kernels status", 'has status "KernelWorkerStatus.RUNNING"')
    pipeline.submit(folder)
    running = ["kernels", "status", NOTEBOOK]
    assert tool.calls() == [status, ["kernels", "push", "-p", str(folder / "notebook")], running]
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == [
        'version 3 of the notebook is not done: has status "KernelWorkerStatus.RUNNING"',
        "run the same command again to go on",
    ]
    tool.answer(*("kernels status", *ANSWERS["kernels status"]))
    pipeline.submit(folder, message="the first")
    by = ["-k", NOTEBOOK, "-v", "3", "-f", "submission.csv"]
    submitted = ["competitions", "submit", "spooky", "-m", "the first", *by]
    assert tool.calls() == [status, running, submitted]
    pipeline.submit(folder)
    assert tool.calls() == [status, running]
    assert "version 3 of me/poolblend-toy has been submitted already" in capsys.readouterr().out


def test_made_again_it_is_a_new_version_of_dataset_and_notebook(bundle, tool, monkeypatch):
    pipeline.submit(bundle())
    tool.calls()
    later = provenance.now() + timedelta(hours=1)  # cards have no parts of seconds
    monkeypatch.setattr(provenance, "now", lambda: later)
    tool.answer("kernels push", "Kernel version 4 successfully pushed.  Please check url")
    pipeline.submit(bundle())
    done = [call[:2] for call in tool.calls()]
    assert done == [
        ["datasets", "version"],
        ["datasets", "status"],
        ["kernels", "push"],
        ["kernels", "status"],
        ["competitions", "submit"],
    ]


def test_a_dataset_that_is_there_already_gets_a_version(bundle, tool):
    tool.answer(
        "datasets create", 'Dataset creation error: The requested slug "x" is already in use by a d'
    )
    tool.answer("kernels status", "RUNNING")
    pipeline.submit(bundle())
    assert [call[1] for call in tool.calls()] == ["create", "version", "status", "push", "status"]


@pytest.mark.parametrize(
    ("command", "text", "status", "line"),
    [
        ("datasets create", "Dataset creation error: no", 0, "datasets create.*error: no$"),
        ("datasets status", "403 Client Error", 1, "datasets status .*: 403 Client Error$"),
        ("kernels push", "Kernel push error: quota", 0, "kernels push .*error: quota$"),
        ("kernels push", "The following are not valid dataset sources", 0, "not valid dataset"),
        ("kernels push", "pushed, perhaps", 0, "named no version: pushed, perhaps"),
        ("kernels status", "KernelWorkerStatus.ERROR", 0, "version 3 .* failed: .*kernels logs me"),
        ("competitions submit", "400 Client Error", 1, "competitions submit spooky.*: 400 Client"),
    ],
)
def test_what_the_tool_refuses_is_one_line_and_what_is_done_is_done(
    bundle, tool, command, text, status, line
):
    folder = bundle()
    tool.answer(command, text, status)
    with pytest.raises(UserError, match=line) as error:
        pipeline.submit(folder)
    assert "\n" not in str(error.value)
    before = [call[:2] for call in tool.calls()]
    tool.answer(command, *ANSWERS[command])
    pipeline.submit(folder)
    after = [call[:2] for call in tool.calls()]
    assert after[-1] == ["competitions", "submit"]
    again = {"push"} if command == "kernels status" else {command.split()[1]}  # a run that failed
    once = {"create", "push", "submit"} - again
    assert not [call for call in before if call in after and call[1] in once]
    assert again <= {call[1] for call in after}


def test_a_runs_name_is_not_taken_for_its_status(bundle, tool, monkeypatch):
    """Kaggle's tool begins the line with the notebook's address."""
    address = "me/poolblend-autocomplete-errors"
    monkeypatch.setattr(bundling, "slug", lambda *_: address.removeprefix("me/"))
    tool.answer("kernels status", f'{address} has status "KernelWorkerStatus.RUNNING"')
    pipeline.submit(bundle())
    assert [call[1] for call in tool.calls()] == ["create", "status", "push", "status"]


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("dataset/dataset-metadata.json", "[]", "its metadata names no dataset or competition"),
        ("dataset/dataset-metadata.json", '{"id": "-p/x"}', "--owner '-p': expected the name"),
        ("notebook/kernel-metadata.json", "{}", "its metadata names no dataset or competition"),
        (
            "notebook/kernel-metadata.json",
            '{"competition_sources": ["--quiet"]}',
            "--competition '--quiet': expected the name",
        ),
    ],
)
def test_metadata_that_cannot_be_used_is_one_line(bundle, tool, name, content, line):
    folder = bundle()
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=line):
        pipeline.submit(folder)
    assert tool.calls() == []


def test_a_dry_run_sends_nothing_and_names_what_is_missing(bundle, tmp_path, monkeypatch, capsys):
    folder = bundle(owner=None, competition=None)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    capsys.readouterr()
    pipeline.submit(folder, dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[3:]] == ["missing"] * 4
    wanted = ("--owner NAME", "--competition SLUG", "pip install kaggle", "API key")
    assert [word in line for word, line in zip(wanted, lines[3:], strict=True)] == [True] * 4
    with pytest.raises(UserError, match="submit needs your name.*--competition.*pip install kagg"):
        pipeline.submit(folder)
    assert not (folder / "handed-over.json").exists()
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle" / "kaggle.json").write_text("")
    pipeline.submit(folder, owner="you", competition="other", dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"kaggle datasets create -p {folder}/dataset --dir-mode zip",
        f"kaggle kernels push -p {folder}/notebook",
        "kaggle competitions submit other -m 'poolblend: toy' -k you/poolblend-toy -v VERSION "
        "-f submission.csv",
        "missing: Kaggle's command-line tool (pip install kaggle six)",
    ]


def test_owner_and_competition_may_come_late(bundle, tool):
    folder = bundle(owner=None, competition=None)
    pipeline.submit(folder, owner="you", competition="other")
    assert tool.calls()[-1][2] == "other"
    dataset, kernel = Bundle(folder).metadata()
    assert (dataset["id"], kernel["competition_sources"]) == (
        "you/poolblend-toy-models",
        ["other"],
    )


def test_a_submission_is_one_command(tool, tmp_path):
    file = tmp_path / "submission.csv"
    file.write_text("id,target\n")
    with pytest.raises(UserError, match="submit needs the competition"):
        pipeline.submit(file)
    pipeline.submit(file, competition="spooky")
    message = "poolblend: submission.csv"
    assert tool.calls() == [
        ["competitions", "submit", "spooky", "-m", message, "-f", str(file)],
    ]
    with pytest.raises(UserError, match="is no bundle"):
        pipeline.submit(tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("kaggle") is None, reason="Kaggle's tool is absent")
def test_the_tools_own_checks_accept_the_metadata(bundle, tmp_path):
    program = [sys.executable, ROOT / "tests" / "rig" / "official.py", bundle()]
    done = subprocess.run(
        list(map(str, program)), capture_output=True, text=True, env=os.environ | {"HOME": "/"}
    )
    assert done.returncode == 0, done.stderr
    assert "surprising" not in done.stdout  # a title that does not resolve to the slug
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["enable_internet"] is False
    assert told["machine_shape"] == "NvidiaTeslaT4"
    assert told["dataset_data_sources"] == [f"{told['owner_slug']}/{told['slug']}"]
    assert told["competition_data_sources"] == ["spooky"]
    assert told["license_name"] == "other"
