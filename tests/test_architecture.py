"""The house's laws on who imports whom, read from the sources."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "poolblend"
SCRIPTS = ("train", "blend", "infer")


def imported(path, top_level_only=False):
    """Full names of the modules that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(room):
    path = SRC / room
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def violations(room, *forbidden):
    return [
        f"{path.relative_to(SRC)} imports {name}"
        for path in modules(room)
        for name in imported(path)
        if name.startswith(forbidden)
    ]


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_import_pipeline_and_config_alone(script):
    names = set(imported(ROOT / f"{script}.py"))
    assert names == {"sys", "pathlib.Path", "poolblend.config", "poolblend.pipeline"}


def test_nobody_imports_scripts():
    for path in [*SRC.rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        assert not [name for name in imported(path) if name.split(".")[0] in SCRIPTS], path


def test_golden_runs_use_the_commands_alone():
    """They are run with the commands of other commits, whose modules have other names."""
    programs = sorted((ROOT / "benchmarks").glob("golden*.py"))
    names = [name for path in programs for name in imported(path)]
    assert "golden_cases.CASES" in names
    assert not [name for name in names if name.split(".")[0] == "poolblend"]


def test_competition_and_ensembling_never_import_torch():
    torch = ("torch", "transformers", "accelerate", "poolblend.modeling", "poolblend.training")
    assert violations("competition", *torch) == []
    assert violations("ensembling", *torch) == []


def test_modeling_never_imports_pandas():
    assert violations("modeling", "pandas", "poolblend.store", "poolblend.competition") == []


def test_only_config_and_pipeline_see_the_config():
    for room in (
        "competition",
        "modeling",
        "training",
        "ensembling",
        "store",
        "plots",
        "registry",
        "errors",
    ):
        assert violations(room, "poolblend.config", "poolblend.pipeline") == []


def test_the_commands_rooms_depend_on_what_they_share_and_inference_on_blends():
    rooms = {name: f"poolblend.pipeline.{name}" for name in ("training", "blending", "inference")}
    rooms["diagnosis"] = "poolblend.pipeline.diagnosis"
    assert violations("pipeline/training", rooms["blending"], rooms["inference"]) == []
    assert violations("pipeline/blending", rooms["training"], rooms["inference"]) == []
    assert violations("pipeline/inference", rooms["training"]) == []
    shared = [path for path in (SRC / "pipeline").glob("*.py") if path.name != "__init__.py"]
    assert shared
    for path in shared:
        assert not [name for name in imported(path) if name.startswith(tuple(rooms.values()))], path


def test_only_the_store_writes_files():
    writers = (
        "to_csv",
        "to_parquet",
        "write_text",
        "write_bytes",
        "save_file",
        "mkdir",
        "truncate",
    )
    for path in SRC.rglob("*.py"):
        if path.is_relative_to(SRC / "store") or path.is_relative_to(SRC / "plots"):
            continue
        calls = [
            node.func.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ]
        assert not set(calls) & set(writers), path


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_given_without_the_heavy_libraries(script):
    probe = (
        "import runpy, sys\n"
        f"sys.argv = ['{script}.py', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / f'{script}.py')!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert stop.code in (0, None)\n"
        "heavy = {'torch', 'transformers', 'pandas', 'sklearn', 'optuna'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"python {script}.py" in done.stdout


def test_blend_fits_weights_without_torch():
    probe = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        "import poolblend.pipeline.blending.blend\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
