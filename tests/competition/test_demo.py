"""The demo competition: real text of this installation, the same on every run, and no giveaways."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score
from sklearn.naive_bayes import MultinomialNB

from poolblend.competition import demo
from poolblend.competition.demo import build_demo
from poolblend.errors import UserError

SOURCE = Path(demo.__file__).resolve().parents[2]
Tables = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def tables() -> Tables:
    return build_demo(720, 240)


@pytest.fixture(scope="module")
def rows(tables: Tables) -> pd.DataFrame:
    """Every row of train and test with its label, in the order of the ids."""
    test = tables["test"].merge(tables["test_labels"], on="id", validate="1:1")
    return pd.concat([tables["train"], test]).sort_values("id").reset_index(drop=True)


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small libraries, 'north' and 'south', in place of the installed ones."""
    monkeypatch.setattr(demo, "LIBRARIES", {"north": "north", "south": "south"})
    monkeypatch.setattr(demo, "_folder", lambda label: tmp_path / label)
    for label in demo.LIBRARIES:
        write(tmp_path / label / "core.py", *(prose(label, n) for n in range(6)))
    return tmp_path


def prose(label: str, n: int) -> str:
    words = " ".join(f"{label}{chr(97 + n)}{letter}" for letter in "abcdefghijkl")
    return f"The {words}."


def write(path: Path, *docstrings: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f'def f{n}():\n    """{text}"""\n' for n, text in enumerate(docstrings)),
        encoding="utf-8",
    )


def test_tables_have_the_sizes_asked_for_and_balanced_classes(tables: Tables) -> None:
    assert {name: (list(table), len(table)) for name, table in tables.items()} == {
        "train": (["id", "text", "library"], 720),
        "test": (["id", "text"], 240),
        "sample_submission": (["id", "library"], 240),
        "test_labels": (["id", "library"], 240),
    }
    for name in ("sample_submission", "test_labels"):
        assert list(tables[name]["id"]) == list(tables["test"]["id"])
    assert tables["sample_submission"]["library"].nunique() == 1
    for split, n in (("train", 120), ("test_labels", 40)):
        assert tables[split]["library"].value_counts().to_dict() == dict.fromkeys(demo.LIBRARIES, n)


def test_ids_and_their_order_say_nothing_of_classes_and_splits(
    tables: Tables, rows: pd.DataFrame
) -> None:
    assert list(rows["id"]) == [f"d{n:04d}" for n in range(1, len(rows) + 1)]
    assert tables["train"]["id"].is_monotonic_increasing
    assert tables["test"]["id"].is_monotonic_increasing
    place = pd.Series(range(len(rows))) / len(rows)
    for group in (rows["library"], rows["id"].isin(tables["test"]["id"])):
        assert place.groupby(group).mean().between(0.4, 0.6).all()


def test_texts_are_different_lines_of_prose_that_name_no_library(rows: pd.DataFrame) -> None:
    texts = rows["text"]
    assert texts.str.lower().str.replace(r"[^a-z]", "", regex=True).is_unique
    assert texts.map(lambda text: demo._keys(text)[1]).is_unique  # how they open
    assert texts.str.split().str.len().between(demo.FEWEST_WORDS, demo.MOST_WORDS).all()
    assert (texts == texts.str.split().str.join(" ")).all()
    assert not texts.str.contains(r"[`{}=<>\\|]|>>>|https?:|:\w+:`").any()
    names = r"torch|transformers|sklearn|scikit|pandas|scipy|numpy|python|hugging|\bnp\.|\bpd\."
    assert not texts.str.contains(names, case=False).any()


def test_every_library_is_read_across_many_modules(tmp_path: Path) -> None:
    write(tmp_path / "big.py", *(prose("big", n) for n in range(26)))
    write(tmp_path / "small.py", prose("small", 1))
    assert len(demo._candidates(tmp_path, 1000, 0)) == demo.PER_FILE + 1


def test_the_task_is_neither_trivial_nor_hopeless(tables: Tables) -> None:
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    train = vectorizer.fit_transform(tables["train"]["text"])
    model = MultinomialNB(alpha=0.1).fit(train, tables["train"]["library"])
    guessed = model.predict(vectorizer.transform(tables["test"]["text"]))
    assert 0.6 < accuracy_score(tables["test_labels"]["library"], guessed) < 0.9


SCRIPT = """
import sys
from poolblend.competition.demo import build_demo
before = {name.partition(".")[0] for name in sys.modules}
tables = build_demo(60, 12, 3)
new = {name.partition(".")[0] for name in sys.modules} - before
print(sorted(new & {"torch", "transformers", "sklearn", "scipy", "this", "turtle", "antigravity"}))
print({name: table.to_csv(index=False) for name, table in tables.items()})
"""


