"""The blend notebook: runs headless on a toy store, shows its pictures, writes blend.py's card."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

from poolblend import config, pipeline
from poolblend.pipeline.competition import open_store

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "blend.ipynb"
SETS = ["blend.trials=10"]
MEMBERS = ["tiny-mean-s42", "tiny-max-s42"]  # not in the store's order


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def execute(notebook, **parameters):
    """Run all cells on this very interpreter, with `parameters` in place of the tagged cell's."""
    (cell,) = (c for c in code_cells(notebook) if "parameters" in c.metadata.get("tags", ()))
    names = [line.partition(" = ")[0] for line in cell.source.splitlines()]
    assert names == list(parameters)
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    # Without folders of kernels, `python3` is the interpreter that runs the tests.
    kernels = KernelSpecManager(kernel_dirs=[])
    NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_spec_manager=kernels),
        timeout=120,
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
    ).execute(cleanup_kc=True)


def read_card(settings):
    card = json.loads(open_store(settings).blend_path.read_text(encoding="utf-8"))
    assert card.pop("written")
    return card


def test_the_notebook_shows_its_pictures_and_writes_the_card_of_blend_py(
    toy, notebook, tmp_path, monkeypatch
):
    for folder in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(folder, str(tmp_path / folder))
    path = toy()
    settings = config.load(path, SETS)
    pipeline.train(settings)
    arguments = ["--config", path, "--set", *SETS, "--members", ",".join(MEMBERS)]
    subprocess.run([sys.executable, ROOT / "blend.py", *arguments], check=True, capture_output=True)
    expected = read_card(settings)
    assert list(expected["members"]) == MEMBERS
    open_store(settings).blend_path.unlink()

    execute(notebook, CONFIG=str(path), SETS=SETS, MEMBERS=MEMBERS)

    assert read_card(settings) == expected
    shown = {cell.id: cell.outputs for cell in code_cells(notebook)}
    outputs = [output for several in shown.values() for output in several]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if "Warning" in output.get("text", "")]
    pictures = {cell.id for cell in code_cells(notebook) if "plots." in cell.source}
    assert len(pictures) == 4
    for name in pictures:
        assert shown[name][-1].data.get("image/png"), name
    tables = {name for name, several in shown.items() if "<table" in json.dumps(several)}
    assert tables == {"member-scores", "blender-scores", "weights-by-fold"}
    assert expected["sentence"] in shown["sentence"][0].data["text/markdown"]


@pytest.mark.parametrize("folder", [".", "notebooks", "tests/pipeline"])
def test_the_notebook_finds_the_library_from_where_jupyter_starts(notebook, folder, monkeypatch):
    monkeypatch.chdir(ROOT / folder)
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    exec(code_cells(notebook)[0].source, {})
    assert sys.path == [str(ROOT / "src"), "elsewhere"]


def test_the_notebook_is_kept_without_outputs(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
