"""The blend notebook: runs headless on toys, shows its pictures, becomes blend.py's report."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient.exceptions import CellExecutionError, DeadKernelError

from poolblend import config, pipeline
from poolblend.errors import UserError
from poolblend.loading.competition import open_store
from poolblend.report import notebook as running
from poolblend.report.notebook import to_html

ROOT = Path(__file__).parents[2]
SETS = ["blend.fitters=[convex,optuna]", "blend.trials=10", "blend.resamples=50"]
MEMBERS = ["tiny-mean-s42", "tiny-max-s42"]  # not in the store's order
ALERT = "<script>alert(1)</script>"
NOT_SHOWN = {"path", "imports", "parameters"}


@pytest.fixture
def notebook():
    return nbformat.read(running.NOTEBOOK, as_version=4)


@pytest.fixture
def outside(toy, tmp_path):
    """A toy competition whose members are its truth under noise: the config, and their folder."""

    def make(task, members=2, **columns):
        path = toy(task)
        table = tmp_path / "data" / "train.csv"
        train = pd.read_csv(table)
        train.assign(**columns).to_csv(table, index=False)
        folder = tmp_path / "members"
        folder.mkdir()
        for m in range(members):
            noise = np.random.default_rng(m).normal(0.3, 0.2, (len(train), 1)).clip(0, 0.8)
            told = train.drop(columns=["id", "text"]) * (1 - noise) + noise / 2
            told.assign(id=train["id"]).to_csv(folder / f"m{m}.csv", index=False)
        return {"CONFIG": str(path), "MEMBERS_FROM": str(folder)}

    return make


@pytest.fixture
def small_notebook(monkeypatch, tmp_path):
    """Puts a notebook of one line, beside the parameters, in the place of the real one."""

    def make(line):
        cells = [
            nbformat.v4.new_code_cell("X = 1", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(line),
        ]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "small.ipynb")
        monkeypatch.setattr(running, "NOTEBOOK", tmp_path / "small.ipynb")

    return make


def code_cells(notebook):
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}


def execute(**given):
    defaults = {"SETS": SETS, "MEMBERS": None, "MEMBERS_FROM": None, "MAKE_SUBMISSION": False}
    return running.execute(**defaults | given)


def pictures(notebook):
    """Numbers of PNG outputs by cell, of the cells that draw."""
    return {
        name: sum("image/png" in output.get("data", {}) for output in cell.outputs)
        for name, cell in code_cells(notebook).items()
        if "pictures." in cell.source and name != "weights-per-output"
    }


class Page(HTMLParser):
    """A page's tags, what they refer to, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.references, self.text = [], [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        loading = ("src", "href", "srcset", "data", "action", "poster", "background", "style")
        self.references += [value for name, value in attributes if name in loading]
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


