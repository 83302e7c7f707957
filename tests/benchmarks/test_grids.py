"""The benchmarks of whole grids run from end to end at a tiny size, and say what they measured."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def grids(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import grids

    return grids


def output(program, *flags):
    command = [sys.executable, str(BENCHMARKS / program), *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_accuracy_has_an_interval_around_it(grids):
    y = np.array([0, 1, 2, 1] * 25)
    right = np.eye(3)[y]
    assert grids.accuracy(y, right) == (1.0, 1.0, 1.0)
    mixed = right.copy()
    mixed[::2] = [1.0, 0.0, 0.0]  # wrong for each row of class 2
    score, low, high = grids.accuracy(y, mixed)
    assert score == 0.75
    assert 0.6 < low < score < high < 0.9


def test_the_oof_of_trainers_models_is_their_mean_whatever_process_made_it(grids, tmp_path):
    for model in range(3):
        for fold in range(2):
            folder = tmp_path / f"model{model}fold{fold}"
            folder.mkdir()
            rows = np.arange(fold, 4, 2)
            oof = np.full((2, 2), [model, 10 * fold], dtype=float)
            np.savez(folder / "oof.npz", rows=rows, oof=oof, n_rows=4)
    found = grids._hf_oof(None, tmp_path)
    assert found.tolist() == [[1, 0], [1, 10], [1, 0], [1, 10]]


def test_a_contender_that_fails_is_named_with_its_output(grids, tmp_path):
    command = [sys.executable, "-c", "print('no such card'); raise SystemExit(3)"]
    failing = grids.Contender("rival", lambda grid, folder: [[command, command]], None)
    with pytest.raises(SystemExit, match="rival failed:\nno such card"):
        grids.measure(failing, None, tmp_path)


@pytest.mark.slow
def test_the_grid_of_ours_and_of_trainer_at_a_tiny_size(tiny_backbone):
    flags = ("--rows", 60, "--epochs", 1, "--backbone", tiny_backbone, "--max-length", 16)
    lines = output("grid.py", *flags, "--only", "trainer,two,notebook,ours,frozen").splitlines()
    assert lines[0].startswith("60 rows, batch 32, 1 epochs; ")
    assert [line.split("  ")[0] for line in lines[2:]] == [
        "Trainer, one by one",
        "Trainer, two processes of one thread",
        "notebook: padded to 128, fp32",
        "ours, one worker",
        "ours, --workers auto, frozen encoder",
    ]
    assert all(" GB" in line for line in lines[2:])


@pytest.mark.slow
@pytest.mark.parametrize("size", ["minilm-40", "deberta-512"])
def test_the_gpus_grid_on_a_cpu_with_toy_encoders(size):
    lines = output("gpu.py", "--toy", "--only", size, "--epochs", 1, "--contenders", "one")
    rows = [line for line in lines.splitlines() if "of peak" not in line][1:]
    assert rows[1].startswith(f"{size}: 60 rows of 12 tokens")
    assert [row.split("  ")[0] for row in rows[2:]] == ["Trainer, one by one", "ours, one worker"]


@pytest.mark.slow
def test_the_rates_of_a_half_frozen_model_are_printed(tiny_backbone):
    shown = output("frozen.py", "--rate", "--rows", 60, "--backbone", tiny_backbone, "--half", 1)
    rows = [line.split()[0] for line in shown.splitlines()[-2:]]
    assert rows == ["unfrozen", "half"]


@pytest.mark.slow
def test_the_presets_at_a_tiny_size(tiny_backbone):
    sets = [f"backbone={tiny_backbone}", "max_length=16", "members=[mean, gem]", "train.lr=1e-3"]
    sets += ["train.freeze_layers=1"]  # of two
    flags = [f"--set={item}" for item in sets]
    lines = output("presets.py", "--rows", 60, "--only", "fast,best", *flags).splitlines()
    assert lines[0].startswith("60 rows; ")
    fast, best = (line.split() for line in lines[2:4])
    assert fast[:2] == ["fast", str(2 * 3)]  # members and folds
    assert best[:2] == ["best", str(2 * 2 * 5)]
    assert all(" MB  tiny-" in line for line in lines[2:4])
    gain = float(best[6]) - float(fast[6])
    assert lines[4].startswith(f"best over fast: {gain:+.4f} (")