def test_same_tables_in_every_process_and_nothing_imported(tmp_path: Path) -> None:
    said = []
    for hash_seed, locale, folder in (("1", "C", tmp_path), ("2", "C.UTF-8", SOURCE)):
        env = os.environ | {"PYTHONHASHSEED": hash_seed, "LC_ALL": locale, "LANG": locale}
        run = subprocess.run(
            [sys.executable, "-W", "error::SyntaxWarning", "-c", SCRIPT],
            env=env | {"PYTHONPATH": str(SOURCE), "PYTHONUTF8": "0"},
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(run.stdout.splitlines())
    assert said[0] == said[1]
    assert said[0][0] == "[]"
    here = build_demo(60, 12, 3)
    assert said[0][1] == str({name: table.to_csv(index=False) for name, table in here.items()})


@pytest.mark.parametrize(
    ("docstring", "text"),
    [
        (
            "Fit a :class:`~torch.nn.Module` with PyTorch,\nas in `numpy.ndarray` or pd.DataFrame, "
            "and scikit-learn's rules.\n\nParameters\n----------\nx : int",
            "Fit a Module with LIB, as in ndarray or DataFrame, and LIB's rules.",
        ),
        (
            "Title\n=====\n\nSee the [guide](https://x.org) for how HF and 🤗 Transformers load\n"
            "what :func:`is_torch_available` allows here.\n\n    code(1)",
            "See the guide for how LIB and LIB load what LIB allows here.",
        ),
        ("Return *one* line of ``plain`` words without any of the markup around it:\n\n>>> x", ""),
        (
            "Return one sentence of words that is long enough to be kept. It equals the sum of\n"
            "\n.. math:: x",
            "Return one sentence of words that is long enough to be kept.",
        ),
        ("Keep this first sentence of a text as long as all of this. " + "More " * 40, None),
        ("Too short to say anything.", ""),
        ("Copyright of these words lies with people who wrote them years and years ago.", ""),
        ("A line with code: `x = {1: 2}` which reads like nothing that is English prose.", ""),
    ],
)
def test_markup_goes_and_names_are_masked(docstring: str, text: str | None) -> None:
    expected = (
        "Keep this first sentence of a text as long as all of this." if text is None else text
    )
    assert demo._prose(docstring) == expected


def test_text_of_two_libraries_is_in_neither(libraries: Path) -> None:
    shared = "Every one of the libraries says this in words that are the same everywhere."
    for label in ("north", "south"):
        write(libraries / label / "both.py", shared)
    tables = build_demo(8, 4)
    texts = [*tables["train"]["text"], *tables["test"]["text"]]
    assert len(texts) == 12
    assert shared not in texts


def test_train_and_test_come_from_the_same_modules(libraries: Path) -> None:
    for label in ("north", "south"):
        write(libraries / label / "more.py", *(prose(f"{label}more", n) for n in range(6)))
    tables = build_demo(12, 12)
    for split in ("train", "test"):
        assert 0 < tables[split]["text"].str.contains("more").sum() < 12


@pytest.mark.parametrize(
    "name",
    [
        "tests/a.py",
        "pkg/testing/a.py",
        "_vendor/a.py",
        "externals/a.py",
        "site-packages/a.py",
        "test_a.py",
        "conftest.py",
        "notes.txt",
    ],
)
def test_tests_and_copies_of_other_projects_are_not_read(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, prose("other", 1))
    assert demo._candidates(tmp_path, 10, 0) == []


def test_generated_broken_and_private_code_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "ours.py", prose("ours", 1))
    (tmp_path / "made.py").write_text(f'# Generated: do not edit\n"""{prose("made", 1)}"""\n')
    (tmp_path / "broken.py").write_text(f'"""{prose("broken", 1)}"""\ndef (\n')
    (tmp_path / "nul.py").write_bytes(b'"""' + prose("nul", 1).encode() + b'"""\0')
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "latin.py").write_bytes(b'"""\xe9"""\n')
    (tmp_path / "escape.py").write_text('pattern = "\\d"\n')  # which warns nobody
    (tmp_path / "private.py").write_text(f'def _f():\n    """{prose("private", 1)}"""\n')
    assert demo._candidates(tmp_path, 10, 0) == [prose("ours", 1)]


def test_too_little_text_is_refused_with_what_can_be_asked_for(libraries: Path) -> None:
    message = (
        rf"^the demo needs 10 docstrings of 'north' but {re.escape(str(libraries))}/north holds 6 "
        r"suitable ones: ask for at most 12 rows in all$"
    )
    with pytest.raises(UserError, match=message):
        build_demo(15, 5)


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo.LIBRARIES, "no-such-library", "no_such_library")
    with pytest.raises(UserError, match="needs the package 'no-such-library', which is not inst"):
        build_demo(60, 12)


@pytest.mark.parametrize(("train", "test"), [(5, 100), (100, 0), (-1, 6)])
def test_fewer_rows_than_libraries_are_refused(train: int, test: int) -> None:
    with pytest.raises(UserError, match=r"each needs at least 6, one per library$"):
        build_demo(train, test)
