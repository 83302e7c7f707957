"""The quickstart's competition, made on this machine: which library is a docstring from?

Every installation holds real English text: the prose that opens the docstrings of its libraries.
It is read from their source files with `ast`; nothing is imported and nothing is downloaded.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import importlib.util
import os
import re
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from poolblend.errors import UserError

# Label -> the name it is imported under; None is the standard library.
LIBRARIES = {
    "pandas": "pandas",
    "python": None,
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "torch": "torch",
    "transformers": "transformers",
}

PER_FILE = 12  # no single module may dominate its class
FEWEST_WORDS, MOST_WORDS = 11, 36  # some 32 word pieces on average: training time grows with it
SPARE = 1.1  # texts read per text needed: some are dropped because two libraries share them

# A library's public face is read. Left out: private folders, tests, copies of other projects,
# and what not every distribution ships with its standard library.
_SKIPPED_FOLDERS = re.compile(
    r"_.*|.*tests?|testing|test_.*|vendor(ed)?|externals?|extern|third_party|.*generated.*"
    r"|(site|dist)-packages|pydoc_data|lib2to3|distutils|idlelib|tkinter|turtledemo"
)
_SKIPPED_FILES = re.compile(r"(test_.*|.*_test|conftest|testing.*|.*_pb2|.*generated.*)\.py")
_GENERATED = re.compile(rb"auto(matically |-|)generated|@generated|do not edit", re.IGNORECASE)

# Running text follows an underlined title or a signature, and ends where a section, a list, a
# table, a directive, a parameter, code or a session begins.
_TITLE = re.compile(r"\A\s*(?:[=~*-]{3,}\n)?.*\n[=~*-]{3,}[ \t]*\n|\A[\w.]+\(.*\).*\n")
_END = re.compile(
    r"^\s*(?:>>>|\.\. |[:@](?:param|arg|returns?|rtype|type|raises?|[ci]?var)\b|```"
    r"|[-*+•|{<#$]|\(?\d+[.)])"
    r"|^.*\n[-=~^*#]{3,}[ \t]*$"
    r"|^\s*(?:Parameters?|Arg(?:ument)?s?|Keyword\b.*|Returns?|Yields?|Raises|Examples?|Notes?|Usage"
    r"|See [Aa]lso|Attributes?|Warnings?|References?|Shape|Inputs?|Outputs?|Tips?)\b[^.\n]*:?$"
    r"|^\s*(?:Args?|Returns?|Raises|Examples?|Notes?|TODO|XXX|FIXME)[^.\n]{0,12}:"
    r"|^\s*\w+(?: ?\(.*(?:\) ?:|, optional)| : )"
    r"|\n[ \t]*\n[ \t]+\S",
    re.MULTILINE,
)
_MARKUP = [
    (re.compile(r":[\w:.+-]+:(?=`)"), ""),  # :role:`text`
    (re.compile(r"\[`([^`]*)`\]"), r"\1"),  # [`code`]
    (re.compile(r"\[([^\[\]]*)\]\([^()]*\)"), r"\1"),  # [text](address)
    (re.compile(r"`([^`<]*?)\s*<[^`>]*>`_*"), r"\1"),  # `text <address>`_
    (re.compile(r"`_*|\[[\w#]+\]_|</?\w[^<>]*>|(?:https?|ftp)://\S+|🤗|\(\s*\)"), ""),
    (re.compile(r"(?<!\w)\*{1,2}(\w[^*]*)\*{1,2}(?!\w)"), r"\1"),  # *emphasis*
    (re.compile(r"(?<!\w)[~!](?:\w+\.)*(?=\w)|\b(?:\w+::)+(?=\w)"), ""),  # ~path.to.name
    (re.compile(r"::"), ":"),
]
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_NOT_PROSE = re.compile(
    r"[\\{}=<>|$^#@]|%\(|\s\.(?!\w)|\.\.\.|copyright|licen[sc]e|deprecated", re.IGNORECASE
)

# The answer, also inside words ("PyTorch", "is_torch_available") and before dotted names.
MASK = "LIB"
_NAMES = r"python|torch|transformers|scikit|sklearn|pandas|scipy|numpy|hugging ?face"
_DOTTED = re.compile(rf"\b(?:\w*(?:{_NAMES})\w*|pd|np|sp|nn|hf)\.(?:\w+\.)*(?=\w)", re.IGNORECASE)
_NAMED = re.compile(rf"\b(?:[\w-]*(?:{_NAMES})[\w-]*|hf|hf_\w+|pd|np)\b", re.IGNORECASE)


def build_demo(
    train_rows: int = 2400, test_rows: int = 800, seed: int = 42
) -> dict[str, pd.DataFrame]:
    """Make the tables train, test, sample_submission and test_labels of the demo competition.

    The same library versions, sizes and seed give the same tables. In each split all classes have
    equally many rows, to within one. Raises UserError for a library that is absent or too small.
    """
    if min(train_rows, test_rows) < len(LIBRARIES):
        raise UserError(
            f"the demo cannot be made with {train_rows} train and {test_rows} test rows: "
            f"each needs at least {len(LIBRARIES)}, one per library"
        )
    total = train_rows + test_rows
    needed = -(-total // len(LIBRARIES))
    texts = _texts(needed, seed)
    labelled = [(texts[label][n], label) for n in range(needed) for label in LIBRARIES][:total]
    rows = [(*row, n < train_rows) for n, row in enumerate(labelled)]
    rows.sort(key=lambda row: _rank(seed, "id", row[0]))
    ids = [f"d{n:0{max(4, len(str(total)))}d}" for n in range(1, total + 1)]
    whole = pd.DataFrame(rows, columns=["text", "library", "in_train"]).assign(id=ids)
    train = whole[whole["in_train"]].reset_index(drop=True)
    test = whole[~whole["in_train"]].reset_index(drop=True)
    return {
        "train": train[["id", "text", "library"]],
        "test": test[["id", "text"]],
        "sample_submission": test[["id"]].assign(library=min(LIBRARIES)),
        "test_labels": test[["id", "library"]],
    }


def _texts(needed: int, seed: int) -> dict[str, list[str]]:
    """`needed` texts of every library in seeded order, none of which two libraries share."""
    folders = {label: _folder(label) for label in LIBRARIES}
    wanted = round(needed * SPARE) + 1
    with _no_garbage_collection():
        found = {label: _candidates(folder, wanted, seed) for label, folder in folders.items()}
    owners = Counter(key for pool in found.values() for text in pool for key in _keys(text))
    texts = {}
    for label, pool in found.items():
        own = [text for text in pool if all(owners[key] == 1 for key in _keys(text))]
        if len(own) < needed:
            raise UserError(
                f"the demo needs {needed} docstrings of '{label}' but {folders[label]} holds "
                f"{len(own)} suitable ones: ask for at most {len(own) * len(LIBRARIES)} rows in all"
            )
        # Test rows come from the same modules as train rows, just as folds of the train rows do.
        texts[label] = sorted(own[:needed], key=lambda text: _rank(seed, "split", text))
    return texts


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Syntax trees are many small objects without circles: looking for garbage takes a quarter."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _folder(label: str) -> Path:
    """Where a library's source lies, found without importing it."""
    name = LIBRARIES[label]
    if name is None:
        return Path(sysconfig.get_path("stdlib"))
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise UserError(
            f"the demo needs the package '{label}', which is not installed: "
            "run `pip install -r requirements.txt`"
        )
    return Path(spec.origin).parent


