"""The documents say what is so."""

import importlib
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))


def test_the_documents_tables_are_those_of_the_code():
    tables = runpy.run_path(str(ROOT / "docs" / "tables.py"))
    for page in tables["PAGES"]:
        text = page.read_text(encoding="utf-8")
        assert tables["filled"](text) == text, "run: make docs"
        assert re.search(r"<!-- (\w+) -->\n\n\S", text), page


def test_the_readme_is_short_and_leads_to_every_page():
    assert len(README.splitlines()) <= 150
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", README))
    others = {"docs/vectors.md"}  # which docs/training.md leads to
    assert linked | others == set(PAGES)


def test_every_function_in_the_life_of_a_row_is_where_the_page_says():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    life = page.partition("## The life of one row")[2].partition("From `train.py`")[0]
    names = re.findall(r"`(\w+\.\w+\.[\w.]+)`", life)
    assert len(names) > 30
    for name in names:
        room, module, *attributes = name.split(".")
        found = importlib.import_module(f"poolblend.{room}.{module}")
        parts = attributes
        if not hasattr(found, parts[0]):  # a module of a folder in the room
            found = importlib.import_module(f"poolblend.{room}.{module}.{parts[0]}")
            parts = parts[1:]
        for part in parts:
            assert hasattr(found, part), name
            found = getattr(found, part)


@pytest.mark.parametrize("document", ["README.md", *PAGES])
def test_every_file_a_document_links_to_is_there(document):
    path = ROOT / document
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_config_named_in_the_readme_is_shipped():
    listed = re.search(r"Ready configs[^:]*:(.*?)\.\n", README, flags=re.S)[1]
    shipped = {path.stem for path in (ROOT / "configs").glob("*.yaml")} - {"quickstart"}
    assert set(re.findall(r"`([\w-]+)`", listed)) == shipped


def test_the_readmes_example_config_is_valid(tmp_path):
    from poolblend import config

    example = re.search(r"```yaml\n(.*?)```", README, flags=re.S)[1]
    (tmp_path / "mine.yaml").write_text(example)
    members = config.load(tmp_path / "mine.yaml").resolve_members()
    assert [member.name for member in members][-1] == "roberta-base-mean_kmax-s42"


def test_the_example_pooler_passes_as_it_stands():
    import torch

    from poolblend.modeling.poolers import POOLERS, EncoderShape, Pooler, Tokens, masked
    from poolblend.registry import Registry

    page = (ROOT / "docs" / "poolers.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", page, flags=re.S)[1]
    names = {"torch": torch, "masked": masked, "Pooler": Pooler, "Tensor": torch.Tensor}
    names |= {"EncoderShape": EncoderShape, "Tokens": Tokens, "POOLERS": Registry("pooler")}
    exec(example, names)  # the document is ours
    hidden = torch.tensor([[[1.0, 4.0], [3.0, -2.0], [9.0, -9.0]]])
    mask = torch.tensor([[True, True, False]])
    pooler = names["MeanMin"](EncoderShape(2, 1, 10))
    pooled = pooler(Tokens((hidden,), mask, mask, mask.long()))
    assert pooled.tolist() == [[2.0, 1.0, 1.0, -2.0]]
    assert "mean_min" in names["POOLERS"]
    assert "mean_min" not in POOLERS