def assert_self_contained(html):
    page = Page(html)
    assert not {"script", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    elsewhere = [r for r in page.references if not r.startswith(("data:", "#", "text-align"))]
    assert elsewhere == []
    assert not re.findall(r"url\(|@import", html)
    assert "default-src 'none'" in html
    return page


def read_card(settings):
    card = json.loads(open_store(settings).blend_path.read_text(encoding="utf-8"))
    assert card["provenance"].pop("written")
    assert card.pop("card_sha256")
    return card


def test_the_report_has_the_pictures_and_is_otherwise_what_blend_py_does(toy, tmp_path):
    path = toy()
    settings = config.load(path, SETS)
    pipeline.train(settings)
    printed = str(pipeline.blend(settings, members=MEMBERS))
    expected = read_card(settings)
    assert list(expected["members"]) == sorted(MEMBERS)
    store = open_store(settings)
    store.blend_path.unlink()

    sets = [word for item in SETS for word in ("--set", item)]
    arguments = ["--config", path.name, *sets, "--members", ",".join(MEMBERS), "--report"]
    done = subprocess.run(
        [sys.executable, ROOT / "blend.py", *arguments, "--quiet"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == printed + "\n"
    assert read_card(settings) == expected
    html = store.report_path.read_text(encoding="utf-8")
    page = assert_self_contained(html)
    assert "<title>The blend of toy</title>" in html
    assert page.tags.count("img") == 13
    assert expected["sentence"] in page.text
    assert "blend.py --report --config toy.yaml" in page.text
    assert "Warning" not in page.text
    figures = store.figures_folder
    assert len(list(figures.glob("*.png"))) == len(list(figures.glob("*.svg"))) == 13


def test_the_notebook_runs_with_weights_per_output_and_escapes_what_data_are_called(outside):
    columns = {ALERT: [ALERT, "'\" onerror=alert(1)"] * 30}
    sets = [*SETS, "blend.weights=per_output", "blend.fitter=optuna", f"blend.slices=['{ALERT}']"]
    shown = execute(**outside("regression", **columns), SETS=sets)
    drawn = pictures(shown)
    assert drawn.pop("history") == drawn.pop("importances") == drawn.pop("slices") == 2
    assert set(drawn.values()) == {1}
    assert "image/png" in code_cells(shown)["weights-per-output"].outputs[0].data
    page = assert_self_contained(to_html(shown, ALERT, ALERT))
    assert page.text.count(ALERT) >= 3


def test_the_notebook_runs_with_one_member_and_no_search(outside):
    shown = execute(**outside("binary", members=1), SETS=[*SETS, "blend={fitters: [greedy]}"])
    assert set(pictures(shown).values()) == {1}
    outputs = [output for cell in code_cells(shown).values() for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or "Warning" in o.get("text", "")]
    assert "nothing to blend" in code_cells(shown)["sentence"].outputs[0].text


def test_a_mistake_found_in_the_notebook_is_the_same_one_line_error(outside):
    given = outside("binary")
    with pytest.raises(UserError, match="unknown member 'm9'; .*known: m0, m1$") as caught:
        pipeline.write_report(
            given["CONFIG"], SETS, members=["m9"], members_from=given["MEMBERS_FROM"]
        )
    assert "\n" not in str(caught.value)
    assert not open_store(config.load(given["CONFIG"])).report_path.exists()


def test_a_bug_in_the_notebook_keeps_its_traceback(small_notebook):
    small_notebook("1 / 0")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        running.execute(X=2)


def test_the_notebook_runs_where_the_command_was_started_with_this_library(
    small_notebook, tmp_path, monkeypatch
):
    told = 'X, os.getcwd(), sys.executable, poolblend.__file__, os.environ["TQDM_DISABLE"]'
    small_notebook(f"import os, sys, poolblend; print({told}, sep='\\n')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TQDM_DISABLE")
    (output,) = running.execute(X="given").cells[1].outputs
    library = ROOT / "src" / "poolblend" / "__init__.py"
    assert output.text.splitlines() == ["given", str(tmp_path), sys.executable, str(library), "1"]


@pytest.fixture
def _interruptible():
    """Python's own answer to SIGINT, which a shell has its background jobs ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_ends_the_notebook_too(small_notebook, tmp_path):
    small_notebook("import os, time; open(X, 'w').write(str(os.getpid())); time.sleep(600)")
    started, main = tmp_path / "pid", threading.main_thread().ident

    def interrupt():
        while not (started.is_file() and started.read_text()):
            threading.Event().wait(0.02)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        running.execute(X=str(started))
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_a_config_that_is_wrong_is_refused_before_anything_starts(toy, monkeypatch):
    monkeypatch.setattr(running, "execute", pytest.fail)
    with pytest.raises(UserError, match="unknown key 'blend.trial'"):
        pipeline.write_report(str(toy()), ["blend.trial=3"])


def test_packages_that_are_missing_are_named_with_the_command(toy, monkeypatch):
    found = importlib.util.find_spec
    absent = {"nbconvert", "ipykernel"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in absent else found(name)
    )
    with pytest.raises(
        UserError, match=r"ipykernel, nbconvert; .* pip install ipykernel nbconvert"
    ):
        pipeline.write_report(str(toy()))


def test_a_kernel_ended_from_outside_is_said_in_one_line(monkeypatch):
    def die(notebook):
        raise DeadKernelError("Kernel died")

    monkeypatch.setattr(running, "_run", die)
    with pytest.raises(UserError, match="killed, often because memory"):
        running.execute(X=1)


@pytest.mark.parametrize("wanted", [True, False])
def test_the_last_cell_makes_the_submission_only_where_asked(notebook, wanted, capsys):
    *_, last = code_cells(notebook).values()
    fake = SimpleNamespace(infer=lambda settings: f"made of {settings}")
    exec(last.source, {"MAKE_SUBMISSION": wanted, "pipeline": fake, "settings": "toy"})
    assert capsys.readouterr().out == ("submission: made of toy\n" if wanted else "")


@pytest.mark.parametrize("folder", [".", "notebooks", "tests/pipeline"])
def test_the_notebook_finds_the_library_from_where_jupyter_starts(notebook, folder, monkeypatch):
    monkeypatch.chdir(ROOT / folder)
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    exec(code_cells(notebook)["path"].source, {})
    assert sys.path == [str(ROOT / "src"), "elsewhere"]


def test_the_notebook_is_kept_without_outputs_and_every_picture_is_described(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook).values():
        assert cell.outputs == []
        assert cell.execution_count is None
    assert all(code_cells(notebook)[name].metadata.alt for name in pictures(notebook))
    parameters = code_cells(notebook)["parameters"].source
    names = [line.partition(" = ")[0] for line in parameters.splitlines()]
    assert names == ["CONFIG", "SETS", "MEMBERS", "MEMBERS_FROM", "MAKE_SUBMISSION"]