def _candidates(folder: Path, wanted: int, seed: int) -> list[str]:
    """Up to `wanted` different texts of one library, its files in seeded order."""
    texts: list[str] = []
    seen: set[str] = set()
    for name in sorted(_sources(folder), key=lambda name: _rank(seed, "file", name)):
        fresh = 0
        for docstring in sorted(_docstrings(folder / name), key=lambda d: _rank(seed, name, d)):
            text = _prose(docstring)
            if text and seen.isdisjoint(_keys(text)):
                texts.append(text)
                seen.update(_keys(text))
                fresh += 1
            if fresh == PER_FILE:
                break
        if len(texts) >= wanted:
            break
    return texts[:wanted]


def _sources(folder: Path) -> Iterator[str]:
    """Relative POSIX paths of a library's own modules, in any order."""
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _SKIPPED_FOLDERS.fullmatch(name)]
        for file in files:
            if file.endswith(".py") and not _SKIPPED_FILES.fullmatch(file):
                yield Path(at, file).relative_to(folder).as_posix()


def _docstrings(path: Path) -> list[str]:
    """The docstrings of a module; none where it is generated or cannot be read."""
    try:
        source = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes in other people's code
            tree = ast.parse("" if _GENERATED.search(source[:2000]) else source)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    return [docstring for docstring in _public(tree) if docstring]


def _public(node: ast.Module | ast.ClassDef) -> Iterator[str | None]:
    """Docstrings of a module or class, of its public functions, and of its classes likewise."""
    yield ast.get_docstring(node)
    for inner in node.body:
        if isinstance(inner, ast.ClassDef):  # a private one passes its methods on to public ones
            yield from _public(inner)
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name[0] != "_":
            yield ast.get_docstring(inner)


def _prose(docstring: str) -> str:
    """The prose at the start of a docstring, masked and on one line; "" if it is unsuitable."""
    text = _TITLE.sub("", docstring)
    end = _END.search(text)
    text = text[: end.start()] if end else text
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    text = _NAMED.sub(MASK, _DOTTED.sub("", " ".join(text.split())))
    sentences = [sentence for sentence in _SENTENCE.split(text) if "User Guide" not in sentence]
    while sentences and (
        len(" ".join(sentences).split()) > MOST_WORDS
        or sentences[-1].endswith(":")
        or (len(sentences) > 1 and sentences[-1][-1] not in ".!?")  # its formula was left behind
    ):
        sentences.pop()
    text = " ".join(sentences)
    letters = sum(character.isalpha() or character == " " for character in text)
    suitable = (
        len(text.split()) >= FEWEST_WORDS
        and letters >= 0.9 * len(text)
        and text.isascii()
        and not _NOT_PROSE.search(text)
    )
    return text if suitable else ""


def _keys(text: str) -> tuple[str, str]:
    """Keys that equal texts share: all letters, and the opening words without names.

    The second catches docstrings that are copied from model to model with another name put in.
    """
    letters = re.sub(r"[^a-z]+", "", text.lower())
    opening = re.findall(r"(?<![\w.])[a-z]+(?!\w)", text)[:6]
    return letters, " ".join(opening)


def _rank(*parts: object) -> bytes:
    """A sort key for a pseudo-random order that is the same on every machine."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
