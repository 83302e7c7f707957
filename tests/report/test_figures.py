"""The documents' pictures: drawn from a finished run, the same bytes each time, and small."""

import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LARGEST = 60_000  # bytes


@pytest.fixture
def figures(monkeypatch):
    """Runs docs/figures.py with these flags, in this process."""

    def run(*flags):
        monkeypatch.setattr("sys.argv", ["figures.py", *map(str, flags)])
        runpy.run_path(str(ROOT / "docs" / "figures.py"))["main"]()

    return run


def test_a_finished_run_is_drawn_with_the_same_bytes_each_time(finished, figures, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(finished.settings.model_dump(mode="json")))
    finished.train(poolers="max")  # one member alone would have no blend to show
    for folder in ("once", "again"):
        figures("--config", path, "--to", tmp_path / folder)
    once, again = (sorted((tmp_path / folder).iterdir()) for folder in ("once", "again"))
    assert [file.name for file in once] == ["blend.svg", "errors.svg"]
    assert [file.read_bytes() for file in once] == [file.read_bytes() for file in again]


def test_the_documents_pictures_are_small_and_hold_no_date():
    files = sorted((ROOT / "docs" / "figures").iterdir())
    study = [f"poolers-{name}.svg" for name in ("components", "curves", "errors", "order")]
    assert [file.name for file in files] == ["blend.svg", "errors.svg", *study]
    for file in files:
        svg = file.read_text(encoding="utf-8")
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert len(svg.encode()) < LARGEST
        assert "date>" not in svg
        assert "fill: #ffffff" in svg  # a background of its own, for dark pages
