"""The doctor: each fault is reported with its cause and its fix; a healthy run has none."""

import re
import shutil
import socket
import sys
from pathlib import Path

import pytest
import torch

from doctor.faults import (
    FAULTS,
    WARNINGS,
    disk_full,
    driver_too_old,
    gpu,
    library_missing,
    on_cpu,
    refuse,
    train_table_gone,
)
from poolblend import config
from poolblend import doctor as diagnosis
from poolblend.competition import demo
from poolblend.doctor import checks, libraries
from poolblend.errors import UserError
from poolblend.training import resources, trial

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(toy, tmp_path, tiny_backbone):
    """A toy run with a backbone of its own, which a test may damage."""
    shutil.copytree(tiny_backbone, tmp_path / "tiny")
    return config.load(toy(), [f"backbone={tmp_path / 'tiny'}"])


def findings(settings, name):
    """What one check finds."""
    (check,) = [check for check in checks.CHECKS if check.name == name]
    return diagnosis._findings(check, checks.Run(settings), failed_before=False)


def everything(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("fault", "name", "cause", "fix"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS]
)
def test_a_fault_is_reported_with_cause_and_fix(settings, monkeypatch, fault, name, cause, fix):
    with monkeypatch.context() as patch:
        fault(patch, settings)
        found = findings(settings, name)
    (failed,) = [finding for finding in found if finding.status == "fail"]
    assert re.search(cause, failed.found)
    assert re.search(fix, failed.fix)


@pytest.mark.parametrize(
    ("weakness", "name", "cause", "fix"), WARNINGS, ids=[case[0].__name__ for case in WARNINGS]
)
def test_a_weakness_is_a_warning_and_no_failure(settings, monkeypatch, weakness, name, cause, fix):
    with monkeypatch.context() as patch:
        weakness(patch, settings)
        found = findings(settings, name)
    assert [finding for finding in found if finding.status == "fail"] == []
    (warned,) = [finding for finding in found if finding.status == "warn"]
    assert re.search(cause, warned.found)
    assert re.search(fix, warned.fix)


def test_a_healthy_run_has_no_failure_and_is_left_as_it_was(settings, tmp_path, capsys):
    path = settings.data_dir / "train.csv"  # reading it logs that a text is missing
    path.write_text(re.sub(r"^(r000),[^,]*,", r"\1,,", path.read_text(), flags=re.M))
    before = everything(tmp_path)
    diagnosis.doctor(settings)
    assert everything(tmp_path) == before
    out, err = capsys.readouterr()
    assert err == ""
    names = [
        "python",
        "libraries",
        "memory",
        "cpu",
        "gpu",
        "disk",
        "store",
        "locks",
        "tables",
        "folds",
        "backbone",
    ]
    printed = [line.split()[1] for line in out.splitlines() if line.startswith(("ok", "warn"))]
    assert [name for name in names if name not in printed] == []
    assert "FAIL" not in out


def test_all_checks_run_and_failures_end_in_one_line(settings, monkeypatch, capsys):
    crash = checks.Check("moon", "look again", refuse(ZeroDivisionError("no moon")))
    monkeypatch.setattr(diagnosis, "CHECKS", [crash, *diagnosis.CHECKS])
    disk_full(monkeypatch, settings)
    train_table_gone(monkeypatch, settings)
    with pytest.raises(UserError, match=r"3 of \d+ checks failed: moon, disk, tables; follow"):
        diagnosis.doctor(settings)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "FAIL  moon       ZeroDivisionError: no moon",
        f"{' ' * 17}fix: look again",
    ]
    assert sum(line.startswith("FAIL") for line in lines) == 3
    assert [line for line in lines if len(line) > 100 and " " in line.strip()[:80]] == []


def test_a_missing_library_is_reported_once(settings, monkeypatch):
    with monkeypatch.context() as patch:
        library_missing(patch, settings)
        found = list(diagnosis.examine(settings))
    (failed,) = [finding for finding in found if finding.status == "fail"]
    assert failed.found == "torch is not installed; torch>=2.6 is needed"


