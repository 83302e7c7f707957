"""The three commands as a user types them: output, one-line errors, exit status."""

import io
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from poolblend import config, pipeline
from poolblend.printing import AboveBars

ROOT = Path(__file__).parents[1]


def command(script, *arguments, folder=ROOT):
    return subprocess.run(
        [sys.executable, str(ROOT / f"{script}.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )


@pytest.fixture
def in_process(monkeypatch, capsys):
    """Runs a script as a command does, in this process: exit status, stdout, stderr."""
    handler, log = signal.getsignal(signal.SIGTERM), logging.getLogger("poolblend")
    level = log.level

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            runpy.run_path(str(ROOT / f"{script}.py"), run_name="__main__")
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    yield run
    signal.signal(signal.SIGTERM, handler)
    log.setLevel(level)


def test_from_csvs_to_submission_from_any_working_directory(toy, tmp_path):
    path = toy()
    quiet = command("train", "--config", path, "--quiet", folder=tmp_path)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    for script in ("blend", "infer"):
        done = command(script, "--config", path, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    submission = tmp_path / "store" / "submissions" / "toy" / "submission.csv"
    assert f"submission: {submission} (15 rows)" in done.stdout
    assert done.stdout.startswith("blend: ")
    verified = command("infer", "--config", path, "--verify-oof", folder=tmp_path)
    assert "largest difference of all: 0" in verified.stdout


@pytest.mark.parametrize(
    ("script", "arguments", "line"),
    [
        ("train", ["--pooler", "maxx"], "error: unknown pooler 'maxx'; did you mean 'max'"),
        ("train", ["--seed", "x"], "error: argument --seed: invalid int value: 'x' (--help lists"),
        ("train", ["--ful", "9"], "error: unrecognized arguments: --ful 9"),
        ("train", ["--time-limit", "8"], "error: '8' has no unit: expected a duration such as"),
        ("train", ["--fold", "9"], "error: --fold 9: out of range; the folds are 0 to 2"),
        ("train", ["--list", "--dry-run"], "error: argument --dry-run: not allowed with argument"),
        ("train", ["--set", "train.epoch=3"], "error: unknown key 'train.epoch'"),
        ("train", ["--set", "data.id=key"], "error: unknown column 'key'"),
        (
            "train",
            ["--set", "backbone=no/such/place"],
            "error: member place-mean-s42: backbone no/such/place: no folder",
        ),
        ("blend", [], "error: no finished fold of run toy yet; run train.py first"),
        ("infer", [], "error: no blend card at "),
    ],
)
def test_a_mistake_ends_in_one_line_with_exit_status_2(toy, in_process, script, arguments, line):
    status, out, err = in_process(script, "--config", toy(), "--quiet", *arguments)
    assert status == 2
    assert err.startswith(line)
    assert err.count("\n") == 1
    assert out == ""


def test_doctor_and_check_end_with_status_2_where_something_fails(toy, in_process):
    path = toy()
    pipeline.train(config.load(path), poolers="mean", folds="0")
    (path.parent / "store" / "oof" / "toy" / "tiny-mean-s42" / "fold0.parquet").write_bytes(b"")
    status, out, err = in_process("train", "--config", path, "--check")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: 1 damaged of 2 artefacts")
    assert "fold0.parquet is damaged" in " ".join(out.split())
    assert in_process("train", "--config", path, "--doctor")[0] == 0
    (path.parent / "data" / "train.csv").unlink()
    status, out, err = in_process("train", "--config", path, "--doctor")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: 1 of ")
    assert "FAIL  tables" in out


def test_help_ends_with_what_can_be_named(toy):
    help_text = command("train", "--help").stdout
    assert "python train.py --pooler max --fold 0" in help_text
    assert "mean_kmax" in help_text
    assert "convex" in command("blend", "--help").stdout


def test_a_list_is_given_without_the_heavy_libraries(toy):
    probe = (
        "import runpy, sys\n"
        f"sys.argv = ['train.py', '--list', '--config', {str(toy())!r}]\n"
        f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
        "heavy = {'torch', 'transformers', 'accelerate', 'optuna'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mean_kmax" in done.stdout


def test_log_lines_stand_above_a_progress_bar_and_the_bar_is_drawn_again(monkeypatch):
    from tqdm import tqdm

    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    handler = AboveBars(screen)
    with tqdm(total=3, desc="steps", file=screen, disable=False, ncols=40) as bar:
        bar.update()
        handler.emit(logging.makeLogRecord({"msg": "an epoch"}))
        drawn, after = screen.getvalue().split("an epoch\n")
        assert drawn.split("\r")[-1] == ""
        assert after.strip().startswith("steps:")


def pins(*files):
    """Versions by package, of requirement files or parts of them."""
    lines = [line.split("  #")[0] for file in files for line in file.splitlines()]
    return dict(line.strip().split("==") for line in lines if "==" in line)


def requirements(kind=""):
    return (ROOT / f"requirements{kind}.txt").read_text(encoding="utf-8")


def test_what_is_pinned_twice_is_pinned_alike():
    ruff = pins(requirements("-dev"))["ruff"]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert f"ruff=={ruff}" in hooks
    assert hooks.count("ruff==") == hooks.count(f"ruff=={ruff}")


def test_kaggles_requirements_differ_by_what_kaggle_preinstalls_alone():
    preinstalled, rest = map(pins, requirements("-kaggle").split("\n\n"))
    ours = pins(requirements(), requirements("-dev"))
    assert rest.items() <= ours.items()
    assert pins(requirements()).keys() <= preinstalled.keys() | rest.keys()
    assert all(ours[name] != version for name, version in preinstalled.items())


def test_the_lock_holds_every_pin_with_hashes():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = re.findall(r"^([\w.-]+)==(\S+)(?: ;.*)? \\\n +--hash=sha256:", lock, re.MULTILINE)
    normal = {name.lower(): version for name, version in locked}
    ours = {name.lower(): version for name, version in pins(requirements()).items()}
    assert ours.items() <= normal.items()
    assert len(locked) > len(ours)
