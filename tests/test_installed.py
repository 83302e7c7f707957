"""The package as pip installs it: one command, in any folder, without a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rig.wheels import write_wheels

ROOT = Path(__file__).parents[1]
PACKED = ("src", "configs", "notebooks", "pyproject.toml", "setup.py", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The installed program, from a wheel that was built of what git would pack."""
    source, wheels, place = (tmp_path_factory.mktemp(name) for name in ("source", "wheel", "site"))
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in PACKED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name, **({"ignore": ignored} if copy != shutil.copy2 else {}))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", wheels, source]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = wheels.glob("poolblend-*.whl")
    install = ["install", "--no-deps", "--no-index", "--target", place, wheel]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    return place / "bin" / "poolblend"


@pytest.fixture
def poolblend(program, tmp_path):
    """Runs the program in an empty folder."""
    folder = tmp_path / "empty"
    folder.mkdir()

    def run(*arguments):
        return subprocess.run(
            [program, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(program.parents[1])},
        )

    run.folder = folder
    return run


def test_from_csvs_to_submission_in_a_folder_of_its_own(poolblend, toy):
    config = toy(members=["mean"], folds={"n": 2}, store=".")
    for command in ("train", "blend", "infer"):
        done = poolblend(command, "--config", config, "--quiet")
        assert done.returncode == 0, done.stderr
    assert (poolblend.folder / "submissions" / "toy" / "submission.csv").is_file()
    wheels = write_wheels(poolblend.folder / "wheels", ["iterative-stratification", "cmaes"])
    done = poolblend("bundle", "--config", config, "--to", "kit", "--wheels", wheels)
    assert done.returncode == 0, done.stderr
    [wheel] = (poolblend.folder / "kit" / "dataset" / "wheels").glob("poolblend-*.whl")
    with zipfile.ZipFile(wheel) as file:
        packed = set(file.namelist())
    assert {"poolblend/notebooks/kaggle.ipynb", "poolblend/supported.txt"} <= packed


def test_configs_demo_and_notebook_come_with_it(poolblend, program):
    done = poolblend("board", "--config", "configs/trec.yaml", "--set", "preset=best")
    assert "minilm-mean-s1" in done.stdout, done.stderr
    assert (program.parents[1] / "poolblend" / "notebooks" / "blend.ipynb").is_file()
    done = poolblend("blend", "--config", "nowhere.yaml")
    assert done.stderr.startswith("error: no config file nowhere.yaml; configs/ holds: asap-essays")


def test_help_and_messages_name_the_commands_as_they_are_typed(poolblend, toy):
    everything = poolblend("--help").stdout
    for command in ("new", "train", "blend", "board", "infer", "doctor", "bundle", "submit"):
        assert f"poolblend {command} " in everything
        assert f"poolblend {command} " in poolblend(command, "--help").stdout
    assert poolblend().stdout == everything
    assert poolblend("--version").stdout == "0.1.0\n"
    done = poolblend("blend", "--config", toy())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "run poolblend train first" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["trian"], "error: unknown command 'trian'; did you mean 'train'"),
        (["--seed", "3"], "error: unknown flag --seed before a command; flags follow the command"),
    ],
)
def test_a_wrong_command_ends_in_one_line(poolblend, arguments, line):
    done = poolblend(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(line)