def test_the_network_is_left_alone(toy, monkeypatch):
    from huggingface_hub import constants

    asked = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: asked.append(where))
    monkeypatch.setattr(socket.socket, "connect", lambda _, where: asked.append(where))
    settings = config.load(toy(members=[{"pooler": "max", "backbone": "nobody/has-this-model"}]))
    (absent,) = findings(settings, "backbone")
    assert "nobody/has-this-model: no folder" in absent.found
    assert "download it on a machine with a network and set `backbone` to its folder" in absent.fix
    assert asked == []
    assert constants.HF_HUB_OFFLINE is False


def test_the_demo_is_not_made(toy, toy_frame, tmp_path, monkeypatch):
    frame = toy_frame("multiclass", 30).rename(columns={"target": "library"})
    frame.insert(0, "id", [f"r{i}" for i in range(30)])
    test, labels = frame[["id", "text"]][20:], frame[["id", "library"]][20:]
    tables = {"train": frame[:20], "test": test, "test_labels": labels}
    monkeypatch.setattr(demo, "build_demo", lambda: tables | {"sample_submission": labels})
    data = {"demo": True, "dir": str(tmp_path / "demo"), "target": "library"}
    settings = config.load(toy("multiclass", data=data))
    found = findings(settings, "tables")[0]
    assert found.status == "ok"
    assert found.found.endswith("the demo competition, which the first run makes")
    assert not (tmp_path / "demo").exists()
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "train.csv").write_text("id,text,library\na,b,c\n")
    assert [finding.status for finding in findings(settings, "tables")] == ["fail"]


def test_an_ascii_console_is_reported_and_can_print_the_rest(settings, monkeypatch, tmp_path):
    with (tmp_path / "out").open("w", encoding="ascii") as file:
        monkeypatch.setattr(sys, "stdout", file)
        moved = settings.data_dir.rename(tmp_path / "дата")
        diagnosis.doctor(config.load(tmp_path / "toy.yaml", [f"data.dir={moved}"]))
    out = (tmp_path / "out").read_text()
    assert "warn  console" in out
    assert "fix: set PYTHONIOENCODING=utf-8" in out
    assert "\\u0434" in out


def test_a_gpu_that_works_or_is_hidden_is_no_fault(settings, monkeypatch):
    with monkeypatch.context() as patch:
        gpu(patch, on_cpu)
        (found,) = findings(settings, "gpu")
    assert found.name == "cuda:0"
    assert found.found == "Tesla T4: 14.0 GB of 16.0 GB free; training step in fp16 is correct"
    driver_too_old(monkeypatch, settings)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (found,) = findings(settings, "gpu")
    assert (found.status, found.found[:31]) == ("ok", "hidden by CUDA_VISIBLE_DEVICES=")


@pytest.mark.parametrize("precision", trial.TOLERANCES)
def test_rounding_is_well_inside_the_tolerances(precision):
    error = trial.deviation(torch.device("cpu"), precision)
    assert 0 < error < trial.TOLERANCES[precision] / 10


def test_a_containers_limits_count(tmp_path, monkeypatch):
    limits = {
        "cpu.max": "50000 100000",
        "memory.max": "3000000",
        "memory.current": "2000000",
        "memory.stat": "anon 1\ninactive_file 500000\n",
    }
    for name, text in limits.items():
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    assert resources.usable_cores() == 0.5
    assert resources.free_memory() == (1.5e6, 3e6)
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.free_memory()[1] > 1e9


def test_the_supported_ranges_hold_the_pins():
    from packaging.requirements import Requirement

    supported = (ROOT / "src/poolblend/supported.txt").read_text().splitlines()[1:]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("#")[0].strip().split("==") for line in lines if "==" in line)
    for library in map(Requirement, supported):
        assert library.specifier.contains(pins[library.name]), library
    oldest = ".".join(map(str, libraries.OLDEST))
    assert f'requires-python = ">={oldest}"' in (ROOT / "pyproject.toml").read_text()
