"""The house's laws on who imports whom, read from the sources."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "poolblend"
SCRIPTS = ("train", "blend", "infer")
COMMANDS = sorted(
    path.stem
    for path in (SRC / "commands").glob("*.py")
    if path.stem not in ("__init__", "command_line")
)


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
def test_scripts_import_commands_alone(script):
    names = set(imported(ROOT / f"{script}.py"))
    assert names == {"sys", "pathlib.Path", "poolblend.commands.run"}


def test_commands_parse_arguments_and_call_the_pipeline():
    ours = {"poolblend.config", "poolblend.pipeline", "poolblend.commands.command_line"}
    for command in COMMANDS:
        path = SRC / "commands" / f"{command}.py"
        names = {name for name in imported(path) if name.startswith("poolblend")}
        assert names <= ours, path


def test_no_module_of_the_pipeline_has_the_name_of_a_function():
    """Once imported, the module would stand in the function's place."""
    from poolblend import pipeline

    assert not {path.stem for path in modules("pipeline")} & set(pipeline.__all__)


def test_nobody_imports_scripts():
    for path in [*SRC.rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        assert not [name for name in imported(path) if name.split(".")[0] in SCRIPTS], path


def test_golden_runs_use_the_commands_alone():
    """They are run with the commands of other commits, whose modules have other names."""
    programs = sorted((ROOT / "benchmarks").glob("golden*.py"))
    names = [name for path in programs for name in imported(path)]
    assert "golden_cases.CASES" in names
    assert not [name for name in names if name.split(".")[0] == "poolblend"]


# Which rooms each room may import, from the ground up: arrows go down only.
FLOOR = {"errors", "registry", "options", "text_spec", "printing"}
SEES = {
    "errors": set(),
    "registry": {"errors"},
    "options": {"errors", "registry"},
    "text_spec": {"options"},
    "printing": set(),
    "competition": FLOOR,
    "modeling": FLOOR,
    "training": FLOOR | {"modeling"},
    "ensembling": FLOOR | {"competition"},
    "cards": FLOOR | {"competition", "modeling", "training"},
    "store": FLOOR | {"cards"},
    "config": FLOOR | {"competition", "modeling", "training", "ensembling", "cards"},
}
SEES["loading"] = FLOOR | set(SEES)
SEES["jobs"] = SEES["loading"] | {"loading"}
SEES["report"] = SEES["doctor"] = SEES["jobs"] | {"jobs"}
SEES["pipeline"] = SEES["jobs"] | {"jobs", "report", "doctor"}
SEES["commands"] = SEES["pipeline"] | {"pipeline"}
SEES["api"] = {"competition", "config", "errors", "jobs", "pipeline", "printing", "report", "store"}
SEES["__main__"] = {"commands"}


def room_of(module):
    """The room of a module's full name; None for the package itself and other libraries."""
    parts = module.split(".")
    return parts[1] if parts[0] == "poolblend" and len(parts) > 1 and parts[1] in SEES else None


def test_every_room_has_its_place():
    rooms = {path.stem for path in SRC.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__"} == set(SEES)


@pytest.mark.parametrize("room", SEES)
def test_rooms_import_only_rooms_below_them(room):
    upwards = [
        f"{path.relative_to(SRC)} imports {name}"
        for path in modules(room)
        for name in imported(path)
        if room_of(name) not in {None, room} | SEES[room]
    ]
    assert upwards == []


def test_no_modules_import_each_other_in_a_circle():
    paths = {module_name(path): path for path in SRC.rglob("*.py")}
    graph = {}
    for module, path in paths.items():
        named = {name if name in paths else name.rpartition(".")[0] for name in imported(path)}
        graph[module] = (named & set(paths)) - {module}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def module_name(path):
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_competition_and_ensembling_never_import_torch():
    torch = ("torch", "transformers", "accelerate")
    assert violations("competition", *torch) == []
    assert violations("ensembling", *torch) == []


def test_modeling_never_imports_pandas():
    assert violations("modeling", "pandas") == []


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
        if path.is_relative_to(SRC / "store") or path.is_relative_to(SRC / "report" / "plots"):
            continue
        calls = [
            node.func.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ]
        assert not set(calls) & set(writers), path


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_given_without_the_heavy_libraries(name):
    script = ROOT / f"{name}.py"
    argv, typed = [script.name], f"python {script.name}"
    start = f"runpy.run_path({str(script)!r}, run_name='__main__')"
    if name not in SCRIPTS:
        argv, typed = ["poolblend", name], f"poolblend {name} "
        start = "runpy.run_module('poolblend', run_name='__main__')"
    probe = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        f"sys.argv = {[*argv, '--help']!r}\n"
        "try:\n"
        f"    {start}\n"
        "except SystemExit as stop:\n"
        "    assert stop.code in (0, None)\n"
        "heavy = {'torch', 'transformers', 'pandas', 'sklearn', 'optuna'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert typed in done.stdout


def test_blend_fits_weights_without_torch():
    probe = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
        "import poolblend.pipeline.blending\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
